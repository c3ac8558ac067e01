//! Where each queued session goes, and why the others wait. A pure plan over the fleet: equal input, equal plan.
//! Whoever carries it out submits each move as a command, which checks again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::fleet::Fleet;
use crate::id::{NodeId, SessionId};
use crate::name::Name;
use crate::node::{Node, Standing};
use crate::repository::Repository;
use crate::session::{Queue, Session, State};
use crate::spec::{RuntimeKind, WorkspaceKind};
use crate::time::Timestamp;

/// What to do now, and when to look again even if nothing else happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub moves: Vec<Move>,
    /// Waited longer than they may.
    pub expired: Vec<SessionId>,
    pub look_again: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Put it on a node.
    Place(SessionId, NodeId),
    /// Give it a slot on its own node.
    Grant(SessionId),
}

/// Why a node cannot take a session now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    NotReachable(Standing),
    Cordoned,
    /// New work is refused there, for this reason.
    SafeMode(Box<str>),
    /// It is being emptied.
    Draining,
    /// All of so many slots are taken.
    Full(u32),
    /// Its spec names another node.
    OtherNode,
    /// Its repository is a path on another machine.
    OtherMachine,
    Label(Box<str>, Box<str>),
    Capability(&'static str),
}

/// Why a session waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    Held {
        until: Option<Timestamp>,
        reason: Box<str>,
    },
    NoNodes,
    /// What stands in the way at each node.
    Nodes(Vec<(Name, Obstacle)>),
    /// Nothing stands in the way: the next plan takes it.
    Turn,
    /// It has its slot; the node has not reported yet.
    Node(Name),
}

/// How many moves one plan makes at most; the next one goes on.
const MOST_MOVES: usize = 256;

/// Plans the queue.
pub fn plan(fleet: &Fleet, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut room = Room::of(fleet);
    for session in fleet.queued() {
        if plan.moves.len() >= MOST_MOVES {
            break;
        }
        if let Some(deadline) = session.queue_deadline() {
            if deadline <= now {
                plan.expired.push(session.id);
                continue;
            }
            plan.look_again_at(deadline);
        }
        if session.is_held(now) {
            session.hold.iter().filter_map(|hold| hold.until).for_each(|until| plan.look_again_at(until));
        } else if let Some(step) = room.fit(fleet, session) {
            plan.moves.push(step);
        }
    }
    plan
}

/// Why this session waits. `None`: it does not.
pub fn wait(fleet: &Fleet, session: &Session, now: Timestamp) -> Option<Wait> {
    let nodes: Vec<&Node> = match &session.state {
        State::Queued(Queue::Start(placement, _)) => {
            return fleet.node(placement.node).map(|node| Wait::Node(node.name.clone()));
        }
        State::Queued(Queue::Slot(placement)) => {
            fleet.node(placement.node).map(|node| &**node).into_iter().collect()
        }
        State::Queued(Queue::Place) => fleet.nodes().map(|node| &**node).collect(),
        State::Creating { .. }
        | State::Ready { .. }
        | State::Running { .. }
        | State::Cleaning { .. }
        | State::Cleaned { .. }
        | State::Error { .. }
        | State::Orphaned { .. } => return None,
    };
    if let Some(hold) = session.hold.as_ref().filter(|_| session.is_held(now)) {
        return Some(Wait::Held { until: hold.until, reason: hold.reason.clone() });
    }
    if nodes.is_empty() {
        return Some(Wait::NoNodes);
    }
    let found = |node: &Node| obstacle(fleet, session, node).map(|obstacle| (node.name.clone(), obstacle));
    let obstacles: Vec<_> = nodes.iter().filter_map(|node| found(node)).collect();
    Some(if obstacles.len() < nodes.len() { Wait::Turn } else { Wait::Nodes(obstacles) })
}

/// What stands in the way of `session` taking a slot on `node`.
pub fn obstacle(fleet: &Fleet, session: &Session, node: &Node) -> Option<Obstacle> {
    unfit(fleet, session, node).or_else(|| {
        (fleet.slots_used(node.id) >= node.facts.slots).then_some(Obstacle::Full(node.facts.slots))
    })
}

/// What stands in the way other than slots.
fn unfit(fleet: &Fleet, session: &Session, node: &Node) -> Option<Obstacle> {
    if node.standing != Standing::Reachable {
        return Some(Obstacle::NotReachable(node.standing));
    }
    if let Some(mode) = fleet.safe_mode(None).or_else(|| fleet.safe_mode(Some(node.id))) {
        return Some(Obstacle::SafeMode(mode.reason.clone()));
    }
    let spec = &session.spec;
    if let State::Queued(Queue::Slot(placement)) = session.state {
        // Its files are there: a cordon keeps new sessions away, not the one that is at home. A drain keeps its runs away.
        let is_elsewhere = (placement.node != node.id).then_some(Obstacle::OtherNode);
        return is_elsewhere.or(node.drain.is_some().then_some(Obstacle::Draining));
    }
    if spec.node.as_ref().is_some_and(|name| *name != node.name) {
        return Some(Obstacle::OtherNode);
    }
    if node.drain.is_some() {
        return Some(Obstacle::Draining);
    }
    if node.cordoned {
        return Some(Obstacle::Cordoned);
    }
    if let Repository::Path { machine, .. } = &spec.repository
        && spec.node.is_none()
        && *machine != node.facts.machine
    {
        return Some(Obstacle::OtherMachine);
    }
    if let Some((key, value)) = spec.node_selector.first_missing_in(&node.facts.labels) {
        return Some(Obstacle::Label(key.into(), value.into()));
    }
    let needs = [runtime_capability(spec.runtime), workspace_capability(spec.workspace)];
    needs
        .into_iter()
        .find(|needed| !node.facts.capabilities.iter().any(|has| &**has == *needed))
        .map(Obstacle::Capability)
}

