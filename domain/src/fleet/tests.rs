//! Random command sequences against the promises that are the domain's: whatever anybody asks in whatever order, late
//! or twice, the fleet stays consistent and no run is ever doubled or forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::actor::Actor;
use crate::change::Kind;
use crate::command::{Command, Enrollment, NewSession, Observation, Report, Wish};
use crate::converge::{self, Action, Local, LocalRun, Site};
use crate::fence::Fence;
use crate::id::RunId;
use crate::node::{NodeFacts, Standing};
use crate::outcome::{Cause, Outcome, Usage};
use crate::placement::{self, Move};
use crate::refused::Refused;
use crate::session::{
    Fault, FaultCode, Halt, Handle, Kept, Order, Removal, State, StateKind, Wanted, Workspace,
};
use crate::spec::{Parts, Restart, Spec};

mod life;
mod words;

const SECOND: Duration = Duration::from_secs(1);

/// A fleet with nodes that behave as the converge plan says, and reports that may be late, lost or doubled.
struct World {
    fleet: Fleet,
    now: Timestamp,
    made: u8,
    nodes: Vec<FakeNode>,
    changes: Vec<Change>,
}

struct FakeNode {
    id: NodeId,
    sequence: u64,
    local: BTreeMap<SessionId, Local>,
    /// Sent and not known to be acknowledged.
    outbox: Vec<Report>,
    /// How often each run was begun here.
    begun: BTreeMap<RunId, u32>,
    cookie: Option<[u8; 32]>,
}

fn facts(slots: u32) -> NodeFacts {
    NodeFacts {
        machine: "m".into(),
        hostname: "Host.example".into(),
        slots,
        capabilities: vec!["runtime/process".into(), "workspace/worktree".into()],
        ..NodeFacts::default()
    }
}

impl World {
    fn new(nodes: u8, slots: u32) -> Self {
        let fleet = Fleet::new(InstallationId::from_random([9; 10]), 1);
        let mut world =
            Self { fleet, now: Timestamp::from_millis(1_000), made: 0, nodes: vec![], changes: vec![] };
        for n in 0..nodes {
            let (token, id) = (TokenId::from_random([n; 10]), NodeId::from_random([n; 10]));
            world.must(
                Actor::User("me".into()),
                Wish::CreateToken { id: token, secret_hash: [n; 32], lasts: SECOND },
            );
            let enrollment =
                Enrollment { token, secret_hash: [n; 32], node: id, name: None, facts: facts(slots) };
            world.must(Actor::Controller, Wish::Enroll(Box::new(enrollment)));
            let node = FakeNode {
                id,
                sequence: 0,
                local: BTreeMap::new(),
                outbox: vec![],
                begun: BTreeMap::new(),
                cookie: None,
            };
            world.nodes.push(node);
            world.link(usize::from(n), slots);
        }
        world
    }

    fn submit(&mut self, actor: Actor, wish: Wish) -> Result<Answer, Refused> {
        let command = Command { actor, trace: None, wish };
        let decision = self.fleet.decide(&command, self.now)?;
        for change in &decision.changes {
            assert_eq!(change.revision, self.fleet.revision() + 1, "revisions have no gaps");
            self.check_move(change);
            self.fleet.apply(change);
            self.changes.push(change.clone());
        }
        Ok(decision.answer)
    }

    fn must(&mut self, actor: Actor, wish: Wish) -> Answer {
        self.submit(actor, wish).expect("it is allowed")
    }

    fn check_move(&self, change: &Change) {
        if let After::Node(node) | After::Heard(node) | After::Reported(_, node) = &change.after
            && let Some(before) = self.fleet.node(node.id)
        {
            assert!(node.acknowledged >= before.acknowledged, "what was acknowledged stays so");
        }
        let Some(after) = change.after.session() else { return };
        assert_eq!(after.revision, change.revision);
        match self.fleet.session(after.id) {
            None => {
                assert_eq!(after.number, change.revision, "a session's number is the revision of its birth")
            }
            Some(before) => {
                let (from, to) = (before.state.kind(), after.state.kind());
                let settled_by_report = from == StateKind::Orphaned;
                assert!(
                    from == to || from.may_become(to) || settled_by_report,
                    "{from:?} -> {to:?} by {:?}",
                    change.kind
                );
                assert!(after.epoch >= before.epoch && after.runs >= before.runs);
                assert!(before.spec == after.spec && before.number == after.number);
            }
        }
    }

