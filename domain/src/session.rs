//! A session and its states. One enum holds the state and its variants the data, so that "running without a node"
//! cannot be written. What can be derived (conditions, why it waits) is not stored here.

use std::sync::Arc;
use std::time::Duration;

use crate::fence::Fence;
use crate::id::{NodeId, RunId, SessionId};
use crate::name::Name;
use crate::outcome::{Outcome, Usage};
use crate::spec::Spec;
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The revision of its birth: its place in every list and its key in the store.
    pub number: u64,
    pub id: SessionId,
    pub project: Name,
    pub name: Name,
    pub owner: Box<str>,
    pub spec: Arc<Spec>,
    pub created: Timestamp,
    /// The revision that last changed it.
    pub revision: u64,
    /// Grows with each placement.
    pub epoch: u64,
    pub wanted: Wanted,
    /// How its run is to be ended, until it is started again.
    pub halt: Option<Halt>,
    pub hold: Option<Hold>,
    pub state: State,
    /// When it entered the kind of state that it is in, or, if it is queued, was given to its node.
    pub since: Timestamp,
    pub workspace: Option<Workspace>,
    pub last_run: Option<EndedRun>,
    /// How many runs were ordered.
    pub runs: u32,
    /// Runs that failed in a row, for the restart policy.
    pub failures: u32,
    /// Runs that were interrupted in a row, each before it had run for long.
    pub interruptions: u32,
    /// The run that is ordered, or ordered next, goes on with what an interrupted one began.
    pub resumes: bool,
    /// How often it was asked for a new workspace, and how often its node was told so.
    pub rebuilds: u32,
    pub rebuilt: u32,
    /// The commit that its base was resolved to, once.
    pub base_commit: Option<Box<str>>,
    /// The saved work that its workspace begins with.
    pub origin: Option<Box<str>>,
    /// The last save of its workspace while it was in use.
    pub checkpoint: Option<Checkpoint>,
    /// Grows when somebody asks to try again after a fault; the node that met the fault tries once per attempt.
    pub attempt: u32,
    /// The W3C trace parent of the call that last changed what is wanted.
    pub trace: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Running,
    Ready,
    Cleaned(Removal),
}

/// How a session is to be removed. Saving work first cannot be switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    pub keep_branch: bool,
    /// Delete an unmerged branch too, after its tip went to the trash.
    pub force_branch: bool,
}

/// Who ordered that a run ends, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    pub by: Box<str>,
    /// How long it has to end by itself. None: as its spec says.
    pub grace: Option<Duration>,
}

/// Why and until when nothing is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// None: until it is released.
    pub until: Option<Timestamp>,
    pub reason: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Queued(Queue),
    Creating {
        placement: Placement,
        order: Option<Order>,
        progress: Progress,
    },
    Ready {
        placement: Placement,
    },
    Running {
        placement: Placement,
        run: LiveRun,
    },
    /// `run` is there while its stop is not confirmed.
    Cleaning {
        placement: Placement,
        run: Option<Order>,
        progress: Progress,
    },
    Cleaned {
        kept: Kept,
    },
    Error {
        placement: Option<Placement>,
        fault: Fault,
    },
    /// Its node is lost. `was` is how it stood when the node was last heard; it returns to that with the node.
    Orphaned {
        was: Box<State>,
        evidence: Box<str>,
    },
}

/// What a queued session waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queue {
    /// For a node.
    Place,
    /// It belongs to that node, mostly because its workspace is there, and waits for a slot.
    Slot(Placement),
    /// The run was ordered; the node has not said yet that it started.
    Start(Placement, Order),
}

/// A session on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub node: NodeId,
    pub fence: Fence,
}

/// A run that a node is told to make, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub run: RunId,
    /// 1 for a session's first run.
    pub ordinal: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRun {
    pub order: Order,
    /// On the node's clock, like every stamp of a run.
    pub started: Timestamp,
    pub deadline: Option<Timestamp>,
    /// How often the deadline was moved, by whomever.
    pub extensions: u32,
    pub grant: Grant,
    pub handle: Handle,
}

/// What people added to a run's time: all of it, and in how many pieces. Telling it twice adds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub total: Duration,
    pub count: u32,
}

/// A workspace saved without touching it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub reference: Box<str>,
    pub commit: Box<str>,
    /// On the node's clock.
    pub at: Timestamp,
}

