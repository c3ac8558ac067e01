//! What follows a run's end, and how a session begins anew.

use super::*;
use crate::spec::Resume;

/// One session on one node, with its first run going on.
fn running(change: impl FnOnce(&mut Parts)) -> (World, SessionId) {
    let mut world = World::new(1, 1);
    let id = world.create("a", change).unwrap();
    start(&mut world);
    (world, id)
}

/// The queue is served, and the node does what it is told.
fn start(world: &mut World) {
    world.now = world.now.after(Duration::from_secs(600));
    world.schedule();
    for _ in 0..4 {
        world.converge(0, false);
        world.deliver(0, false);
    }
}

fn report(world: &mut World, id: SessionId, make: impl FnOnce(Order) -> Observation) {
    let session = world.fleet.session(id).unwrap().clone();
    let assignment = world.fleet.assignment(&session).unwrap();
    let order = session.state.order().expect("a run goes on");
    let observation = make(order);
    if let Observation::RunEnded { .. } = observation {
        world.nodes[0].local.get_mut(&id).unwrap().run = LocalRun::Ended(order);
    }
    world.observe(0, &assignment, observation);
    world.deliver(0, false);
}

fn end(world: &mut World, id: SessionId, outcome: Outcome, lasted: Duration) {
    let started = world.now;
    world.now = world.now.after(lasted);
    let (now, usage) = (world.now, Usage::default());
    report(world, id, |order| Observation::RunEnded {
        run: order.run,
        started: Some(started),
        ended: now,
        outcome,
        usage,
    });
}

fn session(world: &World, id: SessionId) -> Session {
    Session::clone(world.fleet.session(id).unwrap())
}

#[test]
fn an_interrupted_run_is_resumed_at_once_and_its_node_is_told_that_it_resumes() {
    let (mut world, id) = running(|_| {});
    assert!(!world.fleet.assignment(&session(&world, id)).unwrap().resumes);
    end(&mut world, id, Outcome::Interrupted(Cause::Reboot), SECOND);
    assert_eq!(world.changes.last().unwrap().kind, Kind::RunInterrupted);
    let after = session(&world, id);
    assert_eq!((after.state.kind(), after.hold.clone()), (StateKind::Queued, None));
    world.schedule();
    assert!(world.fleet.assignment(&session(&world, id)).unwrap().resumes);
    start(&mut world);
    end(&mut world, id, Outcome::Succeeded, SECOND);
    let after = session(&world, id);
    assert_eq!((after.state.kind(), after.resumes), (StateKind::Ready, false));
}

#[test]
fn a_machine_that_takes_every_run_along_ends_in_an_error_and_one_that_lasts_does_not() {
    for (lasts, expected) in [(SECOND, StateKind::Error), (SECOND * 900, StateKind::Running)] {
        let (mut world, id) = running(|_| {});
        for _ in 0..6 {
            end(&mut world, id, Outcome::Interrupted(Cause::Agent), lasts);
            start(&mut world);
        }
        let after = session(&world, id);
        assert_eq!(after.state.kind(), expected);
        if let State::Error { fault, .. } = &after.state {
            assert_eq!(
                &*fault.text,
                "its runs were interrupted 6 times in a row, the last one as interrupted(agent)"
            );
            assert!(fault.hint.contains("start --resume"), "{}", fault.hint);
        }
    }
}

#[test]
fn a_session_that_shall_not_resume_is_ready_after_an_interruption() {
    let (mut world, id) = running(|parts| parts.resume = Resume::Never);
    end(&mut world, id, Outcome::Interrupted(Cause::Reboot), SECOND);
    assert_eq!(session(&world, id).state.kind(), StateKind::Ready);
    world.user(Wish::StartSession { session: id, resume: true }).unwrap();
    assert!(session(&world, id).resumes, "somebody says so");
}

#[test]
fn added_time_counts_and_is_capped_in_number_and_in_total() {
    let limits = |parts: &mut Parts| {
        parts.limits.timeout = Some(SECOND);
        parts.limits.max_extensions = Some(3);
        parts.limits.max_extension = Some(SECOND * 10);
    };
    let (mut world, id) = running(limits);
    let extend =
        |world: &mut World, seconds| world.user(Wish::ExtendSession { session: id, by: SECOND * seconds });
    assert!(matches!(extend(&mut world, 1), Err(Refused::WrongState { .. })), "it has no deadline");
    let deadline = world.now.after(SECOND);
    report(&mut world, id, |order| Observation::RunExtended { run: order.run, deadline, extensions: 1 });
    assert!(extend(&mut world, 7).is_ok());
    let run = session(&world, id).state.live().unwrap().clone();
    assert_eq!((run.deadline, run.extensions), (Some(deadline.after(SECOND * 7)), 2));
    report(&mut world, id, |order| Observation::RunExtended { run: order.run, deadline, extensions: 1 });
    let run = session(&world, id).state.live().unwrap().clone();
    assert_eq!(
        (run.deadline, run.extensions),
        (Some(deadline.after(SECOND * 7)), 2),
        "what was late is no news"
    );
    let grant = world.fleet.assignment(&session(&world, id)).unwrap().grant;
    assert_eq!((grant.total, grant.count), (SECOND * 7, 1));
    assert!(matches!(extend(&mut world, 4), Err(Refused::TimeUsedUp { .. })), "too far in all");
    assert!(extend(&mut world, 3).is_ok());
    assert!(matches!(extend(&mut world, 0), Err(Refused::TimeUsedUp { .. })), "too often");
}

#[test]
fn a_soft_reset_stops_and_a_hard_one_makes_the_workspace_anew_from_the_same_commit() {
    for hard in [false, true] {
        let (mut world, id) = running(|_| {});
        world.user(Wish::ResetSession { session: id, hard }).unwrap();
        assert_eq!(session(&world, id).state.kind(), StateKind::Running, "its stop is not confirmed");
        world.converge(0, false);
        world.deliver(0, false);
        let after = session(&world, id);
        assert_eq!(after.state.kind(), if hard { StateKind::Queued } else { StateKind::Ready });
        world.schedule();
        if hard {
            let after = session(&world, id);
            assert_eq!((after.state.kind(), &after.workspace), (StateKind::Creating, &None));
            let assignment = world.fleet.assignment(&after).unwrap();
            assert_eq!((assignment.rebuild, assignment.base_commit.as_deref()), (1, Some("c")));
        }
        start(&mut world);
        assert_eq!(session(&world, id).state.kind(), StateKind::Ready);
        assert_eq!(world.nodes[0].local[&id].rebuild, u32::from(hard));
    }
}

#[test]
fn a_reset_ends_an_error_and_a_removed_session_has_none() {
    let (mut world, id) = running(|_| {});
    let fault = Fault {
        code: FaultCode::Other,
        step: "s".into(),
        text: "t".into(),
        hint: "h".into(),
        retryable: false,
    };
    report(&mut world, id, |_| Observation::Faulted(fault));
    assert_eq!(session(&world, id).state.kind(), StateKind::Error);
    let attempt = session(&world, id).attempt;
    world.user(Wish::ResetSession { session: id, hard: false }).unwrap();
    let after = session(&world, id);
    assert_eq!((after.state.kind(), after.attempt), (StateKind::Ready, attempt + 1));
    world.user(Wish::DeleteSession { session: id, removal: Removal::default() }).unwrap();
    assert!(matches!(
        world.user(Wish::ResetSession { session: id, hard: true }),
        Err(Refused::WrongState { .. })
    ));
}
