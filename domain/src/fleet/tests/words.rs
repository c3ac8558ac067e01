//! What a person reads: what happens next, what is known of a session, why something was refused.

use super::*;
use crate::condition::{self, Truth};
use crate::outlook;
use crate::refused::Reason;

fn next(world: &World, id: SessionId) -> String {
    outlook::next(&world.fleet, world.fleet.session(id).unwrap(), world.now)
}

fn step(world: &mut World) {
    world.schedule();
    world.converge(0, false);
    world.deliver(0, false);
}

#[test]
fn what_happens_next_is_said_for_every_way_that_a_session_can_stand() {
    let mut world = World::new(1, 1);
    let limits = |parts: &mut Parts| {
        parts.limits.queue_timeout = Some(SECOND * 60);
        parts.limits.idle_timeout = Some(SECOND * 30);
        parts.restart = Restart::OnFailure(2);
    };
    let id = world.create("a", limits).unwrap();
    let late = world.create("b", |parts| parts.resume = crate::spec::Resume::Never).unwrap();
    assert!(
        next(&world, id).starts_with("it is placed as soon as this is no longer so:"),
        "{}",
        next(&world, id)
    );
    assert!(next(&world, id).ends_with("given up in 60 s, by its queue timeout"));
    world.schedule();
    assert_eq!(next(&world, id), "its workspace is made, then its run is started");
    assert!(next(&world, late).contains("all 1 slots taken"), "{}", next(&world, late));
    step(&mut world);
    step(&mut world);
    assert_eq!(
        next(&world, id),
        "its run goes on until it ends; it is stopped after 30 s without a sign of life; if it fails it is started \
         again, 0 of 2 times used; if its machine takes it along it is resumed"
    );
    world.user(Wish::ResetSession { session: id, hard: true }).unwrap();
    assert_eq!(next(&world, id), "its run ends, as user:me asked; then its workspace is made anew");
    world.user(Wish::StopSession { session: id, grace: Some(SECOND) }).unwrap();
    step(&mut world);
    world.user(Wish::HoldSession { session: late, lasts: None, reason: "tea".into() }).unwrap();
    assert!(next(&world, late).contains("tea"), "{}", next(&world, late));
    for _ in 0..4 {
        step(&mut world);
    }
    assert_eq!(next(&world, id), "nothing: its workspace stays until somebody starts, resets or removes it");
    let node = world.nodes[0].id;
    world.must(Actor::Controller, Wish::SetStanding { node, standing: Standing::Lost });
    assert_eq!(next(&world, id), "it waits for its node, and is ready again when that returns");
    world.link(0, 1);
    world.user(Wish::DeleteSession { session: id, removal: Removal::default() }).unwrap();
    assert_eq!(next(&world, id), "its work is saved, then its workspace is removed");
    step(&mut world);
    assert_eq!(next(&world, id), "nothing: it was removed, and leaves the list in a while");
}

#[test]
fn what_failed_says_what_to_do_and_whether_trying_again_may_help() {
    for (retryable, expected) in
        [(true, "nothing by itself; h; droverctl start tries again"), (false, "nothing by itself; h")]
    {
        let mut world = World::new(1, 1);
        let id = world.create("a", |_| {}).unwrap();
        world.schedule();
        let assignment = world.fleet.assignment(world.fleet.session(id).unwrap()).unwrap();
        let fault = Fault {
            code: FaultCode::DiskFull,
            step: "s".into(),
            text: "t".into(),
            hint: "h".into(),
            retryable,
        };
        world.observe(0, &assignment, Observation::Faulted(fault));
        world.deliver(0, false);
        assert_eq!(next(&world, id), expected);
    }
}

#[test]
fn conditions_hold_as_long_as_the_node_can_be_asked() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |parts| parts.limits.timeout = Some(SECOND)).unwrap();
    step(&mut world);
    step(&mut world);
    let told = |world: &World| {
        let session = world.fleet.session(id).unwrap();
        let node = session.state.placement().and_then(|placement| world.fleet.node(placement.node));
        let found = condition::of(session, node.map(|node| &**node), world.now);
        found.into_iter().map(|condition| (condition.kind.word(), condition.truth)).collect::<Vec<_>>()
    };
    let all = |truth| [("NodeReachable", truth), ("WorkspacePresent", truth), ("ProcessAlive", truth)];
    assert_eq!(told(&world), all(Truth::True));
    let node = world.nodes[0].id;
    world.must(Actor::Controller, Wish::SetStanding { node, standing: Standing::Unreachable });
    let expected = [
        ("NodeReachable", Truth::False),
        ("WorkspacePresent", Truth::Unknown),
        ("ProcessAlive", Truth::Unknown),
    ];
    assert_eq!(told(&world), expected);
}

#[test]
fn a_refusal_says_what_it_is_to_programs_and_what_to_do_to_people() {
    let name = || Name::new("a").unwrap();
    let session = SessionId::from_random([1; 10]);
    let node = NodeId::from_random([1; 10]);
    let all = [
        (Refused::SessionUnknown(session), Reason::NotFound),
        (Refused::NodeUnknown(node), Reason::NotFound),
        (Refused::NodeNameUnknown(name()), Reason::NotFound),
        (Refused::TokenUnknown, Reason::NotFound),
        (
            Refused::NameTaken { project: name(), name: name(), holder: session, state: StateKind::Ready },
            Reason::AlreadyExists,
        ),
        (Refused::SessionIdTaken(session), Reason::AlreadyExists),
        (Refused::NodeNameTaken(name()), Reason::AlreadyExists),
        (Refused::RunOrderedBefore(RunId::from_random([1; 10])), Reason::AlreadyExists),
        (
            Refused::WrongState { session: name(), state: StateKind::Ready, wish: "stopped", why: "w" },
            Reason::Precondition,
        ),
        (Refused::MachineUnknown { path: "/p".into(), machine: "m".into() }, Reason::Precondition),
        (Refused::NodeUnfit(name(), "cordoned"), Reason::Precondition),
        (Refused::NodeInUse { node: name(), sessions: 2 }, Reason::Precondition),
        (Refused::TokenUsed, Reason::NotAllowed),
        (Refused::TokenExpired, Reason::NotAllowed),
        (Refused::TokenWrong, Reason::NotAllowed),
        (Refused::NodeRevoked(name()), Reason::NotAllowed),
        (Refused::CookieStale(name()), Reason::NotAllowed),
        (Refused::LimitReached { what: "sessions", there: 2, most: 2 }, Reason::Exhausted),
        (Refused::TimeUsedUp { session: name(), most: 2, what: "extensions" }, Reason::Exhausted),
    ];
    for (refused, reason) in all {
        assert_eq!(refused.reason(), reason, "{refused}");
        let is_code = refused.code().chars().all(|c| c.is_ascii_uppercase() || c == '_');
        assert!(is_code && !refused.hint().is_empty(), "{refused}");
    }
    let words: BTreeSet<_> = FaultCode::ALL.iter().map(|code| code.word()).collect();
    assert_eq!(words.len(), FaultCode::ALL.len(), "each fault has a word of its own");
}
