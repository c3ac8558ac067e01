//! Sessions: their names, their stops and their removal.

use super::*;

#[test]
fn a_name_is_free_again_once_its_session_is_cleaned() {
    let mut world = World::new(1, 1);
    let first = world.create("a", |_| {}).unwrap();
    assert!(matches!(world.create("a", |_| {}), Err(Refused::NameTaken { .. })));
    world.user(Wish::DeleteSession { session: first, removal: Removal::default() }).unwrap();
    assert!(world.create("a", |_| {}).is_ok());
}

#[test]
fn a_session_whose_stop_is_not_confirmed_is_not_started() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    world.schedule();
    world.converge(0, false);
    world.converge(0, false);
    world.deliver(0, false);
    assert_eq!(world.fleet.session(id).unwrap().state.kind(), StateKind::Running);
    world.user(Wish::StopSession { session: id, grace: None }).unwrap();
    assert!(matches!(
        world.user(Wish::StartSession { session: id, resume: false }),
        Err(Refused::WrongState { .. })
    ));
    world.converge(0, false);
    world.deliver(0, false);
    assert_eq!(world.fleet.session(id).unwrap().state.kind(), StateKind::Ready);
    assert!(world.user(Wish::StartSession { session: id, resume: false }).is_ok());
}

#[test]
fn a_stop_says_who_ordered_it_and_asked_again_only_another_grace_changes_something() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    world.schedule();
    let halt = |world: &World| {
        let session = world.fleet.session(id).unwrap();
        world.fleet.assignment(session).unwrap().halt
    };
    let stop = |world: &mut World, grace| {
        let before = world.fleet.revision();
        world.user(Wish::StopSession { session: id, grace }).unwrap();
        world.fleet.revision() > before
    };
    assert_eq!(halt(&world), None);
    assert!(stop(&mut world, None));
    let by = |grace| Some(Halt { by: "user:me".into(), grace });
    assert_eq!(halt(&world), by(None));
    assert!(!stop(&mut world, None), "nothing new");
    assert!(stop(&mut world, Some(SECOND)));
    assert_eq!(halt(&world), by(Some(SECOND)));
    assert!(!stop(&mut world, Some(SECOND)) && !stop(&mut world, None), "nothing new");
    world.converge(0, false);
    world.deliver(0, false);
    assert!(!stop(&mut world, Some(SECOND * 2)), "nothing is left to be stopped");
    world.user(Wish::StartSession { session: id, resume: false }).unwrap();
    world.schedule();
    assert_eq!(halt(&world), None);
}

#[test]
fn an_id_prefix_finds_its_sessions() {
    let mut world = World::new(1, 1);
    let ids: Vec<_> = ["a", "b", "c"].map(|name| world.create(name, |_| {}).unwrap()).into();
    assert_eq!(world.fleet.sessions_with_prefix("ses_", 9).len(), 3);
    let prefix = &ids[1].to_string()[..7];
    assert_eq!(
        world.fleet.sessions_with_prefix(prefix, 9).iter().map(|s| s.id).collect::<Vec<_>>(),
        [ids[1]]
    );
    assert!(world.fleet.sessions_with_prefix("ses_777", 9).is_empty());
}

#[test]
fn a_removed_session_holds_its_slot_until_its_stop_is_confirmed() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    world.schedule();
    world.converge(0, false);
    world.converge(0, false);
    world.deliver(0, false);
    world.user(Wish::DeleteSession { session: id, removal: Removal::default() }).unwrap();
    let node = world.nodes[0].id;
    assert_eq!(world.fleet.slots_used(node), 1);
    world.converge(0, false);
    world.deliver(0, false);
    assert_eq!(world.fleet.slots_used(node), 0);
    assert_eq!(world.fleet.session(id).unwrap().state.kind(), StateKind::Cleaning);
}

#[test]
fn a_session_that_is_removed_while_its_workspace_is_made_anew_is_gone() {
    let mut world = World::new(1, 2);
    let id = world.create("a", |_| {}).unwrap();
    world.schedule();
    world.converge(0, false);
    world.deliver(0, false);
    world.user(Wish::ResetSession { session: id, hard: true }).unwrap();
    world.converge(0, false);
    world.deliver(0, false);
    world.schedule();
    // The old one is cleared away, and the new one not begun.
    world.converge(0, false);
    world.user(Wish::DeleteSession { session: id, removal: Removal::default() }).unwrap();
    world.converge(0, false);
    world.deliver(0, false);
    let state = world.fleet.session(id).map(|session| session.state.kind());
    assert_eq!(state, Some(StateKind::Cleaned));
}
