//! Creation: the way it goes, the crowd, and what a kill leaves.

use std::time::Duration;

use drover_domain::presence::Presence;
use drover_domain::session::{FaultCode, Kept, Removal};

use super::*;
use crate::git::lock::FILE;
use crate::git::worktrees;
use crate::workspace::Stage;

#[tokio::test]
async fn a_workspace_is_made_bears_its_mark_and_leaves_nothing_behind() {
    let yard = Yard::new();
    let before = yard.picture();
    let site = yard.site(1);
    assert_eq!(yard.spaces.probe_worktree(&site).await, Presence::Absent);
    yard.spaces.create(&site).await.unwrap();

    assert_eq!(fs::read_to_string(site.path.join("src/a.txt")).unwrap(), "a\n");
    assert_eq!(git(&site.path, &["status", "--porcelain", "--branch"]), "## drover/s1");
    let listing = git(&yard.repo, &["worktree", "list", "--porcelain"]);
    assert!(listing.contains(&format!("locked {}", site.mark.reason())), "{listing}");
    assert_eq!(yard.spaces.probe_worktree(&site).await, Presence::Present(Stage::CheckedOut));

    assert_eq!(yard.spaces.remove(&site, Removal::default()).await.unwrap(), Kept::default());
    assert_eq!(yard.spaces.probe_worktree(&site).await, Presence::Absent);
    assert_eq!(yard.picture(), before);
    assert_eq!(yard.spaces.delete_put_away(&yard.root).await.unwrap(), 1);
    assert_eq!(fs::read_dir(&yard.root).unwrap().count(), 0);
}

