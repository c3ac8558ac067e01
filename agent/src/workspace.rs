//! Workspaces of sessions, kind worktree: made, looked at, saved and removed in steps that may be repeated and resumed
//! after a kill at any point. Only what bears the session's mark is touched, and nothing is removed before the work
//! in it is saved. Which steps run when, and what the ledger says of them, is decided elsewhere.

mod archive;
mod aside;
mod checkpoint;
mod create;
pub mod diff;
mod ground;
mod head;
mod late;
mod manifest;
mod names;
mod place;
mod plan;
mod record;
pub mod remove;
mod restore;
mod save;
mod status;
#[cfg(test)]
mod tests;
mod trash;
mod usable;
mod vanished;
mod walk;
pub mod work;

use std::path::{Path, PathBuf};

use crate::git::failure::Failure;
use crate::git::lock::{Asker, Held, Locks};
use crate::git::runner::{Account, Git, Length};
use crate::git::worktrees::{self, Entry, Mark};

pub use aside::Aside;
pub use checkpoint::Checkpoint;
pub use create::{Branch, Stage};
pub use late::Look;
pub use place::Away;
pub use record::{Label, Part, Record};
pub use trash::{Contents, Owner, Saved, TrashItem, TrashRules, keeper};

/// A session's workspace: where it is to be and whose it is. Everything that the steps need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The repository's common directory, as [`crate::git::read::open`] gave it.
    pub common: PathBuf,
    pub mark: Mark,
    /// The agent's directory for worktrees; nothing outside of it is made or removed.
    pub root: PathBuf,
    /// The worktree, somewhere below `root`.
    pub path: PathBuf,
    pub branch: String,
    /// The commit that the base was resolved to, once.
    pub base: String,
    /// Whose the files are and as whom the repository's own parts run; none: the agent's user.
    pub run_as: Option<Account>,
}

/// Makes and removes workspaces; cheap to clone. One for a process, because of its locks.
#[derive(Clone, Debug)]
pub struct Workspaces {
    git: Git,
    locks: Locks,
    /// Names of ignored paths that can be made again, and are therefore not saved.
    regenerable: std::sync::Arc<[Box<str>]>,
    trash: TrashRules,
}

/// What is known to come back by itself.
pub const REGENERABLE: [&str; 12] = [
    "target",
    "node_modules",
    ".venv",
    "venv",
    "__pycache__",
    ".tox",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".gradle",
    ".next",
    ".cache",
];

impl Workspaces {
    pub fn new(git: Git, regenerable: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        let locks = Locks::new(git.clock().clone());
        Self {
            git,
            locks,
            regenerable: regenerable.into_iter().map(Into::into).collect(),
            trash: TrashRules::default(),
        }
    }

    /// With other rules for what is saved than that everything is kept for 30 days.
    pub fn with_trash(self, trash: TrashRules) -> Self {
        Self { trash, ..self }
    }

    pub fn trash_rules(&self) -> TrashRules {
        self.trash
    }

    pub fn git(&self) -> &Git {
        &self.git
    }

    /// The locks to share with [`crate::git::mirror::Mirrors`].
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    async fn lock(&self, site: &Site, operation: &'static str) -> Result<Held, Failure> {
        self.lock_for(site, operation, &[]).await
    }

    /// `more`: further files that its git may lock.
    async fn lock_for(&self, site: &Site, operation: &'static str, more: &[String]) -> Result<Held, Failure> {
        self.lock_at(&site.common, operation, &[&site.git_locks(), more].concat()).await
    }

    /// The lock of a repository, for changes of these references' files.
    async fn lock_at(
        &self,
        common: &Path,
        operation: &'static str,
        locks: &[String],
    ) -> Result<Held, Failure> {
        self.locks.acquire(common, Asker { operation, locks }, self.git.limit(Length::Long)).await
    }
}

impl Site {
    pub fn branch_reference(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// Keeps the base alive, and says that the branch is this session's.
    pub fn base_reference(&self) -> String {
        format!("refs/drover/base/{}", self.mark.session)
    }

    /// What all of the session's saved work begins with.
    pub fn trash_prefix(&self) -> String {
        format!("refs/drover/trash/{}/", self.mark.session)
    }

    /// What all of the session's checkpoints begin with.
    pub fn wip_prefix(&self) -> String {
        format!("refs/drover/wip/{}/", self.mark.session)
    }

    /// The lock files that our git may leave in the common directory when it is killed.
    fn git_locks(&self) -> [String; 4] {
        [
            "packed-refs.lock".into(),
            "config.lock".into(),
            format!("{}.lock", self.branch_reference()),
            format!("{}.lock", self.base_reference()),
        ]
    }

    /// This session's entry among the repository's worktrees: by its mark, or by its path as long as nobody else's
    /// mark is on it (a killed git may have left one without).
    fn entry(&self, operation: &'static str) -> Result<Option<Entry>, Failure> {
        let all =
            worktrees::entries(&self.common).map_err(|error| Failure::io(operation, &self.common, &error))?;
        Ok(all.into_iter().find(|entry| self.owns(entry)))
    }

    /// Where another installation's or node's agent has the same session: its references there are not ours alone.
    fn elsewhere(&self, operation: &'static str) -> Result<Option<PathBuf>, Failure> {
        let all =
            worktrees::entries(&self.common).map_err(|error| Failure::io(operation, &self.common, &error))?;
        let is_others = |entry: &Entry| {
            let mark = entry.locked.as_deref().and_then(Mark::parse);
            mark.is_some_and(|mark| mark.session == self.mark.session) && !self.mark.is_on(entry)
        };
        Ok(all.into_iter().find(is_others).map(|entry| entry.path.unwrap_or(entry.admin)))
    }

    fn owns(&self, entry: &Entry) -> bool {
        let unmarked = || matches!(entry.locked.as_deref(), None | Some("" | "initializing"));
        self.mark.is_on(entry) || (entry.path.as_ref() == Some(&self.path) && unmarked())
    }
}
