//! Why the fleet would not do what was asked. A refusal changes nothing; its words are for the person who asked.

use thiserror::Error;

use crate::id::{NodeId, PlanId, RunId, SessionId};
use crate::name::Name;
use crate::session::StateKind;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    #[error("there is no session {0}")]
    SessionUnknown(SessionId),
    #[error("there is no node {0}")]
    NodeUnknown(NodeId),
    #[error("there is no node named '{0}'")]
    NodeNameUnknown(Name),
    #[error("there is no such join token")]
    TokenUnknown,
    #[error("the session name '{name}' is taken in project '{project}' by {holder}, which is {state}", state = state.word())]
    NameTaken { project: Name, name: Name, holder: SessionId, state: StateKind },
    #[error("there is already a session with the id {0}")]
    SessionIdTaken(SessionId),
    #[error("a node named '{0}' has joined already")]
    NodeNameTaken(Name),
    #[error("session '{session}' is {state} and cannot be {wish}: {why}", state = state.word())]
    WrongState { session: Name, state: StateKind, wish: &'static str, why: &'static str },
    #[error("the path {path} belongs to the machine '{machine}', and no node of that machine has joined")]
    MachineUnknown { path: Box<str>, machine: Box<str> },
    #[error("node '{0}' cannot take the session: {1}")]
    NodeUnfit(Name, &'static str),
    #[error("the run {0} was ordered before")]
    RunOrderedBefore(RunId),
    #[error("the join token was used before")]
    TokenUsed,
    #[error("the join token has expired")]
    TokenExpired,
    #[error("the join token is not valid")]
    TokenWrong,
    #[error("the node '{0}' is revoked")]
    NodeRevoked(Name),
    #[error(
        "node '{0}' showed a cookie that is older than the last two: it was copied, or its state was rolled back"
    )]
    CookieStale(Name),
    #[error(
        "the registry is older than what it once told node '{node}' ({evidence}): nothing is told to the node, and what runs there goes on"
    )]
    RegistryOlder { node: Name, evidence: Box<str> },
    #[error("node '{node}' still has {sessions} sessions")]
    NodeInUse { node: Name, sessions: usize },
    #[error("session '{session}' cannot be given more time: its run may have {most} {what}")]
    TimeUsedUp { session: Name, most: u64, what: &'static str },
    #[error("there is no plan {0}")]
    PlanUnknown(PlanId),
    #[error("the plan {0} was made too long ago to be applied")]
    PlanExpired(PlanId),
    #[error("the plan {0} is not the one that was shown")]
    PlanChanged(PlanId),
    #[error("there is already a plan {0}")]
    PlanIdTaken(PlanId),
    #[error("new work is refused: {reason}")]
    SafeMode { reason: Box<str> },
    #[error("there are already {there} {what}; at most {most} are allowed")]
    LimitReached { what: &'static str, there: usize, most: usize },
}

/// What kind of refusal it is; decides the status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotFound,
    AlreadyExists,
    Precondition,
    NotAllowed,
    Exhausted,
}

impl Refused {
    pub fn reason(&self) -> Reason {
        match self {
            Self::SessionUnknown(_)
            | Self::NodeUnknown(_)
            | Self::NodeNameUnknown(_)
            | Self::TokenUnknown
            | Self::PlanUnknown(_) => Reason::NotFound,
            Self::NameTaken { .. }
            | Self::SessionIdTaken(_)
            | Self::NodeNameTaken(_)
            | Self::RunOrderedBefore(_)
            | Self::PlanIdTaken(_) => Reason::AlreadyExists,
            Self::WrongState { .. }
            | Self::MachineUnknown { .. }
            | Self::NodeUnfit(..)
            | Self::NodeInUse { .. }
            | Self::RegistryOlder { .. }
            | Self::PlanExpired(_)
            | Self::PlanChanged(_)
            | Self::SafeMode { .. } => Reason::Precondition,
            Self::TokenUsed
            | Self::TokenExpired
            | Self::TokenWrong
            | Self::NodeRevoked(_)
            | Self::CookieStale(_) => Reason::NotAllowed,
            Self::LimitReached { .. } | Self::TimeUsedUp { .. } => Reason::Exhausted,
        }
    }