    fn create(&mut self, name: &str, change: impl FnOnce(&mut Parts)) -> Result<SessionId, Refused> {
        self.made += 1;
        let mut parts = crate::spec::tests::parts();
        change(&mut parts);
        let id = SessionId::from_random([self.made; 10]);
        let new = NewSession {
            id,
            project: Name::default_project(),
            name: Name::new(name).unwrap(),
            owner: "me".into(),
            spec: Arc::new(Spec::new(parts).unwrap()),
            secrets: Secrets::default(),
            start: true,
            origin: None,
        };
        self.submit(Actor::User("me".into()), Wish::CreateSession(Box::new(new))).map(|_| id)
    }

    fn user(&mut self, wish: Wish) -> Result<Answer, Refused> {
        self.submit(Actor::User("me".into()), wish)
    }

    fn schedule(&mut self) {
        let plan = placement::plan(&self.fleet, self.now);
        for id in plan.expired {
            self.must(Actor::Controller, Wish::ExpireQueue { session: id });
        }
        for step in plan.moves {
            self.made = self.made.wrapping_add(1);
            let run = RunId::from_random([
                self.made,
                self.fleet.revision() as u8,
                (self.fleet.revision() >> 8) as u8,
                0,
                0,
                0,
                0,
                0,
                0,
                1,
            ]);
            let wish = match step {
                Move::Place(session, node) => Wish::Place { session, node, run },
                Move::Grant(session) => Wish::Grant { session, run },
            };
            self.must(Actor::Controller, wish);
        }
    }

    fn link(&mut self, at: usize, slots: u32) {
        let node = &self.nodes[at];
        let next = [self.fleet.revision() as u8; 32];
        let wish = Wish::Link { node: node.id, facts: Box::new(facts(slots)), shown: node.cookie, next };
        let actor = Actor::Node(node.id);
        self.must(actor, wish);
        self.nodes[at].cookie = Some(next);
    }

    /// The node takes its assignments and does one step for each session.
    fn converge(&mut self, at: usize, ends: bool) {
        let assignments: Vec<_> = self
            .fleet
            .placed_on(self.nodes[at].id)
            .filter_map(|session| self.fleet.assignment(session))
            .collect();
        for assignment in assignments {
            let session = assignment.session;
            let mut local = self.nodes[at]
                .local
                .remove(&session)
                .unwrap_or_else(|| Local { fence: assignment.fence, ..Local::default() });
            let seen = self.act(at, &assignment, &mut local, ends);
            self.nodes[at].local.insert(session, local);
            for observation in seen {
                self.observe(at, &assignment, observation);
            }
        }
    }

    fn act(&mut self, at: usize, assignment: &Assignment, local: &mut Local, ends: bool) -> Vec<Observation> {
        let now = self.now;
        let ended = |order: Order, outcome| Observation::RunEnded {
            run: order.run,
            started: None,
            ended: now,
            outcome,
            usage: Usage::default(),
        };
        if let (LocalRun::Live(order), true) = (local.run, ends) {
            local.run = LocalRun::Ended(order);
            // Every other end is a machine's.
            let outcome = match order.ordinal % 2 {
                0 => Outcome::Failed(1),
                _ => Outcome::Interrupted(Cause::Agent),
            };
            return vec![ended(order, outcome)];
        }
        match converge::next(Some(assignment), local) {
            Action::Rest | Action::IgnoreStale => vec![],
            Action::Refence => {
                local.fence = assignment.fence;
                vec![]
            }
            Action::Extend(_, grant) => {
                local.grant = grant;
                vec![]
            }
            Action::ClearWorkspace => {
                assert!(!matches!(local.run, LocalRun::Live(_)), "nothing is removed under a run");
                local.site = Site::Removed;
                vec![]
            }
            Action::MakeWorkspace => {
                local.site = Site::Made;
                local.rebuild = assignment.rebuild;
                let workspace = Workspace {
                    path: "/w".into(),
                    branch: assignment.branch.clone(),
                    base_commit: "c".into(),
                };
                vec![Observation::WorkspaceReady(workspace)]
            }
            Action::StartRun(order) => {
                *self.nodes[at].begun.entry(order.run).or_default() += 1;
                local.run = LocalRun::Live(order);
                let (run, handle) = (order.run, Handle::Process { pid: 1 });
                vec![Observation::RunStarted { run, started: now, deadline: None, handle }]
            }
            Action::StopRun(order) | Action::ReportNeverStarted(order) => {
                local.run = LocalRun::Ended(order);
                vec![ended(order, Outcome::Stopped("user:me".into()))]
            }
            Action::RemoveWorkspace(_) => {
                assert!(
                    !matches!(local.run, LocalRun::Live(_) | LocalRun::Starting(_)),
                    "nothing is removed under a run"
                );
                local.site = Site::Removed;
                vec![Observation::Removed(Kept::default())]
            }
        }
    }

