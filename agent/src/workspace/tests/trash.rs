//! The trash: one item for each removal, told by git alone; what goes, and what never does.

use std::time::Duration;

use drover_domain::session::{FaultCode, Removal};

use super::*;
use crate::workspace::{Label, Owner, Part, TrashItem, TrashRules};

const FORCE: Removal = Removal { keep_branch: false, force_branch: true };

fn commons(yard: &Yard) -> Vec<PathBuf> {
    vec![yard.common()]
}

pub(super) async fn items(yard: &Yard) -> Vec<TrashItem> {
    yard.spaces.trash(&commons(yard), &Owner::of(&yard.site(0).mark)).await
}

/// A session that left a file of this many bytes.
async fn leave(yard: &Yard, site: &Site, bytes: usize) {
    yard.spaces.create(site).await.unwrap();
    write(&site.path.join("left"), vec![b'x'; bytes]);
    yard.spaces.remove(site, Removal::default()).await.unwrap();
}

#[tokio::test]
async fn one_removal_is_one_item_with_what_came_late() {
    let yard = Yard::new();
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("committed"), "1");
    git(&site.path, &["add", "-A"]);
    git(&site.path, &["commit", "-qm", "one"]);
    let tip = git(&site.path, &["rev-parse", "HEAD"]);
    write(&site.path.join("README"), "12345");
    write(&site.path.join("new/file"), "1234567890");
    write(&site.path.join("target/huge"), vec![0; 5000]);
    let (work, mut look) = yard.spaces.look_now(&site, FORCE).await.unwrap();
    look.label = Label { project: "p".into(), name: "n".into(), repository: "r".into() };
    yard.spaces.save(&site, &work, &mut look).await.unwrap();
    write(&site.path.join("late"), "123");
    yard.spaces.put_away(&site).await.unwrap();
    yard.spaces.let_go(&site, Some(&look)).await.unwrap();
    yard.spaces.drop_branch_after(&site, FORCE, Some(&look)).await.unwrap();

    let found = items(&yard).await;
    let [item] = &found[..] else { panic!("{found:?}") };
    assert_eq!(item.id, site.mark.session.to_string());
    assert_eq!(item.parts.iter().map(|saved| saved.part).collect::<Vec<_>>(), [Part::Work, Part::Late]);
    assert_eq!((item.record.files, item.record.bytes), (3, 18));
    assert_eq!(item.record.label, look.label);
    assert_eq!((item.record.tip.as_ref(), &item.record.base), (Some(&tip), &site.base));
    let contents = yard.spaces.show(item, 3).await.unwrap();
    assert_eq!((contents.count, contents.files.len()), (6, 3));
    assert!(yard.spaces.show(item, 99).await.unwrap().files.contains(&(b"new/file".to_vec(), 10)));
}

#[tokio::test]
async fn each_removal_of_a_session_is_an_item_and_others_work_is_none() {
    let yard = Yard::new();
    let site = yard.site(1);
    leave(&yard, &site, 1).await;
    leave(&yard, &site, 2).await;
    yard.spaces.create(&site).await.unwrap();
    git(&site.path, &["commit", "-q", "--allow-empty", "-m", "only a commit"]);
    yard.spaces.remove(&site, FORCE).await.unwrap();
    let mut theirs = yard.site(2);
    theirs.mark.node = "othernode".into();
    leave(&yard, &theirs, 1).await;
    // Saved work of ours under another session's name, and something that only looks like saved work.
    let ours = git(&yard.repo, &["rev-parse", &format!("{}1", site.trash_prefix())]);
    git(&yard.repo, &["update-ref", &format!("{}1", yard.site(3).trash_prefix()), &ours]);
    git(&yard.repo, &["update-ref", &format!("{}1", yard.site(4).trash_prefix()), "HEAD"]);
    let session = site.mark.session;
    let found: Vec<_> = items(&yard).await.into_iter().map(|item| item.id).collect();
    assert_eq!(found, [format!("{session}"), format!("{session}/2"), format!("{session}/3")]);
}

#[tokio::test]
async fn only_the_named_item_goes_and_only_as_it_was_seen() {
    let yard = Yard::new();
    leave(&yard, &yard.site(1), 1).await;
    leave(&yard, &yard.site(2), 1).await;
    let [one, two] = &items(&yard).await[..] else { panic!("two items") };
    for _ in 0..2 {
        yard.spaces.purge(&one.common, &one.parts).await.unwrap();
        assert!(yard.spaces.is_purged(&one.common, &one.parts).unwrap());
    }
    assert!(!yard.spaces.is_purged(&two.common, &two.parts).unwrap());
    assert_eq!(items(&yard).await, std::slice::from_ref(two));
    git(&yard.repo, &["update-ref", &two.parts[0].reference, "HEAD"]);
    yard.spaces.purge(&two.common, &two.parts).await.unwrap_err();
    assert_eq!(git(&yard.repo, &["rev-parse", &two.parts[0].reference]), yard.site(1).base);
}

#[tokio::test]
async fn what_is_older_than_its_time_has_expired() {
    let mut yard = Yard::new();
    leave(&yard, &yard.site(1), 1).await;
    let [item] = &items(&yard).await[..] else { panic!("one item") };
    let (owner, ttl) = (Owner::of(&yard.site(1).mark), Duration::from_secs(60));
    yard.spaces = spaces().with_trash(TrashRules { budget: None, ttl });
    let at = |millis: i64| item.record.created_millis + millis;
    for early in [-100_000, 0, 59_999] {
        assert_eq!(yard.spaces.expired(&commons(&yard), &owner, at(early)).await, []);
    }
    let expired = yard.spaces.expired(&commons(&yard), &owner, at(60_000)).await;
    assert_eq!(expired, std::slice::from_ref(item));
}

#[tokio::test]
async fn a_full_trash_refuses_and_keeps_what_has_not_expired() {
    let mut yard = Yard::new();
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    yard.spaces = spaces().with_trash(TrashRules { budget: Some(1000), ttl: month });
    leave(&yard, &yard.site(1), 900).await;
    let site = yard.site(2);
    yard.spaces.create(&site).await.unwrap();
    write(&site.path.join("left"), [b'x'; 200]);
    let failure = yard.spaces.remove(&site, Removal::default()).await.unwrap_err();
    assert_eq!(failure.code(), FaultCode::DiskFull);
    assert!(failure.to_string().contains("900 bytes of 1000") && failure.is_retryable(), "{failure}");
    assert!(site.path.join("left").exists());
    assert_eq!(items(&yard).await.len(), 1);
    // By now that is old.
    yard.spaces = spaces().with_trash(TrashRules { budget: Some(1000), ttl: Duration::ZERO });
    yard.spaces.remove(&site, Removal::default()).await.unwrap();
    let left: Vec<_> = items(&yard).await.into_iter().map(|item| item.id).collect();
    assert_eq!(left, [site.mark.session.to_string()]);
}
