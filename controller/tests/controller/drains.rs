//! Draining a node: what is answered and shown, what the node is told at the deadline, and that no restart forgets it.

use drover_proto::node_v1::assignment::Target;
use drover_proto::node_v1::report::Observation;
use drover_proto::v1;
use prost_types::Duration;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{controller, create, ended, enroll, link, nodes, sessions};

fn drain(node: &str, seconds: Option<i64>, request_id: &str) -> v1::DrainNodeRequest {
    v1::DrainNodeRequest {
        request_id: request_id.into(),
        node: node.into(),
        deadline: seconds.map(|seconds| Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_drain_is_shown_survives_a_restart_and_stops_at_its_deadline_what_still_runs() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (joined, identity) = enroll(&running).await;
    let mut agent = link(&running, identity.clone(), vec![]).await.unwrap();
    let created = sessions(&running).await.create_session(create("a")).await.unwrap();
    let id = created.into_inner().session.unwrap().id;
    let told = agent.assignment(&id).await;
    let Some(Target::Running(order)) = told.target.clone() else { panic!("it is to run: {told:?}") };
    agent.begin(&told, &order, None).await;

    let mut client = nodes(&running).await;
    let dry = v1::DrainNodeRequest { validate_only: true, ..drain(&joined.name, Some(0), "") };
    let would = client.drain_node(dry).await.unwrap().into_inner().node.unwrap();
    assert!(would.drain.is_some() && would.cordoned);
    let get = v1::GetNodeRequest { node: joined.name.clone() };
    let node = client.get_node(get.clone()).await.unwrap().into_inner().node.unwrap();
    assert!(node.drain.is_none() && !node.cordoned && node.runs == 1, "nothing happened: {node:?}");
    let mut answers = Vec::new();
    for _ in 0..2 {
        let asked = drain(&joined.name, Some(3600), "once");
        answers.push(client.drain_node(asked).await.unwrap().into_inner().node.unwrap());
    }
    assert_eq!(answers[0].drain, answers[1].drain);
    let shown = answers[0].drain.clone().unwrap();
    assert!(shown.by.contains("operator"), "{shown:?}");
    let length = shown.deadline_time.unwrap().seconds - shown.start_time.unwrap().seconds;
    assert!((3599..=3600).contains(&length), "{shown:?}");
    let other = client.drain_node(drain(&joined.name, None, "once")).await.unwrap_err();
    assert_eq!(other.get_details_error_info().unwrap().reason, "REQUEST_ID_REUSED");

    let cookie = agent.cookie.clone();
    drop(agent);
    assert!(running.shutdown().await);
    let running = controller(dir.path()).await;
    let mut agent = link(&running, identity, cookie).await.unwrap();
    let mut client = nodes(&running).await;
    let node = client.get_node(get.clone()).await.unwrap().into_inner().node.unwrap();
    assert_eq!((node.drain, node.runs), (Some(shown), 1));

    // A deadline that has come.
    client.drain_node(drain(&joined.name, Some(0), "now")).await.unwrap();
    let told = agent.told(&id, |told| matches!(told.target, Some(Target::Ready(_)))).await;
    let by = told.halt.clone().unwrap().by;
    assert!(by.contains("the drain of") && by.contains("operator"), "{by}");
    agent.report(&told, Observation::RunEnded(ended(&order, v1::RunOutcome::Stopped, &by))).await;
    let node = client.get_node(get.clone()).await.unwrap().into_inner().node.unwrap();
    assert_eq!((node.runs, node.sessions, node.drain.is_some()), (0, 1, true));

    // What is started now waits, and says why; a new one too.
    let mut client = sessions(&running).await;
    let start = v1::StartSessionRequest { session: "a".into(), ..Default::default() };
    let waiting = client.start_session(start).await.unwrap().into_inner().session.unwrap();
    assert!(waiting.wait_reason.contains("draining"), "{waiting:?}");
    let ask = v1::UncordonNodeRequest { node: joined.name.clone(), ..Default::default() };
    let node = nodes(&running).await.uncordon_node(ask).await.unwrap().into_inner().node.unwrap();
    assert!(node.drain.is_none() && !node.cordoned);
    agent.told(&id, |told| matches!(told.target, Some(Target::Running(_)))).await;
}

#[tokio::test]
async fn what_a_drain_cannot_do_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (joined, _) = enroll(&running).await;
    let mut client = nodes(&running).await;
    let asked = drain(&joined.name, None, "");
    let moved = v1::DrainNodeRequest { mode: v1::DrainMode::Migrate.into(), ..asked.clone() };
    let odd = v1::DrainNodeRequest { mode: 99, ..asked.clone() };
    for (asked, code) in [
        (moved, Code::Unimplemented),
        (odd, Code::InvalidArgument),
        (drain(&joined.name, Some(-1), ""), Code::InvalidArgument),
        (drain(&joined.name, Some(i64::MAX / 2), ""), Code::InvalidArgument),
        (drain("nobody", None, ""), Code::NotFound),
    ] {
        assert_eq!(client.drain_node(asked.clone()).await.unwrap_err().code(), code, "{asked:?}");
    }
    let forced = v1::DrainNodeRequest { mode: v1::DrainMode::Force.into(), ..asked };
    let node = client.drain_node(forced).await.unwrap().into_inner().node.unwrap();
    let drain = node.drain.unwrap();
    assert_eq!(drain.deadline_time, drain.start_time, "at once");
}
