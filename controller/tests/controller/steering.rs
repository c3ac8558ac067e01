//! What steers a session that is there: more time for its run, beginning anew, a checkpoint, and why it is as it is.

use std::collections::BTreeSet;
use std::sync::Mutex;

use drover_controller::app::Running;
use drover_proto::node_v1::assignment::Target;
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::report::Observation;
use drover_proto::node_v1::tunnel_request::Message as Said;
use drover_proto::node_v1::{Assignment, OpenTunnel, Order, TunnelError};
use drover_proto::v1;
use drover_proto::v1::event_service_client::EventServiceClient;
use drover_proto::v1::watch_sessions_response::Item;
use prost_types::{Duration, Timestamp};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{
    Agent, Bearer, beside, channel, controller, create, ended, enroll, link, sessions, tls, workspace,
};

async fn get(running: &Running, session: &str) -> v1::Session {
    let ask = v1::GetSessionRequest { session: session.into(), ..Default::default() };
    sessions(running).await.get_session(ask).await.unwrap().into_inner().session.unwrap()
}

fn timed(name: &str, change: impl FnOnce(&mut v1::SessionSpec)) -> v1::CreateSessionRequest {
    let mut ask = create(name);
    let spec = ask.spec.as_mut().unwrap();
    spec.timeout = Some(Duration { seconds: 60, nanos: 0 });
    change(spec);
    ask
}

/// A session that runs on an agent of its own, and what that was told.
async fn at_work(running: &Running, ask: v1::CreateSessionRequest) -> (Agent, Assignment, Order) {
    let (_, identity) = enroll(running).await;
    let mut agent = link(running, identity, vec![]).await.unwrap();
    let has_limit = ask.spec.as_ref().unwrap().timeout.is_some();
    let created = sessions(running).await.create_session(ask).await.unwrap().into_inner().session.unwrap();
    let told = agent.assignment(&created.id).await;
    let Some(Target::Running(order)) = told.target.clone() else { panic!("it is to run: {told:?}") };
    agent.begin(&told, &order, has_limit.then_some(160)).await;
    (agent, told, order)
}

