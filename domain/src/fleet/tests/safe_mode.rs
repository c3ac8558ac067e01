//! Safe mode refuses new work with its reason, and hinders nothing else.

use super::*;
use crate::session::Queue;

fn set(node: Option<NodeId>, on: bool, reason: &str, automatic: bool) -> Wish {
    Wish::SetSafeMode { node, on, reason: reason.into(), automatic }
}

/// One session that runs, one that is ready, and one that waits for a slot.
fn busy() -> (World, [SessionId; 3]) {
    let mut world = World::new(1, 2);
    let ids = ["a", "b"].map(|name| {
        world
            .create(name, |parts| {
                parts.limits.timeout = Some(SECOND);
            })
            .unwrap()
    });
    world.schedule();
    for _ in 0..2 {
        world.converge(0, false);
        world.deliver(0, false);
    }
    world.user(Wish::StopSession { session: ids[1], grace: None }).unwrap();
    world.converge(0, false);
    world.deliver(0, false);
    let waiting = world.create("c", |_| {}).unwrap();
    (world, [ids[0], ids[1], waiting])
}

fn why(world: &World, id: SessionId) -> String {
    placement::wait(&world.fleet, world.fleet.session(id).unwrap(), world.now).unwrap().to_string()
}

#[test]
fn new_work_is_refused_everywhere_or_waits_for_the_node_and_says_why() {
    let (mut world, [_, ready, waiting]) = busy();
    world.user(set(None, true, "the disk is full", false)).unwrap();
    let refused = world.create("d", |_| {}).unwrap_err();
    assert_eq!(refused, Refused::SafeMode { reason: "the disk is full".into() });
    world.user(Wish::StartSession { session: ready, resume: false }).unwrap();
    world.schedule();
    for id in [ready, waiting] {
        assert_eq!(why(&world, id), "host-example: safe mode (the disk is full)");
        let session = &world.fleet.session(id).unwrap().state;
        assert!(matches!(session, State::Queued(Queue::Place | Queue::Slot(_))), "{session:?}");
    }
    let (node, run) = (world.nodes[0].id, RunId::from_random([1; 10]));
    let forced = world.submit(Actor::Controller, Wish::Place { session: waiting, node, run });
    assert!(matches!(forced, Err(Refused::NodeUnfit(..))), "the scheduler's plan may be older");
    let forced = world.submit(Actor::Controller, Wish::Grant { session: ready, run });
    assert!(matches!(forced, Err(Refused::NodeUnfit(..))));
    world.user(set(None, false, "", false)).unwrap();
    world.user(set(Some(node), true, "too much is gone", false)).unwrap();
    let late = world.create("d", |_| {}).expect("another node may take it");
    world.schedule();
    assert_eq!(why(&world, late), "host-example: safe mode (too much is gone)");
    world.user(set(Some(node), false, "", false)).unwrap();
    assert_eq!(placement::plan(&world.fleet, world.now).moves.len(), 1, "work goes on");
}

#[test]
fn what_is_there_is_stopped_extended_held_reset_and_removed_as_ever() {
    for node in [true, false] {
        let (mut world, [running, ready, waiting]) = busy();
        let node = node.then(|| world.nodes[0].id);
        world.user(set(node, true, "r", false)).unwrap();
        let removal = Removal::default();
        let wishes = [
            Wish::HoldSession { session: waiting, lasts: None, reason: "r".into() },
            Wish::ReleaseSession { session: waiting },
            Wish::ResetSession { session: ready, hard: false },
            Wish::StopSession { session: running, grace: None },
            Wish::DeleteSession { session: waiting, removal },
            Wish::DeleteSession { session: ready, removal },
            Wish::DeleteSession { session: running, removal },
        ];
        for wish in wishes {
            world.user(wish.clone()).unwrap_or_else(|refused| panic!("{wish:?}: {refused}"));
        }
        world.converge(0, false);
        world.deliver(0, false);
        world.converge(0, false);
        world.deliver(0, false);
        for session in world.fleet.sessions() {
            assert!(matches!(session.state, State::Cleaned { .. }), "{:?}", session.state);
        }
    }
}

#[test]
fn a_run_goes_on_and_gets_more_time_in_safe_mode() {
    let (mut world, [running, ..]) = busy();
    world.user(set(None, true, "r", true)).unwrap();
    let before = world.fleet.session(running).unwrap().state.live().unwrap().clone();
    world.converge(0, false);
    world.deliver(0, false);
    assert_eq!(world.fleet.session(running).unwrap().state.live(), Some(&before));
    let extended = world.user(Wish::ExtendSession { session: running, by: SECOND });
    // Its node told no deadline; that, and not safe mode, is why.
    assert!(!matches!(extended, Err(Refused::SafeMode { .. })), "{extended:?}");
}

#[test]
fn what_a_person_set_is_a_persons_to_end() {
    let mut world = World::new(1, 1);
    let place = Some(world.nodes[0].id);
    let mode = |world: &World| {
        world
            .fleet
            .safe_mode(place)
            .map(|mode| (mode.reason.to_string(), mode.by.to_string(), mode.automatic))
    };
    let automatic = |world: &mut World, on, reason| {
        world.must(Actor::Controller, set(place, on, reason, true));
        mode(world)
    };
    let theirs = |reason: &str| Some((reason.to_owned(), "user:me".to_owned(), false));
    world.user(set(place, true, "theirs", false)).unwrap();
    let before = world.fleet.revision();
    assert_eq!(automatic(&mut world, true, "ours"), theirs("theirs"));
    assert_eq!(automatic(&mut world, false, "ours"), theirs("theirs"));
    world.user(set(place, true, "theirs", false)).unwrap();
    assert_eq!(world.fleet.revision(), before, "nothing changed");
    world.user(set(place, false, "", false)).unwrap();
    assert_eq!(mode(&world), None);
    assert!(automatic(&mut world, true, "ours").is_some_and(|(.., automatic)| automatic));
    let since = world.fleet.safe_mode(place).unwrap().since;
    world.now = world.now.after(SECOND);
    world.user(set(place, true, "ours", false)).unwrap();
    assert_eq!(mode(&world), theirs("ours"), "a person may make it theirs");
    assert_eq!(world.fleet.safe_mode(place).unwrap().since, since);
    assert_eq!(automatic(&mut world, false, ""), theirs("ours"));
    world.user(set(place, false, "", false)).unwrap();
    automatic(&mut world, true, "ours");
    assert_eq!(automatic(&mut world, false, ""), None, "its own it may end");
}

#[test]
fn a_node_that_is_removed_takes_its_safe_mode_along() {
    let mut world = World::new(1, 1);
    let node = world.nodes[0].id;
    world.user(set(Some(node), true, "r", false)).unwrap();
    world.user(set(None, true, "r", false)).unwrap();
    world.user(Wish::RemoveNode { node }).unwrap();
    assert_eq!(world.fleet.safe_mode(Some(node)), None);
    assert!(world.fleet.safe_mode(None).is_some());
    assert_eq!(world.user(set(Some(node), true, "r", false)), Err(Refused::NodeUnknown(node)));
}
