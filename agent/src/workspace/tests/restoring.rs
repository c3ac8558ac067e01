//! Restoring: what a directory of its own gets, what is refused, and what a kill leaves. That everything comes back
//! into a worktree is the promise's own test.

use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

use drover_domain::session::{FaultCode, Removal};

use super::trash::items;
use super::*;
use crate::git::failure::Failure;
use crate::git::runner::Account;
use crate::workspace::{Aside, TrashItem};

const FORCE: Removal = Removal { keep_branch: false, force_branch: true };

/// A session with a commit and files of all kinds, removed; and what was in it.
async fn removed(yard: &Yard) -> (TrashItem, BTreeMap<PathBuf, (char, Vec<u8>)>) {
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    let at = |name: &str| site.path.join(name);
    write(&at("committed"), "1");
    git(&site.path, &["add", "-A"]);
    git(&site.path, &["commit", "-qm", "one"]);
    write(&at("README"), "changed");
    write(&at("local.env"), "SECRET=1");
    write(&at("large"), vec![b'y'; 17 * 1024 * 1024]);
    for number in 0..40 {
        write(&at(&format!("many/{number}")), format!("{number}"));
    }
    symlink("/etc/passwd", at("link")).unwrap();
    git(&site.path, &["init", "-q", "nested"]);
    let mut files = contents(&site.path);
    files.remove(Path::new(".git"));
    yard.spaces.remove(&site, FORCE).await.unwrap();
    let [item] = &items(yard).await[..] else { panic!("one item") };
    (item.clone(), files)
}

/// All pieces of it, one after the other.
pub(super) async fn put_beside(
    yard: &Yard,
    item: &TrashItem,
    directory: &Path,
    branch: &str,
) -> Result<(), Failure> {
    let mut aside = yard.spaces.plan_aside(item, directory, branch, "tag").await?;
    go_on(yard, item, &mut aside).await
}

async fn go_on(yard: &Yard, item: &TrashItem, aside: &mut Aside) -> Result<(), Failure> {
    if !yard.spaces.is_placed(aside) {
        yard.spaces.fill_aside(item, aside).await?;
    }
    yard.spaces.make_aside_branch(aside).await?;
    yard.spaces.place_aside(aside).await
}

#[tokio::test]
async fn a_directory_gets_the_files_and_a_branch_the_commits_and_nothing_is_overwritten() {
    let yard = Yard::new();
    let (item, files) = removed(&yard).await;
    let directory = yard.dir.path().join("back");
    git(&yard.repo, &["branch", "back", "main"]);
    let failure = put_beside(&yard, &item, &directory, "back").await.unwrap_err();
    assert_eq!(failure.code(), FaultCode::BranchTaken, "{failure}");
    git(&yard.repo, &["branch", "-D", "back"]);
    write(&directory.join("mine"), "x");
    let failure = put_beside(&yard, &item, &directory, "back").await.unwrap_err();
    assert_eq!(failure.code(), FaultCode::PathTaken, "{failure}");
    assert_eq!(git(&yard.repo, &["branch", "--list", "back"]), "", "nothing is made half");
    assert_eq!(contents(&directory).len(), 1);
    fs::remove_file(directory.join("mine")).unwrap();
    for _ in 0..2 {
        put_beside(&yard, &item, &directory, "back").await.unwrap();
        assert!(contents(&directory) == files);
        assert_eq!(git(&yard.repo, &["rev-parse", "back"]), *item.record.tip.as_ref().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_killed_at_any_moment_goes_on() {
    let yard = Yard::new();
    let (item, files) = removed(&yard).await;
    let site = Site { base: item.record.base.clone(), ..yard.site(2) };
    yard.spaces.make_branch(&site, true).await.unwrap();
    yard.spaces.make_worktree(&site).await.unwrap();
    let directory = yard.dir.path().join("back");
    let mut aside = yard.spaces.plan_aside(&item, &directory, "back", "tag").await.unwrap();
    for moment in (0..30_u64).map(|number| Duration::from_millis(number * number / 2)) {
        let _ = tokio::time::timeout(moment, yard.spaces.restore_into(&site, &item)).await;
        let _ = tokio::time::timeout(moment, go_on(&yard, &item, &mut aside)).await;
    }
    go_on(&yard, &item, &mut aside).await.unwrap();
    assert!(contents(&directory) == files);
    for _ in 0..2 {
        yard.spaces.restore_into(&site, &item).await.unwrap();
        let mut there = contents(&site.path);
        there.remove(Path::new(".git"));
        assert!(there == files);
    }
    assert_eq!(git(&site.path, &["rev-parse", "HEAD"]), *item.record.tip.as_ref().unwrap());
    write(&site.path.join("README"), "the session's own");
    assert_eq!(yard.spaces.restore_into(&site, &item).await.unwrap_err().code(), FaultCode::PathTaken);
    assert_eq!(fs::read(site.path.join("README")).unwrap(), b"the session's own");
    let names = fs::read_dir(yard.dir.path()).unwrap().map(|item| item.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("restoring")));
}

#[tokio::test]
async fn a_saved_tree_that_somebody_made_up_writes_nothing_outside() {
    let yard = Yard::new();
    let (item, _) = removed(&yard).await;
    let outside = yard.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    // A link, then a file behind it: no tree of a file system has both.
    let blob = |text: &str| {
        let file = yard.dir.path().join("blob");
        write(&file, text);
        git(&yard.repo, &["hash-object", "-w", file.to_str().unwrap()])
    };
    let (link, file) = (blob(outside.to_str().unwrap()), blob("pwned"));
    let forge = |files: &str| {
        let listing = yard.dir.path().join("listing");
        write(&listing, files);
        let words = "git mktree --missing < \"$0\"";
        let made = Command::new("sh")
            .args(["-c", words, listing.to_str().unwrap()])
            .current_dir(&yard.repo)
            .output();
        String::from_utf8(made.unwrap().stdout).unwrap().trim().to_owned()
    };
    let inner = forge(&format!("100644 blob {file}\tfile\n"));
    let mut commits = Vec::new();
    for name in ["link", ".."] {
        let files = format!("120000 blob {link}\tlink\n040000 tree {inner}\t{name}\n");
        let parents = git(&yard.repo, &["rev-parse", &format!("{}^@", item.parts[0].commit)]);
        let tree = forge(&files);
        let mut words = vec!["commit-tree", "-m", "x", &tree];
        words.extend(parents.lines().flat_map(|parent| ["-p", parent]));
        commits.push(git(&yard.repo, &words));
    }
    for (number, commit) in commits.into_iter().enumerate() {
        let mut item = item.clone();
        item.parts.truncate(1);
        item.parts[0].commit = commit;
        let directory = yard.dir.path().join(format!("back{number}"));
        let _ = put_beside(&yard, &item, &directory, "back").await;
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!yard.dir.path().join("file").exists());
    }
}

#[tokio::test]
async fn with_a_user_the_files_are_his_and_go_only_where_he_may_write() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give anything to somebody else.
        return;
    }
    let yard = Yard::new();
    let (item, files) = removed(&yard).await;
    fs::set_permissions(yard.dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    super::strangers::give(&yard.repo, &nobody());
    let (his, roots) = (yard.dir.path().join("his"), yard.dir.path().join("roots"));
    for directory in [&his, &roots] {
        fs::create_dir(directory).unwrap();
    }
    super::strangers::give(&his, &nobody());
    let target = roots.join("back");
    let failure = put_beside(&yard, &item, &target, "back").await.unwrap_err();
    assert_eq!(failure.code(), FaultCode::PermissionDenied, "{failure}");
    assert_eq!(fs::read_dir(&roots).unwrap().count(), 0);
    let target = his.join("back");
    put_beside(&yard, &item, &target, "back").await.unwrap();
    assert!(contents(&target) == files);
    for path in files.keys().map(|path| target.join(path)).chain([target.join("many"), target.clone()]) {
        assert_eq!(path.symlink_metadata().unwrap().uid(), 65534, "{}", path.display());
    }
}

