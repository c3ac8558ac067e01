//! The whole live registry as one value. `decide` says what a command would change, `apply` carries a change out;
//! both are pure, so the same code serves the controller, a simulation and the rebuilding of a lost registry.
//!
//! The maps are persistent: a copy costs nothing. Every index is kept by one function that compares a session before
//! and after its change. Finished sessions leave memory by `Forget`; history keeps them.

mod decide;
#[cfg(test)]
pub(crate) mod tests;

use std::cmp::Reverse;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

pub use decide::{Answer, Decision};

use crate::change::{After, Change};
use crate::converge::{Assignment, Target};
use crate::id::{InstallationId, NodeId, PlanId, SessionId, TokenId};
use crate::name::Name;
use crate::node::{Node, SafeMode, Token};
use crate::plan::Plan;
use crate::session::{Session, State};
use crate::spec::Secrets;
use crate::time::Timestamp;

#[derive(Clone, Debug)]
pub struct Fleet {
    installation: InstallationId,
    generation: u64,
    revision: u64,
    sessions: OrdMap<u64, Arc<Session>>,
    secrets: OrdMap<u64, Arc<Secrets>>,
    numbers: OrdMap<SessionId, u64>,
    /// Names of sessions that are not cleaned.
    names: OrdMap<(Name, Name), u64>,
    queue: OrdSet<QueueKey>,
    /// Sessions with a placement on the node.
    placed: OrdMap<NodeId, OrdSet<u64>>,
    slots: OrdMap<NodeId, u32>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    node_names: OrdMap<Name, NodeId>,
    tokens: OrdMap<TokenId, Arc<Token>>,
    plans: OrdMap<PlanId, Arc<Plan>>,
    safe_modes: OrdMap<Option<NodeId>, Arc<SafeMode>>,
}

/// The order of the queue: priority, then who waited longer.
type QueueKey = (Reverse<i32>, Timestamp, u64);

impl Fleet {
    pub fn new(installation: InstallationId, generation: u64) -> Self {
        Self {
            installation,
            generation,
            revision: 0,
            sessions: OrdMap::new(),
            secrets: OrdMap::new(),
            numbers: OrdMap::new(),
            names: OrdMap::new(),
            queue: OrdSet::new(),
            placed: OrdMap::new(),
            slots: OrdMap::new(),
            nodes: OrdMap::new(),
            node_names: OrdMap::new(),
            tokens: OrdMap::new(),
            plans: OrdMap::new(),
            safe_modes: OrdMap::new(),
        }
    }

    /// The registry as it was stored. What is given is not questioned: it was decided once.
    pub fn load(
        mut self,
        revision: u64,
        sessions: impl IntoIterator<Item = (Arc<Session>, Option<Arc<Secrets>>)>,
        nodes: impl IntoIterator<Item = Arc<Node>>,
        tokens: impl IntoIterator<Item = Arc<Token>>,
    ) -> Self {
        self.revision = revision;
        for (session, secrets) in sessions {
            if let Some(secrets) = secrets {
                self.secrets.insert(session.number, secrets);
            }
            self.put_session(session);
        }
        nodes.into_iter().for_each(|node| self.put_node(node));
        tokens.into_iter().for_each(|token| drop(self.tokens.insert(token.id, token)));
        self
    }

    /// The same, of what was planned and where new work is refused.
    pub fn load_upkeep(
        mut self,
        plans: impl IntoIterator<Item = Arc<Plan>>,
        safe_modes: impl IntoIterator<Item = Arc<SafeMode>>,
    ) -> Self {
        plans.into_iter().for_each(|plan| drop(self.plans.insert(plan.id, plan)));
        safe_modes.into_iter().for_each(|mode| drop(self.safe_modes.insert(mode.node, mode)));
        self
    }

    /// Carries one change out.
    pub fn apply(&mut self, change: &Change) {
        self.revision = change.revision;
        match &change.after {
            After::Session(session) => self.put_session(session.clone()),
            After::SessionWithSecrets(session, secrets) => {
                self.secrets.insert(session.number, secrets.clone());
                self.put_session(session.clone());
            }
            After::SessionForgotten(number, id) => {
                self.reindex(*number, None);
                self.sessions.remove(number);
                self.numbers.remove(id);
                self.secrets.remove(number);
            }
            After::Node(node) | After::Heard(node) => self.put_node(node.clone()),
            After::Reported(session, node) => {
                self.put_session(session.clone());
                self.put_node(node.clone());
            }
            After::NodeRemoved(id) => {
                if let Some(node) = self.nodes.remove(id) {
                    self.node_names.remove(&node.name);
                }
                self.safe_modes.remove(&Some(*id));
            }
            After::Token(token) => drop(self.tokens.insert(token.id, token.clone())),
            After::TokenForgotten(id) => drop(self.tokens.remove(id)),
            After::Joined(token, node) => {
                self.tokens.insert(token.id, token.clone());
                self.put_node(node.clone());
            }
            After::Plan(plan) => drop(self.plans.insert(plan.id, plan.clone())),
            After::PlanForgotten(id) => drop(self.plans.remove(id)),
            After::SafeMode(mode) => drop(self.safe_modes.insert(mode.node, mode.clone())),
            After::SafeModeOver(node) => drop(self.safe_modes.remove(node)),
            After::Noted => {}
        }
    }

    fn put_session(&mut self, session: Arc<Session>) {
        self.reindex(session.number, Some(&session));
        self.numbers.insert(session.id, session.number);
        if matches!(session.state, State::Cleaned { .. }) {
            self.secrets.remove(&session.number);
        }
        self.sessions.insert(session.number, session);
    }

    fn put_node(&mut self, node: Arc<Node>) {
        self.node_names.insert(node.name.clone(), node.id);
        self.nodes.insert(node.id, node);
    }

