//! Removal: no work is lost, whatever kind it is; and what becomes of the branch.

use drover_domain::session::{FaultCode, Removal};

use super::*;
use crate::workspace::work::BranchFate;

const PLAIN: Removal = Removal { keep_branch: false, force_branch: false };

#[tokio::test]
async fn all_work_comes_back_byte_for_byte() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    let at = |name: &str| site.path.join(name);
    write(&at("README"), "changed\r\n");
    fs::remove_file(at("src/a.txt")).unwrap();
    write(&at("new/deep/file"), [0, 159, 146, 150, b'\n']);
    write(&at("local.env"), "SECRET=1");
    write(&at("run.sh"), "#!/bin/sh\n");
    fs::set_permissions(at("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    write(&at("empty"), "");
    for name in
        ["sp ace", "new\nline", "quo\"te\\", "-dash", "ümlaut", ".gitmodules~drover", "x~drover", "git~1"]
    {
        write(&at(name), name);
    }
    write(&site.path.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), "bytes");
    std::os::unix::fs::symlink("../outside/\u{1f411}", at("link")).unwrap();
    std::os::unix::fs::symlink("/etc", at("dirlink")).unwrap();
    git(&site.path, &["init", "-q", "nested"]);
    write(&at("nested/inner"), "inner");
    git(&at("nested"), &["add", "-A"]);
    git(&at("nested"), &["commit", "-qm", "only here"]);
    write(&at("target/big.o"), vec![7; 100_000]);
    let mut before = contents(&site.path);
    before.retain(|path, _| !path.starts_with("target") && path != Path::new(".git"));

    let work = yard.spaces.look(&site, PLAIN).await.unwrap();
    assert!(work.is_unsaved());
    assert_eq!((work.ignored.count, work.regenerable.count, work.regenerable.bytes), (1, 1, 100_000));
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert!(!site.path.exists());
    assert_eq!(kept.trash.len(), 1, "{kept:?}");
    assert_eq!(kept.branch, None);
    assert!(kept.reasons.iter().any(|reason| reason.contains("target/")), "{kept:?}");
    let saved = saved(&yard.repo, &kept.trash[0]);
    for (path, content) in &before {
        assert_eq!(saved.get(path), Some(content), "{path:?}");
    }
    assert_eq!(saved.len(), before.len());
    git(&yard.repo, &["fsck", "--strict"]);
}

#[tokio::test]
async fn what_is_only_staged_stashed_or_told_to_be_overlooked_is_not_lost() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("README"), "staged only");
    git(&site.path, &["add", "README"]);
    write(&site.path.join("README"), "hello\n");
    let staged = git(&site.path, &["ls-files", "-s", "README"])[7..47].to_owned();
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    let listing = git(&yard.repo, &["ls-tree", "-r", &format!("{}^2", kept.trash[0])]);
    assert!(listing.contains(&format!("staged/{staged}")) && listing.contains("admin/index"), "{listing}");

    let site = yard.site(2);
    yard.spaces.create(&site).await.unwrap();
    git(&site.path, &["update-index", "--assume-unchanged", "README"]);
    write(&site.path.join("README"), "overlooked");
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(saved(&yard.repo, &kept.trash[0])[Path::new("README")], ('f', b"overlooked".to_vec()));
}

