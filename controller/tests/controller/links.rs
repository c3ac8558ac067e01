//! The link: what an agent is told, what it reports, and who is taken for whom.

use drover_proto::node_v1::assignment::Target;
use drover_proto::node_v1::link_response::Message as Down;
use drover_proto::node_v1::report::Observation;
use drover_proto::v1;
use prost_types::Timestamp;
use tonic::Code;

use crate::harness::{controller, create, enroll, facts, link, link_as, maintenance, sessions};

fn get(session: &str) -> v1::GetSessionRequest {
    v1::GetSessionRequest { session: session.into(), ..Default::default() }
}

#[tokio::test]
async fn a_session_goes_from_the_queue_through_a_run_to_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_, identity) = enroll(&running).await;
    let mut agent = link(&running, identity, vec![]).await.unwrap();
    let mut client = sessions(&running).await;
    let id = client.create_session(create("a")).await.unwrap().into_inner().session.unwrap().id;
    let told = agent.assignment(&id).await;
    assert_eq!(told.branch, "drover/a");
    let Some(Target::Running(order)) = told.target.clone() else { panic!("it is to run: {told:?}") };
    let workspace = v1::Workspace { path: "/w".into(), branch: "drover/a".into(), base_commit: "c".into() };
    agent.report(&told, Observation::WorkspaceReady(workspace)).await;
    let handle = v1::RunHandle { handle: Some(v1::run_handle::Handle::Pid(42)) };
    let run = v1::Run {
        id: order.run_id.clone(),
        ordinal: 1,
        start_time: Some(Timestamp { seconds: 1, nanos: 0 }),
        handle: Some(handle),
        ..v1::Run::default()
    };
    agent.report(&told, Observation::RunStarted(run.clone())).await;
    let session = client.get_session(get("a")).await.unwrap().into_inner().session.unwrap();
    assert_eq!(session.state(), v1::SessionState::Running);
    assert_eq!(session.current_run.unwrap().id, order.run_id);
    let ended = v1::Run {
        end_time: Some(Timestamp { seconds: 2, nanos: 0 }),
        outcome: v1::RunOutcome::Failed.into(),
        exit_code: Some(3),
        ..run
    };
    agent.report(&told, Observation::RunEnded(ended)).await;
    let session = client.get_session(get("a")).await.unwrap().into_inner().session.unwrap();
    assert_eq!(session.state(), v1::SessionState::Ready);
    assert_eq!(session.last_run.unwrap().exit_code, Some(3));
    let runs =
        client.list_runs(v1::ListRunsRequest { session: "a".into(), ..Default::default() }).await.unwrap();
    assert_eq!(runs.into_inner().runs.len(), 1);
    client
        .delete_session(v1::DeleteSessionRequest { session: "a".into(), ..Default::default() })
        .await
        .unwrap();
    let told = loop {
        let told = agent.assignment(&id).await;
        if matches!(told.target, Some(Target::Cleaned(_))) {
            break told;
        }
    };
    agent.report(&told, Observation::Removed(v1::Kept::default())).await;
    let session = client.get_session(get(&id)).await.unwrap().into_inner().session.unwrap();
    assert_eq!(session.state(), v1::SessionState::Cleaned);
}

#[tokio::test]
async fn a_node_cannot_speak_for_a_session_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_, first) = enroll(&running).await;
    let mut owner = link(&running, first, vec![]).await.unwrap();
    let mut client = sessions(&running).await;
    let id = client.create_session(create("a")).await.unwrap().into_inner().session.unwrap().id;
    let told = owner.assignment(&id).await;
    let (_, second) = enroll(&running).await;
    let mut other = link(&running, second, vec![]).await.unwrap();
    other.report(&told, Observation::Faulted(v1::Fault { code: "OTHER".into(), ..Default::default() })).await;
    let session = client.get_session(get("a")).await.unwrap().into_inner().session.unwrap();
    assert_eq!(session.state(), v1::SessionState::Creating, "it is heard and has no effect");
}

#[tokio::test]
async fn a_copied_agent_is_refused_and_a_newer_link_takes_the_place_of_the_older() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_, identity) = enroll(&running).await;
    let first = link(&running, identity.clone(), vec![]).await.unwrap();
    let second = link(&running, identity.clone(), first.cookie.clone()).await.unwrap();
    let third = link(&running, identity.clone(), second.cookie.clone()).await.unwrap();
    let copy = link(&running, identity, first.cookie.clone()).await.map(drop).unwrap_err();
    assert_eq!(copy.code(), Code::PermissionDenied);
    assert!(copy.message().contains("copied"), "{}", copy.message());
    let mut older = second.down;
    let end = loop {
        match older.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it is told why"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
    drop(third);
}

#[tokio::test]
async fn a_copy_does_not_take_the_place_of_the_agent_that_is_linked_and_health_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_, identity) = enroll(&running).await;
    let mut agent = link(&running, identity.clone(), vec![]).await.unwrap();
    let copied = v1::NodeFacts { incarnation: "another start".into(), ..facts() };
    let refused = link_as(&running, identity.clone(), agent.cookie.clone(), copied.clone()).await;
    let refused = refused.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("copy"), "{}", refused.message());
    let health = maintenance(&running).await.get_health(v1::GetHealthRequest {}).await.unwrap().into_inner();
    assert_eq!(health.findings[0].code, "LEDGER_REGISTRY_MISMATCH");
    assert_eq!(health.level(), v1::HealthLevel::Manual);
    // Nothing happened to the one that was there.
    let id =
        sessions(&running).await.create_session(create("a")).await.unwrap().into_inner().session.unwrap().id;
    agent.assignment(&id).await;
    // Once it is gone, who has its state is it.
    let cookie = agent.cookie.clone();
    drop(agent);
    while link_as(&running, identity.clone(), cookie.clone(), copied.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn assignments_that_are_too_long_for_one_message_come_in_several() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_, identity) = enroll(&running).await;
    let agent = link(&running, identity.clone(), vec![]).await.unwrap();
    let mut client = sessions(&running).await;
    let count = 50;
    for number in 0..count {
        let mut ask = create(&format!("s{number}"));
        ask.spec.as_mut().unwrap().command = vec!["echo".into(), "x".repeat(100_000)];
        client.create_session(ask).await.unwrap();
    }
    let mut again = link(&running, identity, agent.cookie.clone()).await.unwrap();
    let mut before = std::collections::BTreeSet::new();
    let last = loop {
        let Down::Assignments(news) = again.next().await else { continue };
        if news.complete {
            break news;
        }
        before.extend(news.upserts.into_iter().map(|one| one.session_id));
    };
    assert!(!before.is_empty());
    assert_eq!(before.len() + last.upserts.len(), count);
    // Else the agent would take the earlier ones for unknown here.
    assert_eq!(std::collections::BTreeSet::from_iter(last.others), before);
}

#[tokio::test]
async fn a_linked_agent_is_told_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_, identity) = enroll(&running).await;
    let mut agent = link(&running, identity.clone(), vec![]).await.unwrap();
    let mut client = sessions(&running).await;
    let id = client.create_session(create("a")).await.unwrap().into_inner().session.unwrap().id;
    let first = agent.assignment(&id).await;
    let mut again = link(&running, identity, agent.cookie.clone()).await.unwrap();
    assert_eq!(again.assignment(&id).await, first);
}
