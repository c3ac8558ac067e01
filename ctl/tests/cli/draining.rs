//! Draining a node: what is asked before anything is stopped, and what is said of how it went.

use drover_proto::v1::{
    DrainNodeRequest, DrainNodeResponse, GetNodeResponse, GetSessionResponse, ListSessionsResponse, Node,
    NodeDrain, NodeStanding, Run, RunOutcome, Session, SessionState, SessionWanted,
};

use crate::server::{Server, ago, placed};

fn node(runs: u32, is_draining: bool) -> Node {
    let drain = NodeDrain { by: "user:me".into(), start_time: ago(60), deadline_time: None };
    Node {
        id: "node_abcdefgh23456777".into(),
        name: "build-1".into(),
        standing: NodeStanding::Reachable.into(),
        cordoned: is_draining,
        drain: is_draining.then_some(drain),
        sessions: 3,
        runs,
        ..Default::default()
    }
}

fn running() -> Session {
    let run = Run { id: "run_abcdefgh23456777".into(), ordinal: 1, start_time: ago(5), ..Default::default() };
    Session { current_run: Some(run), ..placed("fix", SessionState::Running, SessionWanted::Running) }
}

/// A node with one run, of the session `fix`.
fn at_work() -> Server {
    let server = Server::start();
    server.says("GetNode", &GetNodeResponse { node: Some(node(1, false)) });
    let resting = placed("other", SessionState::Ready, SessionWanted::Ready);
    let sessions = vec![running(), resting];
    server.says("ListSessions", &ListSessionsResponse { sessions, ..Default::default() });
    server.says("DrainNode", &DrainNodeResponse { node: Some(node(1, true)) });
    server
}

#[test]
fn nothing_is_stopped_unasked() {
    let server = at_work();
    insta::assert_snapshot!(server.shown(&["node", "drain", "build-1", "--deadline", "30m"]), @"
    exit 4
    --- stdout
    --- stderr
    error: node build-1: 1 run is on it; what goes on for 30m is stopped, the work saved first
        why: there is no terminal to ask on; they are fix
       next: --yes stops them
       next: without --deadline they end by themselves
    ");
    assert!(server.heard::<DrainNodeRequest>("DrainNode").is_empty());
    insta::assert_snapshot!(server.shown(&["node", "drain", "build-1", "--deadline", "30m", "--dry-run"]), @"
    exit 0
    --- stdout
    --- stderr
    node build-1 would be drained: 1 run is on it; what goes on for 30m is stopped, the work saved first
    ");
    insta::assert_snapshot!(server.shown(&["node", "drain", "build-1", "--no-wait"]), @"
    exit 0
    --- stdout
    --- stderr
    node build-1 is being drained: 1 run is on it and may go on until the end
    ");
    let asked: Vec<DrainNodeRequest> = server.heard("DrainNode");
    assert!(asked[0].validate_only && asked[0].deadline.unwrap().seconds == 1800);
    assert!(!asked[1].validate_only && asked[1].deadline.is_none());
}

#[test]
fn it_waits_until_no_run_is_left_and_says_what_became_of_each() {
    let server = at_work();
    server.says("GetNode", &GetNodeResponse { node: Some(node(1, true)) });
    server.says("GetNode", &GetNodeResponse { node: Some(node(0, true)) });
    let run = Run {
        outcome: RunOutcome::Stopped.into(),
        detail: "the drain of build-1 by user:me".into(),
        ..Default::default()
    };
    let stopped = Session { last_run: Some(run), ..placed("fix", SessionState::Ready, SessionWanted::Ready) };
    server.says("GetSession", &GetSessionResponse { session: Some(stopped) });
    insta::assert_snapshot!(server.shown(&["node", "drain", "build-1", "--deadline", "0s", "--yes"]), @"
    exit 0
    --- stdout
    --- stderr
    fix: stopped(the drain of build-1 by user:me)
    node build-1 is drained: no run is left on it; 3 sessions keep their files there
    `droverctl node uncordon build-1` lets runs begin again
    ");
    let shown = server.run(&["node", "get", "build-1"]).stdout;
    assert!(shown.contains("reachable, drained"), "{shown}");
    assert!(shown.contains("by user:me for 1m") && shown.contains("0 runs are left"), "{shown}");
}

#[test]
fn a_drain_that_somebody_ends_is_a_conflict_and_one_that_takes_too_long_goes_on() {
    let server = at_work();
    server.says("GetNode", &GetNodeResponse { node: Some(node(1, false)) });
    insta::assert_snapshot!(server.shown(&["node", "drain", "build-1"]), @"
    exit 4
    --- stdout
    --- stderr
    error: node 'build-1' was uncordoned, which ended its drain
    ");
    let server = at_work();
    server.says("GetNode", &GetNodeResponse { node: Some(node(1, true)) });
    insta::assert_snapshot!(server.shown(&["node", "drain", "build-1", "--wait-timeout", "100ms"]), @"
    exit 7
    --- stdout
    --- stderr
    error: waited for 0s, and 1 run is left on node 'build-1'
       next: the drain goes on; droverctl node get shows how far it is
    ");
}