/// The capability that a node must have said to host this runtime.
pub fn runtime_capability(kind: RuntimeKind) -> &'static str {
    match kind {
        RuntimeKind::Process => "runtime/process",
        RuntimeKind::Tmux => "runtime/tmux",
        RuntimeKind::Container => "runtime/container",
    }
}

/// The capability that a node must have said to make this kind of workspace.
pub fn workspace_capability(kind: WorkspaceKind) -> &'static str {
    match kind {
        WorkspaceKind::Worktree => "workspace/worktree",
        WorkspaceKind::Memory => "workspace/memory",
        WorkspaceKind::Clone => "workspace/clone",
    }
}

impl Plan {
    fn look_again_at(&mut self, at: Timestamp) {
        self.look_again = Some(self.look_again.map_or(at, |known| known.min(at)));
    }
}

/// Free slots, as the plan uses them up: nodes with room by load, the least loaded first.
struct Room {
    free: BTreeSet<(u64, NodeId)>,
    used: BTreeMap<NodeId, u32>,
}

impl Room {
    fn of(fleet: &Fleet) -> Self {
        let mut room = Self { free: BTreeSet::new(), used: BTreeMap::new() };
        for node in fleet.nodes().filter(|node| node.standing == Standing::Reachable) {
            let used = fleet.slots_used(node.id);
            room.used.insert(node.id, used);
            room.list(node, used);
        }
        room
    }

    fn list(&mut self, node: &Node, used: u32) {
        if used < node.facts.slots {
            self.free.insert((load(used, node.facts.slots), node.id));
        }
    }

    fn fit(&mut self, fleet: &Fleet, session: &Session) -> Option<Move> {
        let (node, step) = match session.state {
            State::Queued(Queue::Slot(placement)) => {
                let node = fleet.node(placement.node).filter(|node| unfit(fleet, session, node).is_none())?;
                (node, Move::Grant(session.id))
            }
            _ => {
                let mut candidates = self.free.iter().filter_map(|(_, id)| fleet.node(*id));
                let node = candidates.find(|node| unfit(fleet, session, node).is_none())?;
                (node, Move::Place(session.id, node.id))
            }
        };
        let used = *self.used.get(&node.id)?;
        if !self.free.remove(&(load(used, node.facts.slots), node.id)) {
            return None;
        }
        self.used.insert(node.id, used + 1);
        self.list(node, used + 1);
        Some(step)
    }
}

/// The taken share of the slots, in millionths.
fn load(used: u32, slots: u32) -> u64 {
    u64::from(used) * 1_000_000 / u64::from(slots.max(1))
}

impl Obstacle {
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotReachable(_) => "it is not reachable",
            Self::Cordoned => "it is cordoned",
            Self::SafeMode(_) => "it is in safe mode",
            Self::Draining => "it is being drained",
            Self::Full(_) => "all of its slots are taken",
            Self::OtherNode => "the session belongs to another node",
            Self::OtherMachine => "the repository's path is on another machine",
            Self::Label(..) => "it lacks a label that the session selects",
            Self::Capability(_) => "it lacks a capability that the session needs",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReachable(standing) => f.write_str(standing.word()),
            Self::Cordoned => f.write_str("cordoned"),
            Self::SafeMode(reason) => write!(f, "safe mode ({reason})"),
            Self::Draining => f.write_str("draining"),
            Self::Full(slots) => write!(f, "all {slots} slots taken"),
            Self::OtherNode => f.write_str("not the node it belongs to"),
            Self::OtherMachine => f.write_str("not the machine of the repository's path"),
            Self::Label(key, value) => write!(f, "no label {key}={value}"),
            Self::Capability(name) => write!(f, "no {name}"),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { reason, .. } => write!(f, "held: {reason}"),
            Self::NoNodes => f.write_str("no node has joined"),
            Self::Turn => f.write_str("its turn"),
            Self::Node(name) => write!(f, "{name} to start it"),
            Self::Nodes(obstacles) => {
                for (at, (name, obstacle)) in obstacles.iter().take(5).enumerate() {
                    write!(f, "{}{name}: {obstacle}", if at == 0 { "" } else { "; " })?;
                }
                match obstacles.len().saturating_sub(5) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}