#[tokio::test]
async fn making_it_again_changes_nothing_in_it() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("README"), "changed");
    yard.spaces.create(&site).await.unwrap();
    assert_eq!(fs::read_to_string(site.path.join("README")).unwrap(), "changed");

    let mut newer = site.clone();
    newer.mark.fence.epoch = 2;
    yard.spaces.create(&newer).await.unwrap();
    assert!(git(&yard.repo, &["worktree", "list", "--porcelain"]).contains(&newer.mark.reason()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_from_two_agents_all_succeed() {
    let yard = Yard::new();
    let before = yard.picture();
    let agents = [spaces(), spaces()];
    let sites: Vec<_> = (0..200).map(|number| yard.site(number)).collect();
    let work = sites.iter().zip(agents.iter().cycle()).map(|(site, spaces)| spaces.create(site));
    for result in futures::future::join_all(work).await {
        result.unwrap();
    }
    assert_eq!(worktrees::entries(&yard.common()).unwrap().len(), 200);
    let work =
        sites.iter().zip(agents.iter().cycle()).map(|(site, spaces)| spaces.remove(site, Removal::default()));
    for result in futures::future::join_all(work).await {
        assert_eq!(result.unwrap(), Kept::default());
    }
    assert_eq!(yard.picture(), before);
}

#[tokio::test]
async fn every_half_made_state_is_made_whole() {
    type Plant = fn(&Yard, &Site);
    let table: [(&str, Plant); 10] = [
        ("references only", |yard, site| references(yard, site)),
        ("an entry without content", |yard, site| {
            references(yard, site);
            fs::create_dir_all(yard.common().join("worktrees/s1")).unwrap();
        }),
        ("an entry with an empty lock", |yard, site| {
            references(yard, site);
            write(&yard.common().join("worktrees/s1/locked"), "");
        }),
        ("an entry with its lock only", |yard, site| {
            references(yard, site);
            write(&yard.common().join("worktrees/s1/locked"), site.mark.reason());
        }),
        ("locked: initializing, at our path", |yard, site| {
            references(yard, site);
            let admin = yard.common().join("worktrees/s1");
            write(&admin.join("locked"), "initializing");
            write(&admin.join("gitdir"), format!("{}/.git\n", site.path.display()));
            write(&admin.join("HEAD"), "");
        }),
        ("an entry without its directory", |yard, site| {
            add(yard, site);
            fs::remove_dir_all(&site.path).unwrap();
        }),
        ("a directory without its entry", |yard, site| {
            add(yard, site);
            fs::remove_dir_all(yard.common().join("worktrees")).unwrap();
        }),
        ("registered, not checked out", |yard, site| add(yard, site)),
        ("half checked out, with the index's lock", |yard, site| {
            add(yard, site);
            write(&yard.common().join("worktrees/s1/index.lock"), "DIRC");
            write(&site.path.join("README"), "hel");
        }),
        ("locks of a killed git of ours", |yard, site| {
            write(
                &yard.common().join(FILE),
                format!("0\nprocess 1\npacked-refs.lock\nrefs/heads/{}.lock\n", site.branch),
            );
            write(&yard.common().join("packed-refs.lock"), "");
            write(&yard.common().join(format!("refs/heads/{}.lock", site.branch)), "");
        }),
    ];
    for (name, plant) in table {
        let yard = Yard::new();
        let before = yard.picture();
        let site = yard.site(1);
        plant(&yard, &site);
        yard.spaces.create(&site).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert_eq!(git(&site.path, &["status", "--porcelain", "--branch"]), "## drover/s1", "{name}");
        assert_eq!(yard.spaces.remove(&site, Removal::default()).await.unwrap(), Kept::default(), "{name}");
        assert_eq!(yard.picture(), before, "{name}");

        plant(&yard, &site);
        yard.spaces.undo(&site).await.unwrap_or_else(|failure| panic!("undo of {name}: {failure}"));
        assert_eq!(yard.picture(), before, "undo of {name}");
    }
}

fn references(yard: &Yard, site: &Site) {
    git(&yard.repo, &["update-ref", &site.base_reference(), &site.base]);
    git(&yard.repo, &["update-ref", &site.branch_reference(), &site.base]);
}

fn add(yard: &Yard, site: &Site) {
    references(yard, site);
    let (path, reason) = (site.path.to_str().unwrap(), site.mark.reason());
    git(
        &yard.repo,
        &["worktree", "add", "-q", "--no-checkout", "--lock", "--reason", &reason, path, &site.branch],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_killed_at_any_moment_is_made_whole_or_taken_back() {
    let yard = Yard::new();
    let before = yard.picture();
    for number in 0..60 {
        let site = yard.site(number);
        // Dropping the call kills its git, as the death of the agent's machine would.
        let moment = Duration::from_micros(u64::from(number) * 200);
        let _ = tokio::time::timeout(moment, yard.spaces.create(&site)).await;
        if number % 3 == 0 {
            yard.spaces.undo(&site).await.unwrap();
        } else {
            yard.spaces
                .create(&site)
                .await
                .unwrap_or_else(|failure| panic!("killed at {moment:?}: {failure}"));
            assert_eq!(git(&site.path, &["status", "--porcelain"]), "", "killed at {moment:?}");
            assert_eq!(yard.spaces.remove(&site, Removal::default()).await.unwrap(), Kept::default());
        }
        assert_eq!(yard.picture(), before, "killed at {moment:?}");
    }
}

#[tokio::test]
async fn a_branch_is_adopted_only_if_it_is_ours_by_ledger_and_mark_and_at_its_base() {
    let yard = Yard::new();
    let site = yard.site(1);
    references(&yard, &site);
    assert_eq!(yard.spaces.make_branch(&site, false).await.unwrap_err().code(), FaultCode::BranchTaken);
    yard.spaces.make_branch(&site, true).await.unwrap();

    git(&yard.repo, &["commit", "--allow-empty", "-qm", "second"]);
    git(&yard.repo, &["update-ref", &site.branch_reference(), "HEAD"]);
    assert_eq!(yard.spaces.make_branch(&site, true).await.unwrap_err().code(), FaultCode::BranchTaken);

    git(&yard.repo, &["update-ref", &site.branch_reference(), &site.base]);
    git(&yard.repo, &["update-ref", "-d", &site.base_reference()]);
    let failure = yard.spaces.make_branch(&site, true).await.unwrap_err();
    assert_eq!(failure.code(), FaultCode::BranchTaken);
    assert_eq!(git(&yard.repo, &["rev-parse", &site.branch]), site.base);
}

#[tokio::test]
async fn a_branch_in_the_way_is_said_with_its_place_and_left_alone() {
    let yard = Yard::new();
    let site = yard.site(1);
    git(&yard.repo, &["branch", "drover"]);
    let failure = yard.spaces.create(&site).await.unwrap_err();
    assert_eq!(failure.code(), FaultCode::BranchTaken, "{failure}");
    yard.spaces.undo(&site).await.unwrap();
    git(&yard.repo, &["branch", "-D", "drover"]);

    let theirs = yard.dir.path().join("theirs");
    git(&yard.repo, &["worktree", "add", "-q", "-b", &site.branch, theirs.to_str().unwrap()]);
    let before = yard.picture();
    let failure = yard.spaces.create(&site).await.unwrap_err();
    assert!(failure.to_string().contains("theirs"), "{failure}");
    let kept = yard.spaces.undo(&site).await.unwrap();
    assert_eq!(kept.branch.as_deref(), Some("drover/s1"));
    assert_eq!(yard.picture(), before);
}

#[tokio::test]
async fn a_path_that_leads_out_of_the_root_or_holds_files_is_refused() {
    let yard = Yard::new();
    let site = yard.site(1);
    let outside = yard.dir.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&yard.root).unwrap();
    std::os::unix::fs::symlink(&outside, yard.root.join("default")).unwrap();
    assert_eq!(yard.spaces.create(&site).await.unwrap_err().code(), FaultCode::PathTaken);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    fs::remove_file(yard.root.join("default")).unwrap();

    let mut away = yard.site(2);
    away.path = yard.root.join("../elsewhere");
    assert_eq!(yard.spaces.create(&away).await.unwrap_err().code(), FaultCode::PathTaken);

    write(&site.path.join("precious"), "x");
    assert_eq!(yard.spaces.create(&site).await.unwrap_err().code(), FaultCode::PathTaken);
    assert_eq!(fs::read_to_string(site.path.join("precious")).unwrap(), "x");
    yard.spaces.undo(&site).await.unwrap();
    assert_eq!(fs::read_to_string(site.path.join("precious")).unwrap(), "x");
}