fn extend(session: &str, seconds: i64, request_id: &str) -> v1::ExtendSessionRequest {
    v1::ExtendSessionRequest {
        request_id: request_id.into(),
        session: session.into(),
        duration: Some(Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

#[tokio::test]
async fn more_time_moves_the_deadline_and_is_told_to_the_node_and_asked_twice_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (mut agent, told, _) = at_work(&running, timed("a", |_| {})).await;
    let mut client = sessions(&running).await;
    let dry = v1::ExtendSessionRequest { validate_only: true, ..extend("a", 30, "") };
    let shown = client.extend_session(dry).await.unwrap().into_inner().session.unwrap();
    assert_eq!(shown.current_run.unwrap().deadline.unwrap().seconds, 190);
    assert_eq!(get(&running, "a").await.current_run.unwrap().deadline.unwrap().seconds, 160, "not yet");
    for _ in 0..2 {
        let session =
            client.extend_session(extend("a", 30, "once")).await.unwrap().into_inner().session.unwrap();
        let run = session.current_run.unwrap();
        assert_eq!((run.deadline.unwrap().seconds, run.extensions), (190, 1));
    }
    assert_eq!(get(&running, "a").await.current_run.unwrap().extensions, 1);
    let granted = |told: &Assignment| told.grant.unwrap().count;
    let grant = agent.told(&told.session_id, |told| granted(told) == 1).await.grant.unwrap();
    assert_eq!(grant.total.unwrap().seconds, 30);
    client.extend_session(extend("a", 10, "again")).await.unwrap();
    let grant = agent.told(&told.session_id, |told| granted(told) == 2).await.grant.unwrap();
    assert_eq!(grant.total.unwrap().seconds, 40, "all of it, so that it may be told twice");
}

#[tokio::test]
async fn more_time_than_a_session_may_have_is_refused_in_words_that_say_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let often = at_work(&running, timed("often", |spec| spec.max_extensions = Some(1))).await;
    let far = timed("far", |spec| spec.max_extension = Some(Duration { seconds: 40, nanos: 0 }));
    let far = at_work(&running, far).await;
    let mut client = sessions(&running).await;
    for (name, words) in
        [("often", "may have 1 extensions"), ("far", "may have 40 seconds more than its timeout")]
    {
        client.extend_session(extend(name, 30, "")).await.unwrap();
        let status = client.extend_session(extend(name, 30, "")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{name}");
        assert!(status.message().contains(words), "{}", status.message());
        assert_eq!(status.get_details_error_info().unwrap().reason, "LIMIT_REACHED");
        assert!(status.get_details_retry_info().is_none(), "waiting does not help");
        let run = get(&running, name).await.current_run.unwrap();
        assert_eq!((run.deadline.unwrap().seconds, run.extensions), (190, 1), "{name}: as before");
    }
    drop((often, far));
}

#[tokio::test]
async fn only_a_run_that_goes_on_and_has_a_limit_gets_more_time() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    client.create_session(timed("waits", |_| {})).await.unwrap();
    let status = client.extend_session(extend("waits", 30, "")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("only a run that goes on has a deadline"), "{}", status.message());
    let (_agent, ..) = at_work(&running, create("endless")).await;
    let status = client.extend_session(extend("endless", 30, "")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("no timeout"), "{}", status.message());
    for seconds in [0, -5, 400 * 24 * 3600] {
        let status = client.extend_session(extend("endless", seconds, "")).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{seconds}");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "duration");
    }
}

fn reset(hard: bool) -> v1::ResetSessionRequest {
    v1::ResetSessionRequest { session: "a".into(), hard, ..Default::default() }
}

#[tokio::test]
async fn a_soft_reset_stops_the_run_and_leaves_the_workspace_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (mut agent, told, order) = at_work(&running, create("a")).await;
    let mut client = sessions(&running).await;
    let hold = v1::HoldSessionRequest { session: "a".into(), ..Default::default() };
    client.hold_session(hold).await.unwrap();
    let session = client.reset_session(reset(false)).await.unwrap().into_inner().session.unwrap();
    assert_eq!((session.state(), session.wanted()), (v1::SessionState::Running, v1::SessionWanted::Ready));
    assert!(session.hold.is_none(), "its hold is forgotten");
    let is_stopped =
        |told: &Assignment| matches!(&told.target, Some(Target::Ready(ready)) if ready.stop.is_some());
    let stop = agent.told(&told.session_id, is_stopped).await;
    assert_eq!(stop.halt.unwrap().by, "user:operator");
    agent.report(&told, Observation::RunEnded(ended(&order, v1::RunOutcome::Stopped, "user:operator"))).await;
    let session = get(&running, "a").await;
    assert_eq!((session.state(), session.rebuilds), (v1::SessionState::Ready, 0));
    let is_over =
        |told: &Assignment| matches!(&told.target, Some(Target::Ready(ready)) if ready.stop.is_none());
    assert_eq!(agent.told(&told.session_id, is_over).await.rebuild, 0);
}

/// The states that a session goes through, until it is in the last one.
async fn states(running: &Running, last: v1::SessionState) -> Vec<v1::SessionState> {
    let ask = v1::WatchSessionsRequest { session: "a".into(), ..Default::default() };
    let mut watch = sessions(running).await.watch_sessions(ask).await.unwrap().into_inner();
    let mut states = Vec::new();
    while states.last() != Some(&last) || states.len() < 2 {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), watch.message()).await;
        if let Some(Item::Session(session)) = next.expect("something comes").unwrap().unwrap().item {
            states.push(session.state());
            states.dedup();
        }
    }
    states
}

#[tokio::test]
async fn a_hard_reset_goes_through_the_queue_and_has_the_workspace_made_anew_from_the_same_commit() {
    use v1::SessionState as S;
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (mut agent, told, order) = at_work(&running, create("a")).await;
    let mut client = sessions(&running).await;
    let remake = async {
        client.reset_session(reset(true)).await.unwrap();
        let end = ended(&order, v1::RunOutcome::Stopped, "user:operator");
        agent.told(&told.session_id, |told| matches!(told.target, Some(Target::Ready(_)))).await;
        agent.report(&told, Observation::RunEnded(end)).await;
        let anew = agent.told(&told.session_id, |told| told.rebuild > 0).await;
        assert_eq!((anew.rebuild, anew.base_commit.as_str()), (1, "c0ffee"));
        assert!(matches!(anew.target, Some(Target::Ready(_))), "{anew:?}");
        agent.report(&anew, Observation::WorkspaceReady(workspace())).await;
    };
    let (states, ()) = tokio::join!(states(&running, S::Ready), remake);
    // A watch tells what is, and may pass over what is over at once: the log has it all.
    assert!(states.ends_with(&[S::Creating, S::Ready]), "{states:?}");
    let ask = v1::ExplainSessionRequest { session: "a".into(), ..Default::default() };
    let why = client.explain_session(ask).await.unwrap().into_inner().decisions;
    let ended = why.iter().find(|decision| decision.what == "run_ended").unwrap();
    assert!(ended.evidence.iter().any(|text| text == "then queued"), "{ended:?}");
    let session = get(&running, "a").await;
    assert_eq!((session.rebuilds, session.wanted()), (1, v1::SessionWanted::Ready));
    assert_eq!(session.workspace.unwrap().base_commit, "c0ffee");
}