/// How the runtime calls what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handle {
    Process { pid: u32 },
    Tmux { name: Box<str> },
    Container { id: Box<str> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    pub order: Order,
    /// None: it never started.
    pub started: Option<Timestamp>,
    pub ended: Timestamp,
    pub outcome: Outcome,
    pub usage: Usage,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub step: u32,
    pub of: u32,
    pub name: Box<str>,
}

/// Where the files are; a fact that the node reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    pub path: Box<str>,
    pub branch: Box<str>,
    /// The commit that the base was resolved to, once, at creation.
    pub base_commit: Box<str>,
}

/// What removal left behind, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub branch: Option<Box<str>>,
    /// References that hold saved work.
    pub trash: Vec<Box<str>>,
    pub reasons: Vec<Box<str>>,
}

/// Drover could not do its own work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: FaultCode,
    pub step: Box<str>,
    pub text: Box<str>,
    pub hint: Box<str>,
    pub retryable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCode {
    GitMissing,
    NotARepository,
    RepositoryUnsupported,
    PermissionDenied,
    PathGone,
    PathTaken,
    BranchTaken,
    BaseMissing,
    DiskFull,
    LockHeld,
    Network,
    Authentication,
    TimedOut,
    CommandNotFound,
    UserUnknown,
    Unsupported,
    WorkNotSaveable,
    Stuck,
    QueueTimeout,
    NodeLost,
    Other,
}

impl FaultCode {
    pub const ALL: [Self; 21] = [
        Self::GitMissing,
        Self::NotARepository,
        Self::RepositoryUnsupported,
        Self::PermissionDenied,
        Self::PathGone,
        Self::PathTaken,
        Self::BranchTaken,
        Self::BaseMissing,
        Self::DiskFull,
        Self::LockHeld,
        Self::Network,
        Self::Authentication,
        Self::TimedOut,
        Self::CommandNotFound,
        Self::UserUnknown,
        Self::Unsupported,
        Self::WorkNotSaveable,
        Self::Stuck,
        Self::QueueTimeout,
        Self::NodeLost,
        Self::Other,
    ];

    /// As programs know it.
    pub fn word(self) -> &'static str {
        match self {
            Self::GitMissing => "GIT_MISSING",
            Self::NotARepository => "NOT_A_REPOSITORY",
            Self::RepositoryUnsupported => "REPOSITORY_UNSUPPORTED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::PathGone => "PATH_GONE",
            Self::PathTaken => "PATH_TAKEN",
            Self::BranchTaken => "BRANCH_TAKEN",
            Self::BaseMissing => "BASE_MISSING",
            Self::DiskFull => "DISK_FULL",
            Self::LockHeld => "LOCK_HELD",
            Self::Network => "NETWORK",
            Self::Authentication => "AUTHENTICATION",
            Self::TimedOut => "TIMED_OUT",
            Self::CommandNotFound => "COMMAND_NOT_FOUND",
            Self::UserUnknown => "USER_UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
            Self::WorkNotSaveable => "WORK_NOT_SAVEABLE",
            Self::Stuck => "STUCK",
            Self::QueueTimeout => "QUEUE_TIMEOUT",
            Self::NodeLost => "NODE_LOST",
            Self::Other => "OTHER",
        }
    }
}

impl State {
    pub fn placement(&self) -> Option<&Placement> {
        match self {
            Self::Queued(Queue::Place) | Self::Cleaned { .. } => None,
            Self::Queued(Queue::Slot(placement) | Queue::Start(placement, _))
            | Self::Creating { placement, .. }
            | Self::Ready { placement }
            | Self::Running { placement, .. }
            | Self::Cleaning { placement, .. } => Some(placement),
            Self::Orphaned { was, .. } => was.placement(),
            Self::Error { placement, .. } => placement.as_ref(),
        }
    }

    /// The run that goes on, as far as its node was heard.
    pub fn live(&self) -> Option<&LiveRun> {
        match self {
            Self::Running { run, .. } => Some(run),
            Self::Orphaned { was, .. } => was.live(),
            Self::Queued(_)
            | Self::Creating { .. }
            | Self::Ready { .. }
            | Self::Cleaning { .. }
            | Self::Cleaned { .. }
            | Self::Error { .. } => None,
        }
    }

