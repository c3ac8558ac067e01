//! The writer on a real disk: batches, refusals among them, request ids, and a disk that does not take it.

use std::time::Duration;

use drover_domain::actor::Actor;
use drover_domain::command::{Command, Wish};
use drover_domain::fleet::Answer;
use drover_domain::id::{InstallationId, TokenId};

use super::*;
use crate::random;

fn open(directory: &Path) -> (Registry, Owner) {
    Registry::open(directory, InstallationId::from_random([1; 10]), Clock::system(), Metrics::default())
        .unwrap()
}

fn token(id: u8) -> Command {
    let wish = Wish::CreateToken {
        id: TokenId::from_random([id; 10]),
        secret_hash: [id; 32],
        lasts: Duration::from_secs(60),
    };
    Command { actor: Actor::User("me".into()), trace: None, wish }
}

fn unknown_token(id: u8) -> Command {
    Command { wish: Wish::RevokeToken { id: TokenId::from_random([id; 10]) }, ..token(id) }
}

fn repeatable(request: &str, payload: u8) -> Option<Repeatable> {
    let render: Render = Box::new(|fleet, answer, _| match answer {
        Answer::Token(token) => Bytes::from(format!("{} at {}", token.id, fleet.revision())),
        _ => Bytes::new(),
    });
    let key = RequestKey { principal: "p".into(), method: "m".into(), request: request.into() };
    Some(Repeatable { key, payload: [payload; 32], render })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_is_published_and_the_refused_cost_the_others_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, _owner) = open(dir.path());
    let wishes = (0..200_u8).map(|id| {
        let registry = registry.clone();
        async move {
            let command = if id % 4 == 3 { unknown_token(id) } else { token(id) };
            (id, registry.submit(command, None).await)
        }
    });
    for (id, answer) in futures::future::join_all(wishes).await {
        let published = registry.now().fleet.token(TokenId::from_random([id; 10])).is_some();
        assert_eq!(answer.is_ok(), id % 4 != 3);
        assert_eq!(published, id % 4 != 3, "an answer comes after what it says is published");
    }
    assert_eq!(registry.now().fleet.revision(), 150);
    assert_eq!(*registry.revision().borrow(), 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_has_one_effect_and_one_answer_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, owner) = open(dir.path());
    assert!(matches!(registry.submit(token(1), repeatable("r", 1)).await, Ok(Done::Fresh(_))));
    let told = |done: Result<Done, Error>| match done {
        Ok(Done::Repeated(bytes)) => bytes,
        other => panic!("it was done before: {other:?}"),
    };
    let first = told(registry.submit(token(2), repeatable("r", 1)).await);
    assert!(matches!(registry.submit(token(2), repeatable("r", 2)).await, Err(Error::RequestIdReused)));
    assert_eq!(registry.now().fleet.revision(), 1);
    drop(registry);
    owner.join();
    let (registry, _owner) = open(dir.path());
    assert_eq!(told(registry.submit(token(2), repeatable("r", 1)).await), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_kept_so_that_the_same_request_may_succeed_later() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, _owner) = open(dir.path());
    let refused = registry.submit(unknown_token(1), repeatable("r", 1)).await;
    assert!(matches!(refused, Err(Error::Refused(_))));
    registry.submit(token(1), None).await.unwrap();
    assert!(matches!(registry.submit(unknown_token(1), repeatable("r", 1)).await, Ok(Done::Fresh(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_refuses_costs_the_call_and_not_the_registry() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, _owner) = open(dir.path());
    registry.submit(token(1), None).await.unwrap();
    let other = rusqlite_break(
        dir.path(),
        "CREATE TRIGGER full BEFORE INSERT ON tokens BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    );
    let failed = registry.submit(token(2), repeatable("r", 1)).await;
    assert!(matches!(failed, Err(Error::NotWritten(_))), "{failed:?}");
    assert_eq!(registry.now().fleet.revision(), 1, "nothing of it is visible");
    let both = [registry.submit(token(3), None), registry.submit(unknown_token(9), None)];
    let answers = futures::future::join_all(both).await;
    assert!(matches!(answers[0], Err(Error::NotWritten(_))) && matches!(answers[1], Err(Error::Refused(_))));
    other("DROP TRIGGER full");
    assert!(
        matches!(registry.submit(token(2), repeatable("r", 1)).await, Ok(Done::Fresh(_))),
        "the same request goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_found_beside_the_work_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, owner) = open(dir.path());
    registry.submit(token(1), None).await.unwrap();
    assert_eq!(registry.damage(), None);
    drop(registry);
    owner.join();
    crate::store::damage_history(dir.path());
    let (registry, _owner) = open(dir.path());
    assert!(registry.now().fleet.token(TokenId::from_random([1; 10])).is_some());
    let told = async {
        loop {
            if let Some(why) = registry.damage() {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let why = tokio::time::timeout(Duration::from_secs(20), told).await.expect("it is found");
    assert!(why.contains("damaged"), "{why}");
}

/// Runs statements on the file behind the writer's back.
fn rusqlite_break(directory: &Path, statement: &str) -> impl Fn(&str) + use<> {
    let path = directory.join("registry.db");
    let run = move |statement: &str| crate::store::execute_beside(&path, statement);
    run(statement);
    run
}

#[test]
fn recent_changes_are_there_without_gaps_or_not_at_all() {
    let mut recent = Recent::default();
    let change = |revision| drover_domain::change::Change {
        revision,
        at: Timestamp::default(),
        actor: Actor::Controller,
        kind: drover_domain::change::Kind::TokenForgotten,
        after: drover_domain::change::After::TokenForgotten(TokenId::from_random(random::bytes())),
        note: None,
    };
    assert!(recent.after(0, 0).is_some(), "nothing happened, nothing is missed");
    assert!(recent.after(3, 5).is_none(), "a fresh start knows nothing of before");
    (6..=9000).for_each(|revision| recent.push(change(revision)));
    let after = |revision| {
        recent.after(revision, 9000).map(|changes| changes.map(|change| change.revision).collect::<Vec<_>>())
    };
    assert_eq!(after(8998), Some(vec![8999, 9000]));
    assert_eq!(after(9000), Some(vec![]));
    assert_eq!(after(10), None, "too long ago");
}
