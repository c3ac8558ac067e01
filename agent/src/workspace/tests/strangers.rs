//! What is not ours: other people's things in the repository, odd repositories, planted programs, remotes.

use std::os::unix::fs::chown;

use bytes::Bytes;
use drover_domain::repository::Url;
use drover_domain::session::{FaultCode, Kept, Removal};

use super::*;
use crate::git::mirror::Mirrors;
use crate::git::read::{Origin, open, resolve};
use crate::git::runner::Account;
use crate::workspace::diff::Detail;

#[tokio::test]
async fn other_peoples_worktrees_branches_and_locks_are_untouched() {
    let yard = Yard::new();
    let outside = yard.dir.path().join("outside");
    git(&yard.repo, &["worktree", "add", "-q", "-b", "drover/mine", outside.join("s1").to_str().unwrap()]);
    git(&yard.repo, &["worktree", "lock", "--reason", "on a stick", outside.join("s1").to_str().unwrap()]);
    git(&yard.repo, &["worktree", "add", "-q", "-b", "drover/gone", outside.join("gone").to_str().unwrap()]);
    fs::remove_dir_all(outside.join("gone")).unwrap();
    let other = yard.site(7);
    let mut theirs = other.clone();
    theirs.mark.node = "othernode".into();
    yard.spaces.create(&theirs).await.unwrap();
    write(&yard.common().join("index.lock"), "somebody's");
    write(&yard.common().join("worktrees/gone/index.lock"), "somebody's");
    let before = yard.picture();

    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    yard.spaces.remove(&site, Removal { keep_branch: false, force_branch: true }).await.unwrap();
    // The same session name at another node's path: its mark is not ours.
    assert_eq!(yard.spaces.make_worktree(&other).await.unwrap_err().code(), FaultCode::PathTaken);
    assert_eq!(yard.picture(), before);
    assert_eq!(fs::read_to_string(yard.common().join("index.lock")).unwrap(), "somebody's");
    assert!(theirs.path.join("README").exists());
}

#[tokio::test]
async fn odd_repositories_are_taken_or_refused_with_what_is_odd_about_them() {
    let yard = Yard::new();
    let spaces = &yard.spaces;
    let at = |name: &str| yard.dir.path().join(name);
    git(yard.dir.path(), &["init", "-q", "--object-format=sha256", "sha256"]);
    git(yard.dir.path(), &["init", "-q", "--ref-format=reftable", "reftable"]);
    for name in ["sha256", "reftable"] {
        let failure = open(spaces.git(), &at(name), None).await.unwrap_err();
        assert_eq!(failure.code(), FaultCode::RepositoryUnsupported, "{failure}");
        assert!(failure.to_string().contains(name), "{failure}");
    }
    fs::create_dir(at("plain")).unwrap();
    assert_eq!(open(spaces.git(), &at("plain"), None).await.unwrap_err().code(), FaultCode::NotARepository);
    assert_eq!(open(spaces.git(), &at("absent"), None).await.unwrap_err().code(), FaultCode::PathGone);

    git(&yard.repo, &["config", "uploadpack.allowFilter", "true"]);
    git(yard.dir.path(), &["clone", "-q", "--bare", "repo", "bare"]);
    let url = format!("file://{}", yard.repo.display());
    git(yard.dir.path(), &["clone", "-q", "--depth=1", &url, "shallow"]);
    git(yard.dir.path(), &["clone", "-q", "--filter=blob:none", "--no-checkout", &url, "partial"]);
    for (number, name) in [(1, "bare"), (2, "shallow"), (3, "partial")] {
        let opened = open(spaces.git(), &at(name), None).await.unwrap();
        assert_eq!((opened.is_bare, opened.is_shallow), (name == "bare", name == "shallow"));
        assert_eq!(opened.is_partial, name == "partial");
        let base = resolve(&opened.common, None, Origin::Path).unwrap().commit;
        let site = Site { common: opened.common, base, ..yard.site(number) };
        spaces.create(&site).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert_eq!(fs::read_to_string(site.path.join("README")).unwrap(), "hello\n", "{name}");
        assert_eq!(spaces.remove(&site, Removal::default()).await.unwrap(), Kept::default(), "{name}");
    }
}

#[tokio::test]
async fn a_sparse_repositorys_absent_files_are_no_work() {
    let yard = Yard::new();
    git(&yard.repo, &["sparse-checkout", "set", "src"]);
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    assert_eq!(yard.spaces.remove(&site, Removal::default()).await.unwrap(), Kept::default());
}

