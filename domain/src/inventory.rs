//! What one node really has, as its agent saw it in one look: grouped by the session whose mark it bears. Facts with three
//! values and their evidence; what they mean is decided in [`crate::reconcile`]. Stamps are of the clock of whoever reconciles.

use imbl::OrdMap;

use crate::converge::Site;
use crate::fence::Fence;
use crate::id::{RunId, SessionId};
use crate::presence::Presence;
use crate::time::Timestamp;

/// One look at a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Grows with each look; never 0.
    pub look: u64,
    pub sessions: OrdMap<SessionId, Traces>,
    pub locks: Vec<LockFile>,
    /// What lies where only Drover's things should and bears no mark.
    pub strays: Vec<Stray>,
    /// What could not be looked at: of it nothing is known.
    pub blind: Vec<Blind>,
}

/// What is there of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// None: the ledger does not know it.
    pub ledger: Option<LedgerView>,
    pub worktrees: Vec<Worktree>,
    pub away: Vec<Away>,
    pub references: Vec<References>,
    /// The run that the ledger holds alive.
    pub run: Option<RunTrace>,
    pub processes: Vec<Process>,
}

/// What a ledger says of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerView {
    pub fence: Fence,
    /// Whether something is wanted of it, as far as the node was told.
    pub is_assigned: bool,
    pub site: Site,
    pub path: Option<Box<str>>,
    /// A run that has not ended.
    pub run: Option<RunId>,
    /// Something is being done for it right now.
    pub is_busy: bool,
    /// Lists of steps that were begun and not finished.
    pub sagas: Vec<Box<str>>,
}

/// A worktree's entry that bears the session's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worktree {
    /// The repository's common directory.
    pub repository: Box<str>,
    pub entry: Box<str>,
    /// None: the entry does not say.
    pub path: Option<Box<str>>,
    pub directory: Presence<()>,
    pub branch: Option<Box<str>>,
    pub fence: Fence,
    pub since: Timestamp,
}

/// A directory that was renamed on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    pub path: Box<str>,
    /// It only waits to be deleted.
    pub is_saved: bool,
    pub since: Timestamp,
}

/// References of a session's own in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct References {
    pub repository: Box<str>,
    /// The commit that it began with, if the reference that says whose its branch is is there.
    pub base: Option<Box<str>>,
    pub checkpoints: u32,
    pub since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTrace {
    pub run: RunId,
    /// Whether its supervisor or its command lives.
    pub alive: Presence<()>,
}

/// A living process that bears the session's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// In the kernel's ticks since the boot.
    pub start: u64,
    pub run: Option<RunId>,
    pub name: Box<str>,
    pub since: Timestamp,
}

/// A lock file of git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockFile {
    pub repository: Box<str>,
    /// Below the repository.
    pub name: Box<str>,
    pub since: Timestamp,
    /// Who may be holding it. None: nobody that could be seen.
    pub holder: Option<Box<str>>,
    /// A git of this node's agent may have left it.
    pub is_ours: bool,
    /// Tells this file from another one of the same name.
    pub stamp: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub path: Box<str>,
    pub what: Box<str>,
    pub since: Timestamp,
}

/// What could not be looked at, where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    pub kind: Kind,
    /// A repository or a directory. None: everywhere.
    pub place: Option<Box<str>>,
    pub why: Box<str>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Worktrees,
    References,
    Processes,
    Locks,
    Directories,
    Runs,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Worktrees, Self::References, Self::Processes, Self::Locks, Self::Directories, Self::Runs];

    pub fn word(self) -> &'static str {
        match self {
            Self::Worktrees => "worktrees",
            Self::References => "references",
            Self::Processes => "processes",
            Self::Locks => "locks",
            Self::Directories => "directories",
            Self::Runs => "runs",
        }
    }
}

impl Inventory {
    /// Whether all things of this kind could be seen.
    pub fn sees(&self, kind: Kind) -> bool {
        !self.blind.iter().any(|blind| blind.kind == kind)
    }

    /// Whether things of this kind at this path may have been missed.
    pub fn is_blind(&self, kind: Kind, path: &str) -> bool {
        let hides = |place: &str| place.starts_with(path) || path.starts_with(place);
        self.blind.iter().any(|blind| blind.kind == kind && blind.place.as_deref().is_none_or(hides))
    }
}

impl Traces {
    /// Whether there is anything on the machine, beside what the ledger says.
    pub fn is_empty(&self) -> bool {
        self.worktrees.is_empty()
            && self.away.is_empty()
            && self.references.is_empty()
            && self.run.is_none()
            && self.processes.is_empty()
    }
}
