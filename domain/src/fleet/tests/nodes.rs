//! Nodes: how they join, are lost, return and are revoked, and what counts of what they say.

use super::*;

#[test]
fn a_session_on_a_revoked_node_can_be_removed_and_then_the_node() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    world.schedule();
    let node = world.nodes[0].id;
    world.user(Wish::RevokeNode { node }).unwrap();
    assert!(matches!(world.user(Wish::RemoveNode { node }), Err(Refused::NodeInUse { .. })));
    world.user(Wish::DeleteSession { session: id, removal: Removal::default() }).unwrap();
    let State::Cleaned { kept } = &world.fleet.session(id).unwrap().state else { panic!("it is over") };
    assert!(kept.reasons[0].contains("stays there"), "{kept:?}");
    world.user(Wish::RemoveNode { node }).unwrap();
}

#[test]
fn a_report_of_an_older_placement_is_heard_and_has_no_effect() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    world.schedule();
    let before = world.fleet.session(id).unwrap().clone();
    let report = Report {
        node: world.nodes[0].id,
        sequence: 1,
        session: id,
        fence: Fence { generation: 0, epoch: 7 },
        observation: Observation::WorkspaceReady(Workspace {
            path: "/w".into(),
            branch: "b".into(),
            base_commit: "c".into(),
        }),
    };
    assert_eq!(world.must(Actor::Node(report.node), Wish::Report(Box::new(report))), Answer::Heard);
    assert_eq!(world.fleet.session(id), Some(&before));
    assert_eq!(world.changes.last().unwrap().kind, Kind::ReportIgnored);
    assert_eq!(world.fleet.node(world.nodes[0].id).unwrap().acknowledged, 1);
}

#[test]
fn a_join_token_is_good_once_and_for_a_while() {
    let mut world = World::new(0, 1);
    let token = TokenId::from_random([1; 10]);
    let join = |world: &mut World, node: u8, secret: u8| {
        let enrollment = Enrollment {
            token,
            secret_hash: [secret; 32],
            node: NodeId::from_random([node; 10]),
            name: None,
            facts: facts(1),
        };
        world.submit(Actor::Controller, Wish::Enroll(Box::new(enrollment))).map(drop)
    };
    assert_eq!(join(&mut world, 1, 1), Err(Refused::TokenWrong));
    world
        .must(Actor::User("me".into()), Wish::CreateToken { id: token, secret_hash: [1; 32], lasts: SECOND });
    assert_eq!(join(&mut world, 1, 2), Err(Refused::TokenWrong));
    world.now = world.now.after(SECOND);
    assert_eq!(join(&mut world, 1, 1), Err(Refused::TokenExpired));
    world.now = Timestamp::from_millis(1_000);
    assert_eq!(join(&mut world, 1, 1), Ok(()));
    assert_eq!(join(&mut world, 2, 1), Err(Refused::TokenUsed));
}

#[test]
fn a_copied_agent_is_refused_by_its_cookie() {
    let mut world = World::new(1, 1);
    let node = world.nodes[0].id;
    let old = world.nodes[0].cookie;
    let link =
        |shown, next| Wish::Link { node, facts: Box::new(facts(1)), shown, next, witness: Box::default() };
    world.must(Actor::Node(node), link(old, [7; 32]));
    world.must(Actor::Node(node), link(Some([7; 32]), [8; 32]));
    assert!(matches!(world.submit(Actor::Node(node), link(old, [9; 32])), Err(Refused::CookieStale(_))));
}

#[test]
fn a_lost_node_that_returns_gets_its_sessions_back_as_they_were() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    world.schedule();
    world.converge(0, false);
    world.converge(0, false);
    world.deliver(0, false);
    let node = world.nodes[0].id;
    let running = world.fleet.session(id).unwrap().state.clone();
    world.must(Actor::Controller, Wish::SetStanding { node, standing: Standing::Lost });
    assert_eq!(world.fleet.session(id).unwrap().state.kind(), StateKind::Orphaned);
    assert_eq!(world.fleet.slots_used(node), 1, "it may still run there");
    world.link(0, 1);
    assert_eq!(world.fleet.session(id).unwrap().state, running);
}