    /// The one place where indexes over sessions change.
    fn reindex(&mut self, number: u64, after: Option<&Session>) {
        let before = self.sessions.get(&number).cloned();
        let before = before.as_deref();
        if let Some((old, new)) = differ(before.and_then(name_key), after.and_then(name_key)) {
            old.map(|key| self.names.remove(&key));
            new.map(|key| self.names.insert(key, number));
        }
        if let Some((old, new)) = differ(before.and_then(queue_key), after.and_then(queue_key)) {
            old.map(|key| self.queue.remove(&key));
            new.map(|key| self.queue.insert(key));
        }
        if let Some((old, new)) = differ(before.and_then(node_key), after.and_then(node_key)) {
            if let Some(node) = old
                && let Some(numbers) = self.placed.get_mut(&node)
            {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.placed.remove(&node);
                }
            }
            new.map(|node| self.placed.entry(node).or_default().insert(number));
        }
        let slot = |session: Option<&Session>| session.and_then(|session| session.state.slot());
        if let Some((old, new)) = differ(slot(before), slot(after)) {
            if let Some(node) = old
                && let Some(used) = self.slots.get_mut(&node)
            {
                *used -= 1;
            }
            if let Some(node) = new {
                *self.slots.entry(node).or_default() += 1;
            }
        }
    }
}

fn differ<T: PartialEq>(old: Option<T>, new: Option<T>) -> Option<(Option<T>, Option<T>)> {
    (old != new).then_some((old, new))
}

fn name_key(session: &Session) -> Option<(Name, Name)> {
    (!matches!(session.state, State::Cleaned { .. })).then(|| (session.project.clone(), session.name.clone()))
}

fn queue_key(session: &Session) -> Option<QueueKey> {
    use crate::session::Queue::{Place, Slot};
    matches!(session.state, State::Queued(Place | Slot(_)))
        .then(|| (Reverse(session.spec.priority), session.since, session.number))
}

fn node_key(session: &Session) -> Option<NodeId> {
    session.state.placement().map(|placement| placement.node)
}

/// Reading.
impl Fleet {
    pub fn installation(&self) -> InstallationId {
        self.installation
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// In the order of their birth.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// Those born after the session with this number.
    pub fn sessions_after(&self, number: u64) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions
            .range((std::ops::Bound::Excluded(number), std::ops::Bound::Unbounded))
            .map(|(_, session)| session)
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(self.numbers.get(&id)?)
    }

    /// The session of this name that is not cleaned.
    pub fn session_named(&self, project: &Name, name: &Name) -> Option<&Arc<Session>> {
        self.sessions.get(self.names.get(&(project.clone(), name.clone()))?)
    }

    /// Those whose id begins like this, at most `most`.
    pub fn sessions_with_prefix(&self, prefix: &str, most: usize) -> Vec<&Arc<Session>> {
        let begins = |id: &SessionId| id.to_string().starts_with(prefix);
        self.numbers
            .range(first_with(prefix)..)
            .take_while(|(id, _)| begins(id))
            .take(most)
            .filter_map(|(_, n)| self.sessions.get(n))
            .collect()
    }

    /// Waiting for a node or a slot, in the queue's order.
    pub fn queued(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.queue.iter().filter_map(|(_, _, number)| self.sessions.get(number))
    }

    pub fn queue_length(&self) -> usize {
        self.queue.len()
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    pub fn node_named(&self, name: &Name) -> Option<&Arc<Node>> {
        self.nodes.get(self.node_names.get(name)?)
    }

    /// The sessions that are on this node.
    pub fn placed_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Session>> {
        self.placed.get(&node).into_iter().flatten().filter_map(|number| self.sessions.get(number))
    }

    /// How many of its slots are taken.
    pub fn slots_used(&self, node: NodeId) -> u32 {
        self.slots.get(&node).copied().unwrap_or(0)
    }

    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    pub fn token(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    pub fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.values()
    }

    pub fn plan(&self, id: PlanId) -> Option<&Arc<Plan>> {
        self.plans.get(&id)
    }

    pub fn safe_modes(&self) -> impl Iterator<Item = &Arc<SafeMode>> {
        self.safe_modes.values()
    }

    /// Why new work is refused there. None as node: everywhere.
    pub fn safe_mode(&self, node: Option<NodeId>) -> Option<&Arc<SafeMode>> {
        self.safe_modes.get(&node)
    }

    /// What the session's node should be doing for it. `None`: it is on no node.
    pub fn assignment(&self, session: &Session) -> Option<Assignment> {
        let placement = session.state.placement()?;
        Some(Assignment {
            session: session.id,
            project: session.project.clone(),
            name: session.name.clone(),
            owner: session.owner.clone(),
            fence: placement.fence,
            attempt: session.attempt,
            spec: session.spec.clone(),
            secrets: self.secrets.get(&session.number).cloned().unwrap_or_default(),
            branch: session.branch().into(),
            workspace: session.workspace.clone(),
            base_commit: session.base_commit.clone(),
            origin: session.origin.clone(),
            rebuild: session.rebuilt,
            resumes: session.resumes,
            grant: session.state.live().map(|run| run.grant).unwrap_or_default(),
            target: Target::of(session)?,
            halt: session.halt.clone(),
            trace: session.trace.clone(),
        })
    }
}

/// The least id that begins with `prefix`, or the least of all if none can.
fn first_with(prefix: &str) -> SessionId {
    let mut text = prefix.strip_prefix(SessionId::PREFIX).unwrap_or("").to_owned();
    text.extend(std::iter::repeat_n('a', 16_usize.saturating_sub(text.len())));
    format!("{}{text}", SessionId::PREFIX).parse().unwrap_or(SessionId::from_random([0; 10]))
}