#[tokio::test]
async fn a_base_is_found_by_branch_tag_or_commit_and_a_missing_one_is_named() {
    let yard = Yard::new();
    let first = git(&yard.repo, &["rev-parse", "HEAD"]);
    git(&yard.repo, &["tag", "-a", "v1", "-m", "v1"]);
    git(&yard.repo, &["checkout", "-q", "-b", "topic"]);
    git(&yard.repo, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let second = git(&yard.repo, &["rev-parse", "HEAD"]);
    let base = |name: Option<&str>| resolve(&yard.common(), name, Origin::Path).map(|base| base.commit);
    assert_eq!(base(None).unwrap(), second);
    assert_eq!(base(Some("main")).unwrap(), first);
    assert_eq!(base(Some("v1")).unwrap(), first);
    assert_eq!(base(Some(&first[..10])).unwrap(), first);
    for missing in ["nowhere", "deadbeef", "HEAD~9", "refs/heads/x"] {
        let failure = base(Some(missing)).unwrap_err();
        assert_eq!(failure.code(), FaultCode::BaseMissing);
        assert!(failure.to_string().contains(missing), "{failure}");
    }
    git(yard.dir.path(), &["init", "-q", "empty"]);
    let empty = resolve(&yard.dir.path().join("empty/.git"), None, Origin::Path).unwrap_err();
    assert_eq!(empty.code(), FaultCode::BaseMissing);
}

/// Programs in every place that a repository can name one, each of which writes down who ran it.
pub(super) fn plant(yard: &Yard) -> PathBuf {
    let log = yard.dir.path().join("ran");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let script =
        |name: &str| format!("echo {name} $(id -u) >> {}; env >> {}.env; cat", log.display(), log.display());
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-commit"] {
        let path = yard.common().join("hooks").join(hook);
        write(&path, format!("#!/bin/sh\n{}\n", script(hook)));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (key, name) in [
        ("filter.x.clean", "clean"),
        ("filter.x.smudge", "smudge"),
        ("core.fsmonitor", "fsmonitor"),
        ("diff.x.textconv", "textconv"),
        ("diff.x.command", "diff"),
        ("core.pager", "pager"),
        ("core.editor", "editor"),
        ("alias.worktree", "alias"),
    ] {
        let mark = if name == "alias" { "!" } else { "" };
        git(&yard.repo, &["config", key, &format!("{mark}{}", script(name))]);
    }
    write(&yard.common().join("info/attributes"), "* filter=x diff=x\n");
    log
}

async fn use_everything(yard: &Yard, site: &Site) {
    yard.spaces.create(site).await.unwrap();
    write(&site.path.join("README"), "changed");
    write(&site.path.join("new"), "new");
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(100);
    yard.spaces.diff(site, Detail::Patch, &sender).await.unwrap();
    assert!(receiver.try_recv().is_ok());
    let kept = yard.spaces.remove(site, Removal { keep_branch: false, force_branch: true }).await.unwrap();
    assert_eq!(saved(&yard.repo, &kept.trash[0])[Path::new("README")], ('f', b"changed".to_vec()));
}

#[tokio::test]
async fn planted_programs_do_not_run_but_for_the_smudge_filter_of_a_checkout() {
    let yard = Yard::new();
    let log = plant(&yard);
    use_everything(&yard, &yard.site(1)).await;
    let ran = fs::read_to_string(&log).unwrap();
    assert!(ran.contains("smudge") && ran.lines().all(|line| line.starts_with("smudge ")), "{ran}");
    let seen = fs::read_to_string(log.with_extension("env")).unwrap();
    assert!(!seen.contains("CARGO"), "the filter saw the agent's environment: {seen}");
}

#[tokio::test]
async fn with_a_user_of_its_own_nothing_of_the_repository_runs_as_the_agent() {
    if !rustix::process::geteuid().is_root() {
        // Only root can run anything as somebody else; the rest of the path is the test above.
        return;
    }
    let yard = Yard::new();
    let log = plant(&yard);
    let site = yard.site(1);
    let nobody = Account { name: "nobody".into(), uid: 65534, gid: 65534, home: "/nonexistent".into() };
    fs::set_permissions(yard.dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let refused = open(yard.spaces.git(), &yard.repo, Some(&nobody)).await.unwrap_err();
    assert_eq!(refused.code(), FaultCode::PermissionDenied, "{refused}");
    give(&yard.repo, &nobody);
    write(&log.with_extension("env"), "");
    fs::set_permissions(log.with_extension("env"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::create_dir_all(&yard.root).unwrap();
    fs::set_permissions(yard.root.parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();

    let refused = open(yard.spaces.git(), &yard.repo, None).await.unwrap_err();
    assert!(refused.hint().contains("--run-as"), "{refused}");
    open(yard.spaces.git(), &yard.repo, Some(&nobody)).await.unwrap();
    let site = Site { run_as: Some(nobody), ..site };
    yard.spaces.create(&site).await.unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(site.path.join("README")).unwrap()), 65534);
    write(&site.path.join("new"), "new");
    let kept = yard.spaces.remove(&site, Removal::default()).await.unwrap();
    assert_eq!(kept.trash.len(), 1);
    let ran = fs::read_to_string(&log).unwrap();
    assert!(!ran.is_empty() && ran.lines().all(|line| line == "smudge 65534"), "{ran}");
    let pack = fs::read_dir(yard.common().join("objects/pack")).unwrap().next().unwrap().unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&pack.metadata().unwrap()), 65534);
}

pub(super) fn give(path: &Path, who: &Account) {
    chown(path, Some(who.uid), Some(who.gid)).unwrap();
    if path.is_dir() {
        for item in fs::read_dir(path).unwrap() {
            give(&item.unwrap().path(), who);
        }
    }
}

#[tokio::test]
async fn a_url_is_copied_once_kept_up_to_date_and_never_loses_our_branches() {
    let yard = Yard::new();
    git(&yard.repo, &["branch", "topic"]);
    git(&yard.repo, &["tag", "v1"]);
    let url = Url::new(&format!("file://{}", yard.repo.display())).unwrap();
    let root = yard.dir.path().join("state/repositories");
    let mirrors =
        Mirrors { root: root.clone(), git: yard.spaces.git().clone(), locks: yard.spaces.locks().clone() };
    let (one, two) = tokio::join!(mirrors.fetch(&url, None), mirrors.fetch(&url, None));
    let common = one.unwrap();
    assert_eq!(common, two.unwrap());
    let base = |name| resolve(&common, name, Origin::Mirror).map(|base| base.commit);
    assert_eq!(base(None).unwrap(), base(Some("topic")).unwrap());
    assert_eq!(base(Some("v1")).unwrap(), base(Some("origin/main")).unwrap());

    let site = Site { common: common.clone(), base: base(None).unwrap(), ..yard.site(1) };
    yard.spaces.create(&site).await.unwrap();
    git(&yard.repo, &["branch", "-D", "topic"]);
    git(&yard.repo, &["checkout", "-q", "-b", "next"]);
    git(&yard.repo, &["commit", "-q", "--allow-empty", "-m", "second"]);
    mirrors.fetch(&url, None).await.unwrap();
    assert_eq!(base(None).unwrap(), git(&yard.repo, &["rev-parse", "next"]));
    assert_eq!(base(Some("topic")).unwrap_err().code(), FaultCode::BaseMissing);
    assert_eq!(git(&site.path, &["rev-parse", &site.branch]), site.base);

    let absent = Url::new("file:///nowhere/at/all").unwrap();
    assert_eq!(mirrors.fetch(&absent, None).await.unwrap_err().code(), FaultCode::NotARepository);
    assert!(!mirrors.path(&absent, None).unwrap().exists());
}

#[tokio::test]
async fn a_diff_shows_committed_uncommitted_and_untracked_work_and_leaves_the_index_alone() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("committed"), "1\n");
    git(&site.path, &["add", "-A"]);
    git(&site.path, &["commit", "-qm", "one"]);
    write(&site.path.join("README"), "changed\n");
    write(&site.path.join("un\ntracked"), "new\n");
    let before = git(&site.path, &["status", "--porcelain"]);
    let text = |detail| {
        let (spaces, site) = (yard.spaces.clone(), site.clone());
        async move {
            let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
            let read = async {
                let mut text = Vec::new();
                while let Some(piece) = receiver.recv().await {
                    text.extend_from_slice(&piece);
                }
                String::from_utf8(text).unwrap()
            };
            let send = async move { spaces.diff(&site, detail, &sender).await.unwrap() };
            tokio::join!(read, send).0
        }
    };
    let patch = text(Detail::Patch).await;
    for part in ["+1\n", "-hello\n+changed\n", "+new\n"] {
        assert!(patch.contains(part), "{patch}");
    }
    assert!(text(Detail::Stat).await.contains("3 files changed"));
    assert_eq!(git(&site.path, &["status", "--porcelain"]), before);
    let names: Vec<_> = fs::read_dir(&yard.root).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(names, ["default"]);
}
