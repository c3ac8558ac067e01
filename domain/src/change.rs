//! One change of the fleet: what happened, and the thing as it is after it. The change log is the audit trail.

use std::sync::Arc;

use crate::actor::Actor;
use crate::id::{NodeId, PlanId, SessionId, TokenId};
use crate::node::{Node, SafeMode, Token};
use crate::plan::Plan;
use crate::session::Session;
use crate::spec::Secrets;
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Every change has its own, without gaps.
    pub revision: u64,
    pub at: Timestamp,
    pub actor: Actor,
    pub kind: Kind,
    pub after: After,
    /// In words, where the thing itself does not tell.
    pub note: Option<Note>,
}

/// What the log says of a change beside the changed thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    pub text: Box<str>,
    pub node: Option<NodeId>,
    /// The number of the session that it is about.
    pub session: Option<u64>,
}

/// The changed thing after the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    Session(Arc<Session>),
    /// A new session whose secrets are kept apart.
    SessionWithSecrets(Arc<Session>, Arc<Secrets>),
    /// It left memory; history keeps it.
    SessionForgotten(u64, SessionId),
    Node(Arc<Node>),
    /// A report moved a session; the node's acknowledged sequence moved with it.
    Reported(Arc<Session>, Arc<Node>),
    /// A report had no effect but that it need not be sent again.
    Heard(Arc<Node>),
    NodeRemoved(NodeId),
    Token(Arc<Token>),
    TokenForgotten(TokenId),
    /// A token was used and its node joined.
    Joined(Arc<Token>, Arc<Node>),
    Plan(Arc<Plan>),
    PlanForgotten(PlanId),
    SafeMode(Arc<SafeMode>),
    /// New work is taken there again. None: everywhere.
    SafeModeOver(Option<NodeId>),
    /// Nothing changed but what is known.
    Noted,
}

/// What happened, as the log calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    SessionCreated,
    SessionPlaced,
    SessionProgressed,
    SessionReady,
    SessionQueued,
    RunOrdered,
    RunStarted,
    RunExtended,
    RunEnded,
    /// It ended with its machine or its supervisor.
    RunInterrupted,
    SessionStopping,
    SessionReset,
    SessionCheckpointed,
    SessionHeld,
    SessionReleased,
    SessionCleaning,
    SessionCleaned,
    SessionFaulted,
    SessionOrphaned,
    SessionReturned,
    SessionForgotten,
    ReportIgnored,
    NodeJoined,
    NodeLinked,
    NodeStanding,
    NodeCordoned,
    NodeUncordoned,
    NodeDraining,
    NodeRevoked,
    NodeRemoved,
    TokenCreated,
    TokenRevoked,
    TokenForgotten,
    SessionRetried,
    PlanMade,
    PlanApplied,
    ActionFinished,
    PlanForgotten,
    SafeModeOn,
    SafeModeOff,
    FindingAppeared,
    FindingEnded,
    Notified,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::SessionCreated => "session_created",
            Self::SessionPlaced => "session_placed",
            Self::SessionProgressed => "session_progressed",
            Self::SessionReady => "session_ready",
            Self::SessionQueued => "session_queued",
            Self::RunOrdered => "run_ordered",
            Self::RunStarted => "run_started",
            Self::RunExtended => "run_extended",
            Self::RunEnded => "run_ended",
            Self::RunInterrupted => "run_interrupted",
            Self::SessionReset => "session_reset",
            Self::SessionCheckpointed => "session_checkpointed",
            Self::SessionStopping => "session_stopping",
            Self::SessionHeld => "session_held",
            Self::SessionReleased => "session_released",
            Self::SessionCleaning => "session_cleaning",
            Self::SessionCleaned => "session_cleaned",
            Self::SessionFaulted => "session_faulted",
            Self::SessionOrphaned => "session_orphaned",
            Self::SessionReturned => "session_returned",
            Self::SessionForgotten => "session_forgotten",
            Self::ReportIgnored => "report_ignored",
            Self::NodeJoined => "node_joined",
            Self::NodeLinked => "node_linked",
            Self::NodeStanding => "node_standing",
            Self::NodeCordoned => "node_cordoned",
            Self::NodeUncordoned => "node_uncordoned",
            Self::NodeDraining => "node_draining",
            Self::NodeRevoked => "node_revoked",
            Self::NodeRemoved => "node_removed",
            Self::TokenCreated => "token_created",
            Self::TokenRevoked => "token_revoked",
            Self::TokenForgotten => "token_forgotten",
            Self::SessionRetried => "session_retried",
            Self::PlanMade => "plan_made",
            Self::PlanApplied => "plan_applied",
            Self::ActionFinished => "action_finished",
            Self::PlanForgotten => "plan_forgotten",
            Self::SafeModeOn => "safe_mode_on",
            Self::SafeModeOff => "safe_mode_off",
            Self::FindingAppeared => "finding_appeared",
            Self::FindingEnded => "finding_ended",
            Self::Notified => "notified",
        }
    }
}

impl After {
    /// The session that it is about, if it is about one that is in memory.
    pub fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Session(session) | Self::SessionWithSecrets(session, _) | Self::Reported(session, _) => {
                Some(session)
            }
            Self::SessionForgotten(..)
            | Self::Node(_)
            | Self::Heard(_)
            | Self::NodeRemoved(_)
            | Self::Token(_)
            | Self::TokenForgotten(_)
            | Self::Joined(..)
            | Self::Plan(_)
            | Self::PlanForgotten(_)
            | Self::SafeMode(_)
            | Self::SafeModeOver(_)
            | Self::Noted => None,
        }
    }

    /// The node that it is about. A node whose acknowledged sequence moved is not: nothing of it that shows changed.
    pub fn node(&self) -> Option<&Arc<Node>> {
        match self {
            Self::Node(node) | Self::Joined(_, node) => Some(node),
            Self::Session(_)
            | Self::SessionWithSecrets(..)
            | Self::SessionForgotten(..)
            | Self::Reported(..)
            | Self::Heard(_)
            | Self::NodeRemoved(_)
            | Self::Token(_)
            | Self::TokenForgotten(_)
            | Self::Plan(_)
            | Self::PlanForgotten(_)
            | Self::SafeMode(_)
            | Self::SafeModeOver(_)
            | Self::Noted => None,
        }
    }
}