    fn observe(&mut self, at: usize, assignment: &Assignment, observation: Observation) {
        let node = &mut self.nodes[at];
        node.sequence += 1;
        node.outbox.push(Report {
            node: node.id,
            sequence: node.sequence,
            session: assignment.session,
            fence: assignment.fence,
            observation,
        });
    }

    /// Sends what the node has; `keep`: the acknowledgement is lost, all of it will be sent again.
    fn deliver(&mut self, at: usize, keep: bool) {
        let reports = self.nodes[at].outbox.clone();
        for report in reports {
            self.must(Actor::Node(report.node), Wish::Report(Box::new(report)));
        }
        if !keep {
            self.nodes[at].outbox.clear();
        }
    }

    fn check(&self) {
        let fresh = Fleet::new(self.fleet.installation, 1).load(
            self.fleet.revision,
            self.fleet.sessions().map(|s| (s.clone(), None)),
            self.fleet.nodes().cloned(),
            self.fleet.tokens().cloned(),
        );
        assert_eq!(fresh.names, self.fleet.names);
        assert_eq!(fresh.queue, self.fleet.queue);
        assert_eq!(fresh.placed, self.fleet.placed);
        assert_eq!(fresh.numbers, self.fleet.numbers);
        for node in self.fleet.nodes() {
            assert_eq!(fresh.slots_used(node.id), self.fleet.slots_used(node.id));
            assert!(self.fleet.slots_used(node.id) <= node.facts.slots, "no node is overcommitted");
        }
        for session in self.fleet.sessions() {
            let waits = placement::wait(&self.fleet, session, self.now);
            assert_eq!(
                waits.is_some(),
                matches!(session.state, State::Queued(_)),
                "every wait has a reason: {session:?}"
            );
            if session.wanted == Wanted::Running {
                assert!(
                    !matches!(
                        session.state,
                        State::Cleaning { .. } | State::Cleaned { .. } | State::Ready { .. }
                    ),
                    "{session:?}"
                );
            }
        }
        let mut begun = BTreeSet::new();
        for node in &self.nodes {
            let live = node.local.values().filter(|local| matches!(local.run, LocalRun::Live(_))).count();
            assert!(live <= 2, "no more runs than slots, also while stops are not confirmed");
            for (run, times) in &node.begun {
                assert!(*times == 1 && begun.insert(*run), "a run is begun once, on one node");
            }
        }
    }

    /// Everything gets its time: what is wanted comes true.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.now = self.now.after(Duration::from_secs(400));
            for at in 0..self.nodes.len() {
                self.link(at, 2);
                self.converge(at, true);
                self.deliver(at, false);
            }
            self.schedule();
            self.check();
        }
    }
}

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
        1 => (node, any::<bool>()).prop_map(|(at, on)| Step::Cordon(at, on)),
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
        Step::Schedule => world.schedule(),
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
    let link = |shown, next| Wish::Link { node, facts: Box::new(facts(1)), shown, next };
    world.must(Actor::Node(node), link(old, [7; 32]));
    world.must(Actor::Node(node), link(Some([7; 32]), [8; 32]));
    assert!(matches!(world.submit(Actor::Node(node), link(old, [9; 32])), Err(Refused::CookieStale(_))));
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
