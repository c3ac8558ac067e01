//! Drains: what begins no more, what goes on, what is stopped when, and what ends it.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Two sessions with a run on the only node, whose run of the second is only ordered.
fn at_work() -> (World, NodeId, [SessionId; 2]) {
    let mut world = World::new(1, 3);
    let ids = ["a", "b"].map(|name| world.create(name, |_| {}).unwrap());
    world.schedule();
    world.converge(0, false);
    world.deliver(0, false);
    world.schedule();
    world.converge(0, false);
    world.deliver(0, false);
    let node = world.nodes[0].id;
    assert_eq!(left(&world), 2);
    (world, node, ids)
}

fn left(world: &World) -> usize {
    drain::runs_left(&world.fleet, world.fleet.node(world.nodes[0].id).unwrap())
}

fn stops(world: &World) -> Vec<SessionId> {
    drain::plan(&world.fleet, world.now).stops
}

fn waits(world: &World, session: SessionId) -> String {
    let session = world.fleet.session(session).unwrap();
    placement::wait(&world.fleet, session, world.now).unwrap().to_string()
}

#[test]
fn nothing_begins_on_a_node_that_is_drained_and_what_runs_goes_on() {
    let (mut world, node, [a, _]) = at_work();
    world.user(Wish::Drain { node, within: None }).unwrap();
    assert!(world.fleet.node(node).unwrap().cordoned);
    let new = world.create("new", |_| {}).unwrap();
    world.user(Wish::StopSession { session: a, grace: None }).unwrap();
    world.converge(0, false);
    world.deliver(0, false);
    world.user(Wish::StartSession { session: a, resume: false }).unwrap();
    world.now = world.now.after(MINUTE * 1000);
    world.schedule();
    assert_eq!(stops(&world), [], "without a deadline runs end by themselves");
    assert_eq!(left(&world), 1);
    for session in [new, a] {
        assert!(waits(&world, session).contains("draining"), "{}", waits(&world, session));
    }
    // Nor does a plan that was made before.
    for wish in [
        Wish::Place { session: new, node, run: RunId::from_random([77; 10]) },
        Wish::Grant { session: a, run: RunId::from_random([78; 10]) },
    ] {
        let refused = world.submit(Actor::Controller, wish).unwrap_err();
        assert!(matches!(refused, Refused::NodeUnfit(..)), "{refused}");
    }
    world.user(Wish::Cordon { node, cordoned: false }).unwrap();
    assert_eq!(world.fleet.node(node).unwrap().drain, None);
    world.schedule();
    assert_eq!(left(&world), 3, "uncordoned, all go on");
}

#[test]
fn at_its_deadline_what_still_runs_is_stopped_once_and_is_ready_afterwards() {
    let (mut world, node, [a, b]) = at_work();
    world.user(Wish::StopSession { session: b, grace: Some(MINUTE) }).unwrap();
    world.user(Wish::Drain { node, within: Some(MINUTE) }).unwrap();
    let (begun, deadline) = (world.now, world.now.after(MINUTE));
    for (passed, expected) in [(0, vec![]), (59, vec![]), (60, vec![a]), (600, vec![a])] {
        world.now = begun.after(Duration::from_secs(passed));
        let plan = drain::plan(&world.fleet, world.now);
        assert_eq!(plan.stops, expected, "{passed}");
        assert_eq!(plan.look_again, (passed < 60).then_some(deadline));
    }
    world.drain();
    let session = world.fleet.session(a).unwrap();
    assert_eq!(session.wanted, Wanted::Ready);
    let halt = session.halt.clone().unwrap();
    assert!(halt.by.contains("drain of") && halt.by.contains("me") && halt.grace.is_none(), "{halt:?}");
    assert_eq!(world.fleet.session(b).unwrap().halt.as_ref().unwrap().grace, Some(MINUTE), "stopped already");
    world.converge(0, false);
    world.deliver(0, false);
    assert_eq!(left(&world), 0);
    assert_eq!(world.fleet.session(a).unwrap().state.kind(), StateKind::Ready);
    assert!(world.fleet.node(node).unwrap().drain.is_some(), "it stays empty");
    world.check();
}

#[test]
fn a_stop_that_comes_after_its_drain_was_ended_or_put_off_stops_nothing() {
    let (mut world, node, [a, b]) = at_work();
    world.user(Wish::Drain { node, within: Some(Duration::ZERO) }).unwrap();
    assert_eq!(stops(&world), [a, b]);
    let before = world.fleet.node(node).unwrap().drain.clone().unwrap();
    world.now = world.now.after(SECOND);
    world.user(Wish::Drain { node, within: Some(MINUTE) }).unwrap();
    assert_eq!(world.fleet.node(node).unwrap().drain.as_ref().unwrap().since, before.since);
    let stop = |world: &mut World| world.must(Actor::Controller, Wish::StopForDrain { session: a });
    stop(&mut world);
    assert_eq!((left(&world), world.fleet.session(a).unwrap().wanted), (2, Wanted::Running));
    world.user(Wish::Cordon { node, cordoned: false }).unwrap();
    world.now = world.now.after(MINUTE);
    stop(&mut world);
    assert_eq!((stops(&world), world.fleet.session(a).unwrap().wanted), (vec![], Wanted::Running));
}

#[test]
fn neither_a_link_nor_a_loss_nor_a_cordon_ends_a_drain_and_runs_out_of_sight_are_left() {
    let (mut world, node, _) = at_work();
    world.user(Wish::Drain { node, within: Some(MINUTE) }).unwrap();
    let drained = world.fleet.node(node).unwrap().drain.clone();
    world.must(Actor::Controller, Wish::SetStanding { node, standing: Standing::Lost });
    world.user(Wish::Cordon { node, cordoned: true }).unwrap();
    assert_eq!(left(&world), 2, "nobody saw them end");
    world.now = world.now.after(MINUTE);
    world.drain();
    world.link(0, 3);
    assert_eq!(world.fleet.node(node).unwrap().drain, drained);
    world.converge(0, false);
    world.deliver(0, false);
    assert_eq!(left(&world), 0, "they are stopped as soon as the node hears of it");
}

#[test]
fn a_failed_run_on_a_drained_node_waits_for_its_restart_until_the_drain_is_over() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |parts| parts.restart = Restart::OnFailure(5)).unwrap();
    for _ in 0..2 {
        world.schedule();
        world.converge(0, false);
        world.deliver(0, false);
    }
    let node = world.nodes[0].id;
    world.user(Wish::Drain { node, within: None }).unwrap();
    world.converge(0, true);
    world.deliver(0, false);
    world.now = world.now.after(MINUTE * 60);
    world.schedule();
    assert_eq!(left(&world), 0);
    assert!(waits(&world, id).contains("draining"), "{}", waits(&world, id));
}
