//! A small world for the fleet's tests: nodes that do what they are told, and the promises that are the domain's, looked at
//! after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::actor::Actor;
use crate::change::Kind;
use crate::command::{Command, Enrollment, NewSession, Observation, Report, Wish};
use crate::converge::{self, Action, Local, LocalRun, Site};
use crate::drain;
use crate::fence::Fence;
use crate::id::RunId;
use crate::node::{Holding, NodeFacts, Standing, Witness};
use crate::outcome::{Cause, Outcome, Usage};
use crate::placement::{self, Move};
use crate::refused::Refused;
use crate::session::{
    Fault, FaultCode, Halt, Handle, Kept, Order, Removal, State, StateKind, Wanted, Workspace,
};
use crate::spec::{Parts, Restart, Spec};

mod adoption;
mod drains;
mod life;
mod nodes;
mod queue;
mod random;
mod safe_mode;
mod sessions;
mod upkeep;
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
    /// What it was told to be durable.
    acknowledged: u64,
}

impl FakeNode {
    fn witness(&self) -> Witness {
        let newest = |run| match run {
            LocalRun::None => (0, None),
            LocalRun::Starting(order) | LocalRun::Live(order) => (order.ordinal, Some(order.run)),
            LocalRun::Ended(order) => (order.ordinal, None),
        };
        let held = self.local.iter().map(|(session, local)| {
            let (ordinal, run) = newest(local.run);
            Holding { session: *session, fence: local.fence, ordinal, run }
        });
        Witness { acknowledged: self.acknowledged, held: held.collect() }
    }
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
                acknowledged: 0,
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

    /// Stops what drains do not wait for any longer.
    fn drain(&mut self) {
        for session in drain::plan(&self.fleet, self.now).stops {
            self.must(Actor::Controller, Wish::StopForDrain { session });
        }
        assert_eq!(drain::plan(&self.fleet, self.now).stops, [], "once is enough");
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
        let wish = Wish::Link {
            node: node.id,
            facts: Box::new(facts(slots)),
            shown: node.cookie,
            next,
            witness: Box::new(node.witness()),
        };
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
                local.site = Site::Nothing;
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
            self.nodes[at].acknowledged = self.nodes[at].sequence;
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
