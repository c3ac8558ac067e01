//! Random command sequences against the promises that are the domain's: whatever anybody asks in whatever order, late
//! or twice, the fleet stays consistent and no run is ever doubled or forgotten.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Create(u8, u32),
    Start(usize),
    Stop(usize),
    Delete(usize),
    Hold(usize),
    Release(usize),
    Reset(usize, bool),
    Extend(usize),
    Schedule,
    Converge(usize, bool),
    Deliver(usize, bool),
    Lose(usize),
    Return(usize),
    Cordon(usize, bool),
    Drain(usize, Option<u16>),
    Fault(usize),
    Forget(usize),
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..2_usize;
    let one = 0..6_usize;
    let step = prop_oneof![
        2 => (0..4_u8, 0..3_u32).prop_map(|(name, restarts)| Step::Create(name, restarts)),
        1 => one.clone().prop_map(Step::Start),
        1 => one.clone().prop_map(Step::Stop),
        1 => one.clone().prop_map(Step::Delete),
        1 => one.clone().prop_map(Step::Hold),
        1 => one.clone().prop_map(Step::Release),
        1 => (one.clone(), any::<bool>()).prop_map(|(at, hard)| Step::Reset(at, hard)),
        1 => one.clone().prop_map(Step::Extend),
        3 => Just(Step::Schedule),
        4 => (node.clone(), any::<bool>()).prop_map(|(at, ends)| Step::Converge(at, ends)),
        3 => (node.clone(), any::<bool>()).prop_map(|(at, keep)| Step::Deliver(at, keep)),
        1 => node.clone().prop_map(Step::Lose),
        1 => node.clone().prop_map(Step::Return),
        1 => (node.clone(), any::<bool>()).prop_map(|(at, on)| Step::Cordon(at, on)),
        1 => (node, proptest::option::of(0..2_000_u16)).prop_map(|(at, within)| Step::Drain(at, within)),
        1 => one.clone().prop_map(Step::Fault),
        1 => one.prop_map(Step::Forget),
        1 => (0..2_000_u16).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..80)
}

fn take(world: &mut World, step: Step) {
    let pick = |world: &World, at: usize| world.fleet.sessions().nth(at).map(|session| session.id);
    let each = |world: &mut World, at: usize, wish: fn(SessionId) -> Wish| {
        if let Some(id) = pick(world, at) {
            // A refusal is an answer; that it changes nothing is checked by what follows.
            drop(world.user(wish(id)));
        }
    };
    match step {
        Step::Create(name, restarts) => {
            let restart = if restarts == 0 { Restart::Never } else { Restart::OnFailure(restarts) };
            drop(world.create(&format!("s{name}"), |parts| parts.restart = restart));
        }
        Step::Start(at) => each(world, at, |session| Wish::StartSession { session, resume: false }),
        Step::Stop(at) => each(world, at, |session| Wish::StopSession { session, grace: None }),
        Step::Delete(at) => {
            each(world, at, |session| Wish::DeleteSession { session, removal: Removal::default() })
        }
        Step::Hold(at) => {
            each(world, at, |session| Wish::HoldSession { session, lasts: Some(SECOND), reason: "r".into() })
        }
        Step::Release(at) => each(world, at, |session| Wish::ReleaseSession { session }),
        Step::Reset(at, true) => each(world, at, |session| Wish::ResetSession { session, hard: true }),
        Step::Reset(at, false) => each(world, at, |session| Wish::ResetSession { session, hard: false }),
        Step::Extend(at) => each(world, at, |session| Wish::ExtendSession { session, by: SECOND }),
        Step::Forget(at) => each(world, at, |session| Wish::Forget { session }),
        Step::Schedule => {
            world.drain();
            world.schedule();
        }
        Step::Converge(at, ends) => world.converge(at, ends),
        Step::Deliver(at, keep) => world.deliver(at, keep),
        Step::Lose(at) => {
            let node = world.nodes[at].id;
            world.must(Actor::Controller, Wish::SetStanding { node, standing: Standing::Lost });
        }
        Step::Return(at) => world.link(at, 2),
        Step::Cordon(at, cordoned) => {
            let node = world.nodes[at].id;
            drop(world.user(Wish::Cordon { node, cordoned }));
        }
        Step::Drain(at, within) => {
            let (node, within) =
                (world.nodes[at].id, within.map(|seconds| Duration::from_secs(seconds.into())));
            drop(world.user(Wish::Drain { node, within }));
        }
        Step::Fault(at) => fault(world, at),
        Step::Wait(seconds) => world.now = world.now.after(Duration::from_secs(seconds.into())),
    }
}

/// The node of a session that is being made says that it cannot.
fn fault(world: &mut World, at: usize) {
    let Some(session) = world.fleet.sessions().nth(at).cloned() else { return };
    let (State::Creating { placement, .. }, Some(assignment)) =
        (&session.state, world.fleet.assignment(&session))
    else {
        return;
    };
    let Some(node) = world.nodes.iter().position(|node| node.id == placement.node) else { return };
    let fresh = Local { fence: assignment.fence, ..Local::default() };
    let local = world.nodes[node].local.entry(session.id).or_insert(fresh);
    if local.site != Site::Nothing || local.faulted == Some(assignment.attempt) {
        return;
    }
    local.faulted = Some(assignment.attempt);
    let fault = Fault {
        code: FaultCode::DiskFull,
        step: "s".into(),
        text: "t".into(),
        hint: "h".into(),
        retryable: true,
    };
    world.observe(node, &assignment, Observation::Faulted(fault));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("DROVER_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400)))]

    #[test]
    fn whatever_is_asked_the_fleet_stays_consistent_and_gets_where_it_is_wanted(steps in steps()) {
        let mut world = World::new(2, 2);
        for step in steps {
            take(&mut world, step);
            world.check();
        }
        for at in 0..2 {
            let node = world.nodes[at].id;
            drop(world.user(Wish::Cordon { node, cordoned: false }));
        }
        let held: Vec<_> = world.fleet.sessions().filter(|s| s.hold.is_some()).map(|s| s.id).collect();
        for session in held {
            drop(world.user(Wish::ReleaseSession { session }));
        }
        world.settle();
        for session in world.fleet.sessions() {
            let arrived = matches!(
                (&session.state, session.wanted),
                (State::Cleaned { .. }, Wanted::Cleaned(_)) | (State::Ready { .. }, Wanted::Ready) | (State::Error { .. }, _)
            );
            prop_assert!(arrived, "it did not get where it is wanted: {session:?}");
            if let State::Ready { placement } = &session.state {
                prop_assert!(!session.wants_rebuild(), "a workspace that was to be made anew was not: {session:?}");
                let node = world.nodes.iter().find(|node| node.id == placement.node).unwrap();
                prop_assert_eq!(node.local[&session.id].rebuild, session.rebuilt);
            }
        }
        let replayed = world.changes.iter().fold(Fleet::new(world.fleet.installation, 1), |mut fleet, change| {
            fleet.apply(change);
            fleet
        });
        prop_assert_eq!(&replayed.sessions, &world.fleet.sessions);
        prop_assert_eq!(&replayed.nodes, &world.fleet.nodes);
    }
}