    /// The run that a node was told to make and has not reported as ended.
    pub fn order(&self) -> Option<Order> {
        match self {
            Self::Queued(Queue::Start(_, order)) => Some(*order),
            Self::Creating { order, .. } => *order,
            Self::Running { run, .. } => Some(run.order),
            Self::Cleaning { run, .. } => *run,
            Self::Orphaned { was, .. } => was.order(),
            Self::Queued(Queue::Place | Queue::Slot(_))
            | Self::Ready { .. }
            | Self::Cleaned { .. }
            | Self::Error { .. } => None,
        }
    }

    /// The node on which it takes a slot: while it is made, runs, or may still have processes.
    pub fn slot(&self) -> Option<NodeId> {
        match self {
            Self::Creating { placement, .. }
            | Self::Running { placement, .. }
            | Self::Queued(Queue::Start(placement, _))
            | Self::Cleaning { placement, run: Some(_), .. } => Some(placement.node),
            Self::Orphaned { was, .. } => was.slot(),
            Self::Queued(Queue::Place | Queue::Slot(_))
            | Self::Ready { .. }
            | Self::Cleaning { run: None, .. }
            | Self::Cleaned { .. }
            | Self::Error { .. } => None,
        }
    }

    pub fn kind(&self) -> StateKind {
        match self {
            Self::Queued(_) => StateKind::Queued,
            Self::Creating { .. } => StateKind::Creating,
            Self::Ready { .. } => StateKind::Ready,
            Self::Running { .. } => StateKind::Running,
            Self::Cleaning { .. } => StateKind::Cleaning,
            Self::Cleaned { .. } => StateKind::Cleaned,
            Self::Error { .. } => StateKind::Error,
            Self::Orphaned { .. } => StateKind::Orphaned,
        }
    }
}

/// A state without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    Queued,
    Creating,
    Ready,
    Running,
    Cleaning,
    Cleaned,
    Error,
    Orphaned,
}

impl StateKind {
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Creating,
        Self::Ready,
        Self::Running,
        Self::Cleaning,
        Self::Cleaned,
        Self::Error,
        Self::Orphaned,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Cleaning => "cleaning",
            Self::Cleaned => "cleaned",
            Self::Error => "error",
            Self::Orphaned => "orphaned",
        }
    }

    /// Whether the table of states allows to go from here to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use StateKind as S;
        match self {
            S::Queued => matches!(
                next,
                S::Creating | S::Running | S::Ready | S::Cleaning | S::Cleaned | S::Error | S::Orphaned
            ),
            S::Creating => {
                matches!(next, S::Ready | S::Queued | S::Running | S::Error | S::Orphaned | S::Cleaning)
            }
            S::Ready => matches!(next, S::Queued | S::Cleaning | S::Error | S::Orphaned),
            S::Running => matches!(next, S::Ready | S::Queued | S::Cleaning | S::Error | S::Orphaned),
            S::Cleaning => matches!(next, S::Cleaned | S::Error | S::Orphaned),
            S::Error => matches!(next, S::Queued | S::Ready | S::Cleaning | S::Cleaned),
            S::Orphaned => matches!(
                next,
                S::Creating | S::Ready | S::Running | S::Queued | S::Cleaning | S::Cleaned | S::Error
            ),
            S::Cleaned => false,
        }
    }
}

impl Session {
    /// The branch that its work is on: `drover/<name>`, with the project before it outside of the default one.
    pub fn branch(&self) -> String {
        if self.project.is_default_project() {
            format!("drover/{}", self.name)
        } else {
            format!("drover/{}.{}", self.project, self.name)
        }
    }

    /// `name`, or `project/name` outside of the default project.
    pub fn title(&self) -> String {
        if self.project.is_default_project() {
            self.name.to_string()
        } else {
            format!("{}/{}", self.project, self.name)
        }
    }

    /// Whether its workspace is to be made anew, and its node was not told so yet.
    pub fn wants_rebuild(&self) -> bool {
        self.rebuilds > self.rebuilt
    }

    pub fn is_held(&self, now: Timestamp) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.until.is_none_or(|until| until > now))
    }

    /// When it has waited in the queue for too long.
    pub fn queue_deadline(&self) -> Option<Timestamp> {
        let limit: Duration = self.spec.limits.queue_timeout?;
        matches!(self.state, State::Queued(Queue::Place | Queue::Slot(_))).then(|| self.since.after(limit))
    }
}