#[tokio::test]
async fn what_is_written_while_it_is_removed_is_not_lost() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("early"), "saved with the rest");
    let (work, mut look) = yard.spaces.look_now(&site, PLAIN).await.unwrap();
    yard.spaces.save(&site, &work, &mut look).await.unwrap();
    // Compared already, not renamed yet; then by somebody who had it open or stands in it.
    write(&site.path.join("README"), "written late");
    let inside = fs::File::open(&site.path).unwrap();
    yard.spaces.put_away(&site).await.unwrap();
    let inside = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inside)));
    write(&inside.join("new/file"), "written later still");
    assert_eq!(yard.spaces.delete_put_away(&yard.root).await.unwrap(), 0, "it is not given up yet");
    yard.spaces.let_go(&site, Some(&look)).await.unwrap();
    yard.spaces.drop_branch(&site, PLAIN).await.unwrap();
    assert_eq!(yard.spaces.delete_put_away(&yard.root).await.unwrap(), 1);
    let trash = git(&yard.repo, &["for-each-ref", "--format=%(refname)", &site.trash_prefix()]);
    let late: BTreeMap<_, _> = trash.lines().skip(1).flat_map(|name| saved(&yard.repo, name)).collect();
    assert_eq!(late[Path::new("README")], ('f', b"written late".to_vec()), "{trash}");
    assert_eq!(late[Path::new("new/file")], ('f', b"written later still".to_vec()), "{trash}");
    assert!(!late.contains_key(Path::new("src/a.txt")), "what nobody touched is not saved again");
}

#[tokio::test]
async fn commits_on_no_branch_are_kept_alive() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    git(&site.path, &["checkout", "-q", "--detach"]);
    git(&site.path, &["commit", "-q", "--allow-empty", "-m", "left behind"]);
    let left = git(&site.path, &["rev-parse", "HEAD"]);
    git(&site.path, &["checkout", "-q", &site.branch]);
    let work = yard.spaces.look(&site, PLAIN).await.unwrap();
    assert_eq!(work.detached, std::slice::from_ref(&left));
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    git(&yard.repo, &["gc", "-q", "--prune=now"]);
    git(&yard.repo, &["merge-base", "--is-ancestor", &left, &kept.trash[0]]);
}

#[tokio::test]
async fn commits_that_only_the_worktree_itself_names_are_kept_alive() {
    let yard = Yard::new();
    git(&yard.repo, &["checkout", "-q", "-b", "other"]);
    write(&yard.repo.join("src/a.txt"), "theirs\n");
    git(&yard.repo, &["commit", "-qam", "theirs"]);
    git(&yard.repo, &["checkout", "-q", "main"]);
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("src/a.txt"), "ours\n");
    git(&site.path, &["commit", "-qam", "ours"]);
    let own = git(&site.path, &["commit-tree", "-m", "own", "HEAD^{tree}"]);
    git(&site.path, &["update-ref", "refs/worktree/mine", &own]);
    write(&site.path.join("README"), "put aside\n");
    let rebase = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.org", "rebase", "--autostash", "other"])
        .current_dir(&site.path)
        .output()
        .unwrap();
    assert!(!rebase.status.success(), "it stops at the conflict");
    let aside = git(&site.path, &["rev-parse", "--git-path", "rebase-merge/autostash"]);
    let aside = fs::read_to_string(site.path.join(aside)).unwrap().trim().to_owned();
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    git(&yard.repo, &["reflog", "expire", "--expire=now", "--all"]);
    git(&yard.repo, &["gc", "-q", "--prune=now"]);
    for commit in [&own, &aside] {
        git(&yard.repo, &["merge-base", "--is-ancestor", commit, &kept.trash[0]]);
    }
    assert_eq!(git(&yard.repo, &["show", &format!("{aside}:README")]), "put aside");
}

