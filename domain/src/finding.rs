//! One difference between the registry, a ledger and a machine: what it is, what shows it, and what would end it. A finding
//! is derived anew from every look; what was found first when is kept beside it by who looks.

use crate::id::{NodeId, SessionId};
use crate::inventory::{LockFile, Process};
use crate::name::Name;
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub severity: Severity,
    pub node: Option<NodeId>,
    pub session: Option<SessionId>,
    /// The session's title, if its name is known.
    pub title: Option<Box<str>>,
    /// The repository's directory on the node.
    pub repository: Option<Box<str>>,
    /// What it is about, as a person can find it.
    pub subject: Box<str>,
    pub text: Box<str>,
    pub evidence: Vec<Box<str>>,
    pub hint: Box<str>,
    /// Since when it is so, as far as that can be seen.
    pub since: Timestamp,
    /// None: only a person can end it.
    pub cure: Option<Cure>,
}

/// What tells one finding from another, from look to look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub code: Code,
    pub node: Option<NodeId>,
    pub subject: Box<str>,
}

/// Stable: programs match on its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    StuckRunning,
    StuckCreating,
    StuckCleaning,
    SessionWithoutWorkspace,
    WorktreeWithoutSession,
    BranchWithoutSession,
    ContainerWithoutSession,
    TmuxWithoutSession,
    ProcessWithoutSession,
    MissingHandle,
    DeadRuntime,
    StaleGitLock,
    PrunableWorktree,
    HalfCreated,
    HalfCleaned,
    FencedPlacement,
    NodeLost,
    LedgerRegistryMismatch,
    UnrecordedMark,
    LowDisk,
    TrashExpired,
    BackupOverdue,
    RegistryCorrupt,
}

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing: it is as it was meant, or will be in a while.
    Info,
    /// A safe cleanup exists.
    Available,
    /// New work on that node has to wait for it.
    Required,
    /// Somebody has to look.
    Manual,
}

/// What would end a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// The run is ended as far as it is there, and the session is ready.
    Stop(SessionId),
    /// Its node tries again.
    Retry(SessionId),
    /// The session is removed, as its owner could.
    Remove(SessionId),
    /// The node looks at the live run again, and tells.
    Tell(SessionId),
    EndProcesses(SessionId, Vec<Process>),
    /// What is left is saved, then removed.
    Clear(Remains),
    MoveLock(LockFile),
}

/// What may be left on a node of a session that does not belong there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    pub session: SessionId,
    /// None: nothing of it is in a repository.
    pub repository: Option<Box<str>>,
    /// The worktree's directory, if there is a worktree.
    pub path: Option<Box<str>>,
    /// The branch that was recorded.
    pub branch: Option<Box<str>>,
    /// How its saved work names it.
    pub label: Option<Label>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub project: Name,
    pub name: Name,
    /// The repository as its spec named it.
    pub origin: Box<str>,
}

impl Finding {
    pub fn key(&self) -> Key {
        Key { code: self.code, node: self.node, subject: self.subject.clone() }
    }
}

impl Code {
    pub const ALL: [Self; 23] = [
        Self::StuckRunning,
        Self::StuckCreating,
        Self::StuckCleaning,
        Self::SessionWithoutWorkspace,
        Self::WorktreeWithoutSession,
        Self::BranchWithoutSession,
        Self::ContainerWithoutSession,
        Self::TmuxWithoutSession,
        Self::ProcessWithoutSession,
        Self::MissingHandle,
        Self::DeadRuntime,
        Self::StaleGitLock,
        Self::PrunableWorktree,
        Self::HalfCreated,
        Self::HalfCleaned,
        Self::FencedPlacement,
        Self::NodeLost,
        Self::LedgerRegistryMismatch,
        Self::UnrecordedMark,
        Self::LowDisk,
        Self::TrashExpired,
        Self::BackupOverdue,
        Self::RegistryCorrupt,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::StuckRunning => "STUCK_RUNNING",
            Self::StuckCreating => "STUCK_CREATING",
            Self::StuckCleaning => "STUCK_CLEANING",
            Self::SessionWithoutWorkspace => "SESSION_WITHOUT_WORKSPACE",
            Self::WorktreeWithoutSession => "WORKTREE_WITHOUT_SESSION",
            Self::BranchWithoutSession => "BRANCH_WITHOUT_SESSION",
            Self::ContainerWithoutSession => "CONTAINER_WITHOUT_SESSION",
            Self::TmuxWithoutSession => "TMUX_WITHOUT_SESSION",
            Self::ProcessWithoutSession => "PROCESS_WITHOUT_SESSION",
            Self::MissingHandle => "MISSING_HANDLE",
            Self::DeadRuntime => "DEAD_RUNTIME",
            Self::StaleGitLock => "STALE_GIT_LOCK",
            Self::PrunableWorktree => "PRUNABLE_WORKTREE",
            Self::HalfCreated => "HALF_CREATED",
            Self::HalfCleaned => "HALF_CLEANED",
            Self::FencedPlacement => "FENCED_PLACEMENT",
            Self::NodeLost => "NODE_LOST",
            Self::LedgerRegistryMismatch => "LEDGER_REGISTRY_MISMATCH",
            Self::UnrecordedMark => "UNRECORDED_MARK",
            Self::LowDisk => "LOW_DISK",
            Self::TrashExpired => "TRASH_EXPIRED",
            Self::BackupOverdue => "BACKUP_OVERDUE",
            Self::RegistryCorrupt => "REGISTRY_CORRUPT",
        }
    }

    /// Whether it speaks of something that nobody owns, rather than of a session that is not as it should be.
    pub fn is_of_remains(self) -> bool {
        match self {
            Self::WorktreeWithoutSession
            | Self::BranchWithoutSession
            | Self::ContainerWithoutSession
            | Self::TmuxWithoutSession
            | Self::ProcessWithoutSession
            | Self::StaleGitLock
            | Self::PrunableWorktree
            | Self::HalfCreated
            | Self::HalfCleaned
            | Self::FencedPlacement
            | Self::UnrecordedMark
            | Self::TrashExpired => true,
            Self::StuckRunning
            | Self::StuckCreating
            | Self::StuckCleaning
            | Self::SessionWithoutWorkspace
            | Self::MissingHandle
            | Self::DeadRuntime
            | Self::NodeLost
            | Self::LedgerRegistryMismatch
            | Self::LowDisk
            | Self::BackupOverdue
            | Self::RegistryCorrupt => false,
        }
    }
}

impl Severity {
    pub const ALL: [Self; 4] = [Self::Info, Self::Available, Self::Required, Self::Manual];

    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Available => "available",
            Self::Required => "required",
            Self::Manual => "manual",
        }
    }
}

impl Cure {
    /// The session that it is about.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Stop(session)
            | Self::Retry(session)
            | Self::Remove(session)
            | Self::Tell(session)
            | Self::EndProcesses(session, _) => Some(*session),
            Self::Clear(remains) => Some(remains.session),
            Self::MoveLock(_) => None,
        }
    }
}