#[tokio::test]
async fn a_hard_reset_that_is_only_thought_of_asks_the_node_what_it_would_save_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (mut agent, told, _) = at_work(&running, create("a")).await;
    let mut client = sessions(&running).await;
    let before = get(&running, "a").await;
    let script = |asked: &OpenTunnel| match &asked.ask {
        Some(Ask::ReadWork(work)) => {
            assert!(work.force_branch && !work.keep_branch && asked.session_id == told.session_id);
            vec![Said::Work(v1::RemovalPreview { saves_work: true, ..Default::default() })]
        }
        other => panic!("nobody wants {other:?}"),
    };
    let dry = v1::ResetSessionRequest { validate_only: true, ..reset(true) };
    let answer = beside(client.reset_session(dry), agent.answering(script)).await.unwrap().into_inner();
    let preview = answer.preview.unwrap();
    assert!(preview.saves_work && preview.stops_run);
    assert_eq!(get(&running, "a").await.revision, before.revision);
}

#[tokio::test]
async fn a_session_that_is_removed_cannot_be_reset() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_agent, ..) = at_work(&running, create("a")).await;
    let mut client = sessions(&running).await;
    let delete = v1::DeleteSessionRequest { session: "a".into(), ..Default::default() };
    client.delete_session(delete).await.unwrap();
    for hard in [false, true] {
        let status = client.reset_session(reset(hard)).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("it is being removed"), "{}", status.message());
    }
}

#[tokio::test]
async fn why_tells_the_newest_decision_first_and_what_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (mut agent, told, order) = at_work(&running, timed("a", |_| {})).await;
    let mut client = sessions(&running).await;
    let ask = v1::ExplainSessionRequest { session: "a".into(), ..Default::default() };
    let why = client.explain_session(ask.clone()).await.unwrap().into_inner();
    assert_eq!(why.session.unwrap().state(), v1::SessionState::Running);
    let what: Vec<_> = why.decisions.iter().map(|decision| decision.what.as_str()).collect();
    assert_eq!((what.first(), what.last()), (Some(&"run_started"), Some(&"session_created")), "{what:?}");
    assert!(why.decisions.is_sorted_by_key(|decision| std::cmp::Reverse(decision.time.unwrap().seconds)));
    assert!(why.decisions[0].evidence.contains(&"then running".to_owned()), "{:?}", why.decisions[0]);
    assert!(why.decisions[0].actor.starts_with("node:"), "{:?}", why.decisions[0]);
    assert_eq!(why.decisions.last().unwrap().actor, "user:operator");
    assert!(why.next.contains("by its timeout (0 of 10 extensions used)"), "{}", why.next);
    agent.report(&told, Observation::RunEnded(ended(&order, v1::RunOutcome::Lost, ""))).await;
    let why = client.explain_session(ask).await.unwrap().into_inner();
    assert_eq!(why.decisions[0].what, "run_ended");
    assert!(why.next.starts_with("nothing: its workspace stays"), "{}", why.next);
    let nobody = v1::ExplainSessionRequest { session: "nobody".into(), ..Default::default() };
    assert_eq!(client.explain_session(nobody).await.unwrap_err().code(), Code::NotFound);
}

fn is_run(told: &Assignment, ordinal: u32) -> bool {
    matches!(&told.target, Some(Target::Running(order)) if order.ordinal == ordinal)
}

async fn kinds(running: &Running) -> Vec<(String, String)> {
    let channel = channel(running, tls(running)).await.unwrap();
    let mut client = EventServiceClient::with_interceptor(channel, Bearer(running.operator_token.clone()));
    let ask = v1::ListEventsRequest { session: "a".into(), ..Default::default() };
    let events = client.list_events(ask).await.unwrap().into_inner().events;
    events.into_iter().map(|event| (event.kind, event.message)).collect()
}