    /// The word that programs match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SessionUnknown(_) => "SESSION_NOT_FOUND",
            Self::NodeUnknown(_) | Self::NodeNameUnknown(_) => "NODE_NOT_FOUND",
            Self::TokenUnknown => "TOKEN_NOT_FOUND",
            Self::NameTaken { .. } => "SESSION_NAME_TAKEN",
            Self::SessionIdTaken(_) => "SESSION_ID_TAKEN",
            Self::NodeNameTaken(_) => "NODE_NAME_TAKEN",
            Self::WrongState { .. } => "SESSION_STATE",
            Self::MachineUnknown { .. } => "MACHINE_UNKNOWN",
            Self::NodeUnfit(..) => "NODE_UNFIT",
            Self::RunOrderedBefore(_) => "RUN_ORDERED_BEFORE",
            Self::TokenUsed => "TOKEN_USED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::TokenWrong => "TOKEN_INVALID",
            Self::NodeRevoked(_) => "NODE_REVOKED",
            Self::CookieStale(_) => "NODE_COPIED_OR_ROLLED_BACK",
            Self::RegistryOlder { .. } => "REGISTRY_OLDER",
            Self::NodeInUse { .. } => "NODE_IN_USE",
            Self::PlanUnknown(_) => "PLAN_NOT_FOUND",
            Self::PlanExpired(_) => "PLAN_EXPIRED",
            Self::PlanChanged(_) => "PLAN_CHANGED",
            Self::PlanIdTaken(_) => "PLAN_ID_TAKEN",
            Self::SafeMode { .. } => "SAFE_MODE",
            Self::LimitReached { .. } | Self::TimeUsedUp { .. } => "LIMIT_REACHED",
        }
    }

    /// What the person could do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::SessionUnknown(_) => "droverctl ps --all lists the sessions",
            Self::NodeUnknown(_) | Self::NodeNameUnknown(_) => "droverctl node ls lists the nodes",
            Self::TokenUnknown => "droverctl node token ls lists the join tokens",
            Self::NameTaken { .. } => "choose another --name, or --on-conflict rename",
            Self::PlanUnknown(_) | Self::PlanExpired(_) | Self::PlanChanged(_) => {
                "make a new one: droverctl repair, or droverctl cleanup"
            }
            Self::SafeMode { .. } => {
                "droverctl health shows why; droverctl safe-mode off takes new work again"
            }
            Self::SessionIdTaken(_) | Self::RunOrderedBefore(_) | Self::PlanIdTaken(_) => {
                "ask again with a new request id"
            }
            Self::NodeNameTaken(_) => {
                "start the agent with another name, or remove the old node: droverctl node rm"
            }
            Self::WrongState { .. } => "droverctl get shows what it is doing",
            Self::MachineUnknown { .. } => {
                "start an agent on that machine, name the node with --node, or give the repository as a URL"
            }
            Self::NodeUnfit(..) => "droverctl node get shows how it stands",
            Self::TokenUsed | Self::TokenExpired | Self::TokenWrong => {
                "make a new one: droverctl node token create"
            }
            Self::NodeRevoked(_) => "let it join again with a new token and an empty state directory",
            Self::CookieStale(_) => {
                "if it was copied, stop the copy; if its state was restored, revoke it and let it join again"
            }
            Self::RegistryOlder { .. } => {
                "stop the controller, put the newest copy of its registry.db back, and start it again"
            }
            Self::NodeInUse { .. } => "remove its sessions first: droverctl ps --all shows them",
            Self::TimeUsedUp { .. } => {
                "this was fixed when it was created (--max-extensions, --max-extension); let it end, and start it again"
            }
            Self::LimitReached { .. } => "clean up what is no longer needed, or raise the limit",
        }
    }
}