#[tokio::test]
async fn what_is_taken_back_is_gone_and_what_is_anybodys_stays() {
    let yard = Yard::new();
    let (item, files) = removed(&yard).await;
    let directory = yard.dir.path().join("back");
    let before = names(&yard);
    let branch = || git(&yard.repo, &["branch", "--list", "back"]);
    for is_used in [false, true] {
        let mut aside = yard.spaces.plan_aside(&item, &directory, "back", "tag").await.unwrap();
        yard.spaces.plan_aside_branch(&mut aside).unwrap();
        yard.spaces.fill_aside(&item, &mut aside).await.unwrap();
        yard.spaces.make_aside_branch(&aside).await.unwrap();
        // Somebody is quicker.
        write(&directory.join("mine"), "x");
        let failure = yard.spaces.place_aside(&aside).await.unwrap_err();
        assert_eq!(failure.code(), FaultCode::PathTaken, "{failure}");
        if is_used {
            git(&yard.repo, &["symbolic-ref", "HEAD", "refs/heads/back"]);
        }
        for _ in 0..2 {
            yard.spaces.unmake_aside_branch(&aside).await.unwrap();
            yard.spaces.unfill_aside(&aside).await.unwrap();
        }
        assert_eq!(branch().is_empty(), !is_used);
        assert_eq!(fs::read(directory.join("mine")).unwrap(), b"x");
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(names(&yard), before);
    }
    // It was there before, so it is not taken back.
    let mut aside = yard.spaces.plan_aside(&item, &directory, "back", "tag").await.unwrap();
    go_on(&yard, &item, &mut aside).await.unwrap();
    git(&yard.repo, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    assert!(!aside.is_branch_new);
    yard.spaces.unmake_aside_branch(&aside).await.unwrap();
    yard.spaces.unfill_aside(&aside).await.unwrap();
    assert!(!branch().is_empty() && contents(&directory) == files);
    // What has its name by now is somebody's.
    write(&aside.beside.join("theirs"), "x");
    yard.spaces.unfill_aside(&aside).await.unwrap_err();
    assert!(aside.beside.join("theirs").exists());
}

/// What lies beside the repository.
fn names(yard: &Yard) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        fs::read_dir(yard.dir.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    names
}

fn nobody() -> Account {
    Account { name: "nobody".into(), uid: 65534, gid: 65534, home: "/nonexistent".into() }
}