#[tokio::test]
async fn a_run_that_was_interrupted_is_resumed_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (mut agent, told, order) = at_work(&running, create("a")).await;
    assert!(!told.resumes);
    let end = ended(&order, v1::RunOutcome::Interrupted, "reboot");
    agent.report(&told, Observation::RunEnded(end)).await;
    assert!(agent.told(&told.session_id, |told| is_run(told, 2)).await.resumes);
    let session = get(&running, "a").await;
    assert_eq!((session.interruptions, session.resumes, session.failures), (1, true, 0));
    let kinds = kinds(&running).await;
    let said = kinds.iter().find(|(kind, _)| kind == "run_interrupted");
    assert_eq!(said.unwrap().1, "run 1 interrupted(reboot); it is resumed");
}

#[tokio::test]
async fn a_run_that_must_not_be_resumed_leaves_its_session_ready() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let never = |spec: &mut v1::SessionSpec| spec.resume = v1::ResumePolicy::Never.into();
    let (mut agent, told, order) = at_work(&running, timed("a", never)).await;
    let end = ended(&order, v1::RunOutcome::Interrupted, "agent");
    agent.report(&told, Observation::RunEnded(end)).await;
    let session = get(&running, "a").await;
    assert_eq!((session.state(), session.runs, session.resumes), (v1::SessionState::Ready, 1, false));
}

#[tokio::test]
async fn a_session_is_started_with_resume_as_it_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (mut agent, told, order) = at_work(&running, create("a")).await;
    let failed = v1::Run { exit_code: Some(1), ..ended(&order, v1::RunOutcome::Failed, "") };
    agent.report(&told, Observation::RunEnded(failed)).await;
    let start = v1::StartSessionRequest { session: "a".into(), resume: true, ..Default::default() };
    sessions(&running).await.start_session(start).await.unwrap();
    assert!(agent.told(&told.session_id, |told| is_run(told, 2)).await.resumes);
}

fn checkpoint() -> v1::CheckpointRequest {
    v1::CheckpointRequest { session: "a".into(), ..Default::default() }
}

#[tokio::test]
async fn a_checkpoint_is_made_by_the_node_and_then_known_of_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (mut agent, told, _) = at_work(&running, create("a")).await;
    let saved = v1::SavedCheckpoint {
        reference: "refs/drover/wip/a/1".into(),
        commit: "beef".into(),
        create_time: Some(Timestamp { seconds: 120, nanos: 0 }),
    };
    let asked = Mutex::new(BTreeSet::new());
    let script = |open: &OpenTunnel| {
        assert!(matches!(open.ask, Some(Ask::MakeCheckpoint(_))), "{open:?}");
        asked.lock().unwrap().insert(open.session_id.clone());
        vec![Said::Checkpoint(v1::CheckpointResponse { checkpoint: Some(saved.clone()), unchanged: true })]
    };
    let mut client = sessions(&running).await;
    let answer = beside(client.checkpoint(checkpoint()), agent.answering(script)).await.unwrap().into_inner();
    assert_eq!((answer.checkpoint.as_ref(), answer.unchanged), (Some(&saved), true));
    assert_eq!(asked.into_inner().unwrap(), [told.session_id.clone()].into());
    agent.report(&told, Observation::Checkpointed(saved.clone())).await;
    assert_eq!(get(&running, "a").await.checkpoint, Some(saved));
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_made_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    client
        .create_session(v1::CreateSessionRequest { request_id: String::new(), ..create("a") })
        .await
        .unwrap();
    let status = client.checkpoint(checkpoint()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "session 'a' is queued and has no workspace");
    let delete = v1::DeleteSessionRequest { session: "a".into(), ..Default::default() };
    client.delete_session(delete).await.unwrap();
    let (mut agent, ..) = at_work(&running, create("a")).await;
    let full = TunnelError {
        code: Code::ResourceExhausted.into(),
        message: "no space is left".into(),
        hint: "make room".into(),
        ..Default::default()
    };
    let script = |_: &OpenTunnel| vec![Said::Error(full.clone())];
    let status = beside(client.checkpoint(checkpoint()), agent.answering(script)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "no space is left"));
    assert_eq!(status.get_details_error_info().unwrap().metadata["hint"], "make room");
    let script = |_: &OpenTunnel| vec![Said::Restored(v1::RestoreTrashResponse::default())];
    let status = beside(client.checkpoint(checkpoint()), agent.answering(script)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "the node answered something else"));
    drop(agent);
    let status = client.checkpoint(checkpoint()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}