#[tokio::test]
async fn only_what_is_ignored_under_a_regenerable_name_of_its_own_is_not_saved() {
    let yard = Yard::new();
    write(&yard.repo.join("deploy/target/config"), "tracked");
    write(&yard.repo.join(".gitignore"), "/target/\nvenv\n.cache\nnode_modules\nlocal.env\n");
    git(&yard.repo, &["add", "-A"]);
    git(&yard.repo, &["commit", "-qm", "a tracked directory of that name"]);
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("deploy/target/local.env"), "SECRET=1");
    write(&site.path.join("target/debug/a.o"), "again");
    write(&site.path.join("venv/lib"), "again");
    write(&site.path.join("docs/.cache"), "a file");
    std::os::unix::fs::symlink("elsewhere", site.path.join("node_modules")).unwrap();
    git(&site.path.join("venv"), &["init", "-q", "theirs"]);
    git(&site.path.join("venv/theirs"), &["commit", "-q", "--allow-empty", "-m", "only here"]);
    let work = yard.spaces.look(&site, PLAIN).await.unwrap();
    let gone: Vec<_> = work.regenerable.items.iter().map(|item| item.path.as_str()).collect();
    assert_eq!(gone, ["target/"]);
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    let saved = saved(&yard.repo, &kept.trash[0]);
    for path in
        ["deploy/target/local.env", "venv/lib", "venv/theirs/.git/HEAD", "docs/.cache", "node_modules"]
    {
        assert!(saved.contains_key(Path::new(path)), "{path}");
    }
    assert!(!saved.contains_key(Path::new("target/debug/a.o")));
}

#[tokio::test]
async fn a_repository_in_the_pointers_place_is_saved_too() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    fs::remove_file(site.path.join(".git")).unwrap();
    git(&site.path, &["init", "-q", "."]);
    git(&site.path, &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    let before = contents(&site.path);
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(saved(&yard.repo, &kept.trash[0]), before);
}

#[tokio::test]
async fn a_workspace_whose_entry_was_pruned_is_saved_whole() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("work"), "x");
    fs::remove_dir_all(yard.common().join("worktrees")).unwrap();
    let before = contents(&site.path);
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(saved(&yard.repo, &kept.trash[0]), before);
}

#[tokio::test]
async fn what_cannot_be_read_stops_the_removal_before_anything_goes() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    let mut deep = site.path.clone();
    for _ in 0..420 {
        deep.push("d");
    }
    write(&deep.join("f"), "x");
    let failure = yard.spaces.remove(&site, PLAIN).await.unwrap_err();
    assert_eq!(failure.code(), FaultCode::WorkNotSaveable, "{failure}");
    assert!(deep.join("f").exists());
    assert_eq!(git(&yard.repo, &["for-each-ref", "refs/drover/trash"]), "");
}

