//! Checkpoints: everything that is not ignored is in them, the session notices nothing, and an idle one costs nothing.

use drover_domain::session::Removal;

use super::strangers::plant;
use super::*;

/// Everything that a session's own git works with, byte for byte, with the times of its index.
fn own(yard: &Yard, site: &Site) -> String {
    let admin = git(&site.path, &["rev-parse", "--absolute-git-dir"]);
    let meta = fs::metadata(Path::new(&admin).join("index")).unwrap();
    let stamp = format!("{:?} {}", meta.modified().unwrap(), std::os::unix::fs::MetadataExt::ino(&meta));
    let stash = git(&yard.repo, &["for-each-ref", "refs/stash", "refs/heads"]);
    format!("{:?}\n{stamp}\n{stash}\n{:?}", contents(Path::new(&admin)), contents(&site.path))
}

fn objects(yard: &Yard) -> String {
    git(&yard.repo, &["count-objects", "-v"])
}

fn checkpoints(yard: &Yard, site: &Site) -> Vec<String> {
    let names = git(&yard.repo, &["for-each-ref", "--format=%(refname)", &site.wip_prefix()]);
    names.lines().map(str::to_owned).collect()
}

/// A bit of everything that a checkpoint is for.
fn work_in(site: &Site) {
    let at = |name: &str| site.path.join(name);
    write(&at("README"), "staged\n");
    git(&site.path, &["add", "README"]);
    write(&at("README"), "staged, then changed\r\n");
    fs::remove_file(at("src/a.txt")).unwrap();
    write(&at("src/a.txt/now a directory"), "x");
    write(&at("new\n\"file\""), [0, 255, b'\n']);
    write(&at("local.env"), "SECRET=1");
    write(&at("run.sh"), "#!/bin/sh\n");
    fs::set_permissions(at("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
    git(&site.path, &["init", "-q", "nested"]);
    write(&at("nested/inner"), "inner");
    git(&at("nested"), &["add", "-A"]);
    git(&at("nested"), &["commit", "-qm", "only here"]);
    write(&at("nested/inner"), "inner, changed");
}

#[tokio::test]
async fn a_checkpoint_has_everything_but_ignored_files_and_the_session_notices_nothing() {
    let yard = Yard::new();
    let site = yard.site(1);
    assert_eq!(yard.spaces.checkpoint(&site).await.unwrap(), None);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("README"), "put aside");
    git(&site.path, &["stash"]);
    work_in(&site);
    let log = plant(&yard);
    let admin = yard.common().join("worktrees/s1");
    write(&admin.join("index.lock"), "a git of the session's that runs");
    let before = own(&yard, &site);
    let made = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    assert_eq!(own(&yard, &site), before);
    assert_eq!(fs::read_to_string(&log).unwrap(), "", "nothing of the repository's ran");

    let mut files = contents(&site.path);
    files.retain(|path, _| path != Path::new(".git") && path != Path::new("local.env"));
    assert_eq!(saved(&yard.repo, &made.commit), files);
    let listing = git(&yard.repo, &["ls-tree", "-r", &format!("{}^2", made.commit)]);
    let staged = git(&site.path, &["ls-files", "-s", "README"])[7..47].to_owned();
    assert!(listing.contains(&format!("staged/{staged}")) && listing.contains("admin/index"), "{listing}");
    assert_eq!(git(&yard.repo, &["rev-parse", &format!("{}^1", made.commit)]), site.base);
    assert_eq!(checkpoints(&yard, &site), [made.reference]);
    git(&yard.repo, &["fsck", "--strict"]);
}

#[tokio::test]
async fn a_checkpoint_of_what_did_not_change_writes_nothing() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    let clean = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    assert_eq!(clean.commit, site.base, "a clean workspace needs no commit of its own");
    work_in(&site);
    let first = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    let before = (objects(&yard), checkpoints(&yard, &site));
    // Another agent's start remembers nothing.
    assert_eq!(spaces().checkpoint(&site).await.unwrap().unwrap(), first);
    assert_eq!((objects(&yard), checkpoints(&yard, &site)), before);
    write(&site.path.join("nested/inner"), "inner, CHANGED");
    let second = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    assert_ne!(second, first);
    git(&site.path, &["add", "run.sh"]);
    let third = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    assert_ne!(third, second, "what is staged counts");
}

#[tokio::test]
async fn the_last_five_checkpoints_are_kept_and_none_survives_the_session() {
    let yard = Yard::new();
    let before = yard.picture();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    let mut made = Vec::new();
    for number in 0..7 {
        write(&site.path.join("new"), format!("{number}"));
        made.push(yard.spaces.checkpoint(&site).await.unwrap().unwrap().reference);
    }
    assert_eq!(checkpoints(&yard, &site), made[2..]);
    // Killed between the writing and the naming.
    git(&yard.repo, &["update-ref", &format!("{}new", site.wip_prefix()), "HEAD"]);
    write(&site.path.join("new"), "once more");
    let last = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    assert_eq!(saved(&yard.repo, &last.commit)[Path::new("new")].1, b"once more");
    assert_eq!(checkpoints(&yard, &site), [&made[3..], &[last.reference]].concat());
    let kept = yard.spaces.remove(&site, Removal::default()).await.unwrap();
    assert_eq!(checkpoints(&yard, &site), Vec::<String>::new());
    git(&yard.repo, &["update-ref", "-d", &kept.trash[0]]);
    assert_eq!(yard.picture(), before);
}

#[tokio::test]
async fn a_checkpoint_keeps_commits_that_are_on_no_branch() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    git(&site.path, &["checkout", "-q", "--detach"]);
    git(&site.path, &["commit", "-q", "--allow-empty", "-m", "left behind"]);
    let left = git(&site.path, &["rev-parse", "HEAD"]);
    assert_eq!(yard.spaces.checkpoint(&site).await.unwrap().unwrap().commit, left);
    git(&site.path, &["checkout", "-q", &site.branch]);
    let made = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    git(&yard.repo, &["merge-base", "--is-ancestor", &left, &made.commit]);
}

#[tokio::test]
async fn a_tracked_name_that_looks_escaped_is_not_mistaken_for_another() {
    let yard = Yard::new();
    write(&yard.repo.join(".gitmodules~drover"), "theirs\n");
    git(&yard.repo, &["add", "-A"]);
    git(&yard.repo, &["commit", "-qm", "odd"]);
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("new"), "x");
    let made = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    let mut files = contents(&site.path);
    files.remove(Path::new(".git"));
    assert_eq!(saved(&yard.repo, &made.commit), files);
}
