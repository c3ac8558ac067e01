//! Workspaces whose directories somebody deleted: what their last checkpoint had is in the trash, and comes back as it was.

use drover_domain::session::Removal;

use super::restoring::put_beside;
use super::trash::items;
use super::*;

const PLAIN: Removal = Removal { keep_branch: false, force_branch: false };

/// A session with a checkpoint, and what was in its workspace then.
async fn saved_session(yard: &Yard) -> (Site, BTreeMap<PathBuf, (char, Vec<u8>)>) {
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    let at = |name: &str| site.path.join(name);
    write(&at("committed"), "1");
    git(&site.path, &["add", "-A"]);
    git(&site.path, &["commit", "-qm", "one"]);
    write(&at("README"), "staged");
    git(&site.path, &["add", "README"]);
    write(&at("README"), "staged, then changed\r\n");
    fs::remove_file(at("src/a.txt")).unwrap();
    write(&at("new/\u{1f411}"), [0, 255, b'\n']);
    write(&at("run.sh"), "#!/bin/sh\n");
    fs::set_permissions(at("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
    write(&at("older"), "only in the first");
    yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    fs::remove_file(at("older")).unwrap();
    yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    let mut files = contents(&site.path);
    files.remove(Path::new(".git"));
    (site, files)
}

#[tokio::test]
async fn the_last_checkpoint_of_a_workspace_that_is_gone_comes_back_to_the_byte() {
    let yard = Yard::new();
    let (site, files) = saved_session(&yard).await;
    let status = git(&site.path, &["status", "--porcelain"]);
    let tip = git(&site.path, &["rev-parse", "HEAD"]);
    fs::remove_dir_all(&site.path).unwrap();
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(kept.trash.len(), 1, "{kept:?}");
    assert_eq!(git(&yard.repo, &["for-each-ref", "refs/drover/wip"]), "");
    git(&yard.repo, &["gc", "-q", "--prune=now"]);
    git(&yard.repo, &["fsck", "--strict"]);

    let [item] = &items(&yard).await[..] else { panic!("one item") };
    assert_eq!(item.id, site.mark.session.to_string());
    assert_eq!(item.record.tip.as_ref(), Some(&tip));
    assert_eq!(item.record.files, 4);
    let shown = yard.spaces.show(item, 99).await.unwrap();
    assert_eq!(shown.count, u64::try_from(files.len()).unwrap());
    let directory = yard.dir.path().join("back");
    put_beside(&yard, item, &directory, "back").await.unwrap();
    assert!(contents(&directory) == files);
    let mode = fs::metadata(directory.join("run.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let other = Site { base: item.record.base.clone(), ..yard.site(2) };
    yard.spaces.make_branch(&other, true).await.unwrap();
    yard.spaces.make_worktree(&other).await.unwrap();
    yard.spaces.restore_into(&other, item).await.unwrap();
    let mut there = contents(&other.path);
    there.remove(Path::new(".git"));
    assert!(there == files);
    assert_eq!(git(&other.path, &["status", "--porcelain"]), status);
    assert_eq!(git(&other.path, &["rev-parse", "HEAD"]), tip);
}

#[tokio::test]
async fn it_is_saved_once_also_if_the_removal_is_killed_and_its_entry_is_gone_too() {
    let yard = Yard::new();
    let (site, _) = saved_session(&yard).await;
    fs::remove_dir_all(&site.path).unwrap();
    fs::remove_dir_all(yard.common().join("worktrees/s1")).unwrap();
    let (_, look) = yard.spaces.look_now(&site, PLAIN).await.unwrap();
    let first = yard.spaces.save_vanished(&site, &look).await.unwrap();
    assert_eq!(yard.spaces.save_vanished(&site, &look).await.unwrap(), first);
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(kept.trash.len(), 1, "{kept:?}");
    assert_eq!(yard.spaces.remove(&site, PLAIN).await.unwrap().trash, kept.trash);
}

#[tokio::test]
async fn a_checkpoint_that_was_only_a_commit_is_saved_if_nothing_else_leads_to_it() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    git(&site.path, &["checkout", "-q", "--detach"]);
    write(&site.path.join("new"), "committed on no branch");
    git(&site.path, &["add", "-A"]);
    git(&site.path, &["commit", "-qm", "left behind"]);
    let made = yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    fs::remove_dir_all(&site.path).unwrap();
    fs::remove_dir_all(yard.common().join("worktrees/s1")).unwrap();
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(kept.trash.len(), 1, "{kept:?}");
    git(&yard.repo, &["gc", "-q", "--prune=now"]);
    git(&yard.repo, &["merge-base", "--is-ancestor", &made.commit, &kept.trash[0]]);
    let [item] = &items(&yard).await[..] else { panic!("one item") };
    let other = Site { base: item.record.base.clone(), ..yard.site(2) };
    yard.spaces.make_branch(&other, true).await.unwrap();
    yard.spaces.make_worktree(&other).await.unwrap();
    yard.spaces.restore_into(&other, item).await.unwrap();
    assert_eq!(fs::read(other.path.join("new")).unwrap(), b"committed on no branch");

    let site = yard.site(3);
    yard.spaces.create(&site).await.unwrap();
    yard.spaces.checkpoint(&site).await.unwrap().unwrap();
    fs::remove_dir_all(&site.path).unwrap();
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert!(kept.trash.is_empty(), "nothing was only there: {kept:?}");
}

#[tokio::test]
async fn a_workspace_that_the_removal_itself_put_away_is_not_saved_twice() {
    let yard = Yard::new();
    let (site, _) = saved_session(&yard).await;
    let (work, mut look) = yard.spaces.look_now(&site, PLAIN).await.unwrap();
    yard.spaces.save(&site, &work, &mut look).await.unwrap();
    yard.spaces.put_away(&site).await.unwrap();
    let kept = yard.spaces.remove(&site, PLAIN).await.unwrap();
    assert_eq!(kept.trash.len(), 1, "{kept:?}");
}