#[tokio::test]
async fn a_removal_that_was_killed_goes_on_where_it_was() {
    for stage in 0..4 {
        let yard = Yard::new();
        let before = yard.picture();
        let site = yard.site(1);
        yard.spaces.create(&site).await.unwrap();
        write(&site.path.join("new"), "work");
        let (work, mut look) = yard.spaces.look_now(&site, PLAIN).await.unwrap();
        yard.spaces.save(&site, &work, &mut look).await.unwrap();
        if stage >= 1 {
            fs::rename(&site.path, yard.root.join(format!(".trash-{}", site.mark.session))).unwrap();
        }
        if stage == 2 {
            fs::remove_file(yard.common().join("worktrees/s1/gitdir")).unwrap();
        }
        if stage == 3 {
            yard.spaces.put_away(&site).await.unwrap();
        }
        let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
        assert_eq!(kept.trash.len(), 1, "stage {stage}: {kept:?}");
        let again = yard.spaces.remove(&site, PLAIN).await.unwrap();
        assert_eq!(again.trash, kept.trash, "stage {stage}");
        git(&yard.repo, &["update-ref", "-d", &kept.trash[0]]);
        assert_eq!(yard.picture(), before, "stage {stage}");
        yard.spaces.delete_put_away(&yard.root).await.unwrap();
        assert_eq!(fs::read_dir(&yard.root).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn the_branch_meets_the_fate_that_the_preview_told() {
    let force = Removal { keep_branch: false, force_branch: true };
    let keep = Removal { keep_branch: true, force_branch: true };
    type Act = fn(&Yard, &Site);
    let nothing: Act = |_, _| {};
    let commit: Act = |_, site| drop(git(&site.path, &["commit", "-q", "--allow-empty", "-m", "work"]));
    let merge: Act = |yard, site| {
        git(&site.path, &["commit", "-q", "--allow-empty", "-m", "work"]);
        git(&yard.repo, &["merge", "-q", "--no-ff", "-m", "merged", &site.branch]);
    };
    let push: Act = |yard, site| {
        git(&site.path, &["commit", "-q", "--allow-empty", "-m", "work"]);
        git(&yard.repo, &["update-ref", "refs/remotes/origin/x", &site.branch]);
        git(&yard.repo, &["config", &format!("branch.{}.remote", site.branch), "origin"]);
    };
    let table = [
        (nothing, PLAIN, BranchFate::DeletedAtBase),
        (nothing, keep, BranchFate::KeptAsAsked),
        (commit, PLAIN, BranchFate::KeptUnmerged { commits: 1 }),
        (commit, force, BranchFate::DeletedSaved { commits: 1 }),
        (commit, keep, BranchFate::KeptAsAsked),
        (merge, PLAIN, BranchFate::DeletedMerged),
        (push, PLAIN, BranchFate::DeletedMerged),
    ];
    for (act, removal, fate) in table {
        let yard = Yard::new();
        let site = yard.site(1);
        yard.spaces.create(&site).await.unwrap();
        act(&yard, &site);
        let tip = git(&site.path, &["rev-parse", "HEAD"]);
        let work = yard.spaces.look(&site, removal).await.unwrap();
        assert_eq!(work.branch, fate);
        assert!(!work.is_unsaved(), "{work:?}");
        let kept = yard.spaces.remove(&site, removal).await.unwrap();
        let there = !git(&yard.repo, &["for-each-ref", &site.branch_reference()]).is_empty();
        assert_eq!((there, kept.branch.is_some()), (fate.keeps(), fate.keeps()), "{fate:?}");
        if matches!(fate, BranchFate::DeletedSaved { .. }) {
            assert_eq!(git(&yard.repo, &["rev-parse", &format!("{}^1", kept.trash[0])]), tip);
        }
        // What stays only for now stays known as Drover's.
        let has_base = !git(&yard.repo, &["for-each-ref", "refs/drover/base"]).is_empty();
        assert_eq!(has_base, matches!(fate, BranchFate::KeptUnmerged { .. }), "{fate:?}");
        assert!(!fs::read_to_string(yard.common().join("config")).unwrap().contains("drover/"));
    }
}

#[tokio::test]
async fn a_branch_that_was_left_goes_once_it_is_merged_and_no_sooner() {
    let yard = Yard::new();
    let before = yard.picture();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    git(&site.path, &["commit", "-q", "--allow-empty", "-m", "work"]);
    yard.spaces.remove(&site, PLAIN).await.unwrap();
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(kept.branch.as_deref(), Some(site.branch.as_str()));
    git(&yard.repo, &["checkout", "-q", &site.branch]);
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert!(kept.reasons[0].contains("checked out at"), "{kept:?}");
    git(&yard.repo, &["checkout", "-q", "main"]);
    git(&yard.repo, &["update-ref", "refs/remotes/origin/x", &site.branch]);
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(kept.branch, None);
    git(&yard.repo, &["update-ref", "-d", "refs/remotes/origin/x"]);
    assert_eq!(yard.picture(), before);
}

#[tokio::test]
async fn a_session_that_another_agent_has_here_too_keeps_its_branch_and_its_references() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    git(&yard.repo, &["update-ref", &format!("{}1", site.wip_prefix()), "HEAD"]);
    let theirs = yard.dir.path().join("theirs").to_string_lossy().into_owned();
    git(&yard.repo, &["worktree", "add", "-q", "--detach", &theirs]);
    let mark = Mark { node: "node9".into(), ..site.mark.clone() };
    git(&yard.repo, &["worktree", "lock", "--reason", &mark.reason(), &theirs]);
    let references = git(&yard.repo, &["for-each-ref"]);
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert!(!site.path.exists());
    assert!(kept.reasons[0].contains("checked out at"), "{kept:?}");
    assert_eq!(git(&yard.repo, &["for-each-ref"]), references);
}
