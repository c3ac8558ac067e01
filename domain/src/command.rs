//! What somebody asks the fleet to change. Ids and secrets' hashes are made by the submitter; the fleet makes none.

use std::sync::Arc;
use std::time::Duration;

use crate::actor::Actor;
use crate::fence::Fence;
use crate::finding::Finding;
use crate::id::{NodeId, PlanId, RunId, SessionId, TokenId};
use crate::name::Name;
use crate::node::{NodeFacts, Standing, Witness};
use crate::outcome::{Outcome, Usage};
use crate::plan::{self, Plan};
use crate::session::{Checkpoint, Fault, Handle, Kept, Progress, Removal, Workspace};
use crate::spec::{Secrets, Spec};
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub actor: Actor,
    /// The W3C trace parent of the call, carried down to the agent.
    pub trace: Option<Box<str>>,
    pub wish: Wish,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    CreateSession(Box<NewSession>),
    StartSession {
        session: SessionId,
        /// Go on with what an earlier run began.
        resume: bool,
    },
    StopSession {
        session: SessionId,
        /// How long its run has to end by itself. None: as its spec says.
        grace: Option<Duration>,
    },
    DeleteSession {
        session: SessionId,
        removal: Removal,
    },
    /// Give its run more time.
    ExtendSession {
        session: SessionId,
        by: Duration,
    },
    /// Stop it and forget its troubles; hard: with a new workspace, once the old one's work is in the trash.
    ResetSession {
        session: SessionId,
        hard: bool,
    },
    HoldSession {
        session: SessionId,
        lasts: Option<Duration>,
        reason: Box<str>,
    },
    ReleaseSession {
        session: SessionId,
    },
    /// Put a queued session on a node and, if it shall run, order this run.
    Place {
        session: SessionId,
        node: NodeId,
        run: RunId,
    },
    /// Let a session that has a workspace run again.
    Grant {
        session: SessionId,
        run: RunId,
    },
    /// Give up on sessions that waited longer than they may.
    ExpireQueue {
        session: SessionId,
    },
    Report(Box<Report>),
    CreateToken {
        id: TokenId,
        secret_hash: [u8; 32],
        lasts: Duration,
    },
    RevokeToken {
        id: TokenId,
    },
    Enroll(Box<Enrollment>),
    Link {
        node: NodeId,
        facts: Box<NodeFacts>,
        shown: Option<[u8; 32]>,
        next: [u8; 32],
        witness: Box<Witness>,
    },
    SetStanding {
        node: NodeId,
        standing: Standing,
    },
    Cordon {
        node: NodeId,
        cordoned: bool,
    },
    /// Empty a node: nothing begins on it, and what still runs when this has passed is stopped. None: it may go on.
    Drain {
        node: NodeId,
        within: Option<Duration>,
    },
    /// Stop a run that is still there at the deadline of its node's drain.
    StopForDrain {
        session: SessionId,
    },
    RevokeNode {
        node: NodeId,
    },
    RemoveNode {
        node: NodeId,
    },
    /// Let a cleaned session leave memory.
    Forget {
        session: SessionId,
    },
    /// Forget a used or expired token.
    ForgetToken {
        id: TokenId,
    },
    /// Let the node of a session that is on its way somewhere, or met a fault, try again.
    RetrySession {
        session: SessionId,
    },
    /// Keep a plan, so that it can be applied.
    MakePlan(Box<Plan>),
    ApplyPlan {
        plan: PlanId,
        /// Of what was shown.
        digest: [u8; 32],
        only_safe: bool,
    },
    /// An action of a plan came to its end.
    FinishAction {
        plan: PlanId,
        number: u32,
        result: plan::Outcome,
        text: Box<str>,
    },
    ForgetPlan {
        plan: PlanId,
    },
    /// Refuse new work, or take it again.
    SetSafeMode {
        /// None: everywhere.
        node: Option<NodeId>,
        on: bool,
        reason: Box<str>,
        /// By the controller itself, for as long as the reason holds.
        automatic: bool,
    },
    /// Say in the log what became of telling somebody.
    Notified {
        text: Box<str>,
    },
    /// Say in the log that something was found, or is found no more.
    Note {
        finding: Box<Finding>,
        is_over: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    pub id: SessionId,
    pub project: Name,
    pub name: Name,
    pub owner: Box<str>,
    pub spec: Arc<Spec>,
    pub secrets: Secrets,
    /// Make the workspace only.
    pub start: bool,
    /// The saved work that its workspace begins with.
    pub origin: Option<Box<str>>,
}

/// A machine that asks to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    pub token: TokenId,
    pub secret_hash: [u8; 32],
    /// The id that it gets.
    pub node: NodeId,
    /// The name that it asks for; none: one after its hostname.
    pub name: Option<Name>,
    pub facts: NodeFacts,
}

/// What a node saw of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub node: NodeId,
    /// Grows by one with each report of that node.
    pub sequence: u64,
    pub session: SessionId,
    pub fence: Fence,
    pub observation: Observation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    Progress(Progress),
    WorkspaceReady(Workspace),
    RunStarted {
        run: RunId,
        started: Timestamp,
        deadline: Option<Timestamp>,
        handle: Handle,
    },
    /// A live run's deadline moved.
    RunExtended {
        run: RunId,
        deadline: Timestamp,
        extensions: u32,
    },
    /// Its workspace was saved, and is in use as before.
    Checkpointed(Checkpoint),
    /// Also of a run that was ordered and never started.
    RunEnded {
        run: RunId,
        started: Option<Timestamp>,
        ended: Timestamp,
        outcome: Outcome,
        usage: Usage,
    },
    Removed(Kept),
    Faulted(Fault),
}
