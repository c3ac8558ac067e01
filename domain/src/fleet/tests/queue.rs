//! Who is placed where, in which order, and who is given up.

use super::*;

#[test]
fn the_least_loaded_node_that_fits_is_chosen_and_the_others_say_what_is_missing() {
    let mut world = World::new(2, 2);
    for name in ["a", "b", "c", "d"] {
        world.create(name, |_| {}).unwrap();
    }
    let late = world.create("e", |_| {}).unwrap();
    let picky = world
        .create("f", |parts| parts.node_selector = crate::labels::Labels::new([("gpu", "yes")]).unwrap())
        .unwrap();
    world.schedule();
    for node in &world.nodes {
        assert_eq!(world.fleet.slots_used(node.id), 2, "load is spread");
    }
    let why =
        |id| placement::wait(&world.fleet, world.fleet.session(id).unwrap(), world.now).unwrap().to_string();
    assert_eq!(why(late), "host-example: all 2 slots taken; host-example-2: all 2 slots taken");
    assert_eq!(why(picky), "host-example: no label gpu=yes; host-example-2: no label gpu=yes");
}

#[test]
fn who_waited_longer_goes_first_and_priority_goes_before() {
    let mut world = World::new(1, 1);
    let first = world.create("a", |_| {}).unwrap();
    world.now = world.now.after(SECOND);
    world.create("b", |_| {}).unwrap();
    let urgent = world.create("c", |parts| parts.priority = 5).unwrap();
    let order: Vec<_> = world.fleet.queued().map(|session| session.id).collect();
    assert_eq!(order[..2], [urgent, first]);
}

#[test]
fn a_session_in_the_queue_for_too_long_is_given_up_with_that_reason() {
    let mut world = World::new(1, 0);
    let id = world.create("a", |parts| parts.limits.queue_timeout = Some(SECOND)).unwrap();
    let plan = placement::plan(&world.fleet, world.now);
    assert_eq!(plan.look_again, Some(world.now.after(SECOND)));
    world.now = world.now.after(SECOND);
    world.schedule();
    let State::Error { fault, .. } = &world.fleet.session(id).unwrap().state else {
        panic!("it is given up")
    };
    assert_eq!(fault.code, FaultCode::QueueTimeout);
}

#[test]
fn what_was_given_to_its_node_waits_for_it_from_then_on() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    world.schedule();
    for _ in 0..2 {
        world.converge(0, false);
        world.deliver(0, false);
    }
    world.user(Wish::StopSession { session: id, grace: None }).unwrap();
    world.converge(0, false);
    world.deliver(0, false);
    world.user(Wish::StartSession { session: id, resume: false }).unwrap();
    world.now = world.now.after(Duration::from_secs(3600));
    world.schedule();
    let session = world.fleet.session(id).unwrap();
    assert!(matches!(session.state, State::Queued(crate::session::Queue::Start(..))), "{:?}", session.state);
    assert_eq!(session.since, world.now, "its node is not late by how long the queue was");
}
