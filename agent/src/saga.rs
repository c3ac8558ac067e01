//! The agent's sagas: which steps make a workspace, start a run, remove a workspace, and in which order. Decides
//! nothing of when; knows the ledger only through what a saga's facts say.

pub mod removal;
pub mod run;
pub mod saved;
pub mod trash;
pub mod workspace;

use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use drover_daemon::tasks::Tasks;
use drover_domain::converge::Assignment;
use drover_domain::id::{InstallationId, NodeId, SessionId};
use drover_domain::outcome::{Outcome, Usage};
use drover_domain::presence::Presence;
use drover_domain::session::{Fault, Order};
use drover_domain::time::Timestamp;

use crate::git::failure::Failure;
use crate::git::mirror::Mirrors;
use crate::git::runner::Account;
use crate::logs::From;
use crate::logs::follow::Follow;
use crate::workspace::Workspaces;
use run::Launch;
use workspace::Layout;

/// This node's own places and tools; cheap to clone.
#[derive(Clone, Debug)]
pub struct Home {
    /// The agent's state directory.
    pub state: PathBuf,
    pub installation: InstallationId,
    pub node: NodeId,
    /// Where worktrees go.
    pub worktrees: PathBuf,
    pub workspaces: Workspaces,
    pub mirrors: Mirrors,
    pub runs: Arc<dyn Runs>,
}

/// What hosts runs. A run is named by its session and its order; every call may be repeated.
#[async_trait]
pub trait Runs: Debug + Send + Sync {
    /// Whether the run was started here, ended or not.
    async fn started(&self, session: SessionId, order: Order) -> Presence<Launch>;

    async fn start(&self, assignment: &Assignment, order: Order, layout: &Layout) -> Result<Launch, Fault>;

    /// Ends what a start that failed may have left, whatever it is.
    async fn undo(&self, session: SessionId, order: Order) -> Result<(), Fault>;

    /// Stops the run; returns when no process of it is left.
    async fn stop(&self, session: SessionId, order: Order, how: Stop<'_>) -> Result<Ended, Fault>;

    /// The end of a run that was started, when it comes; at once if it came. Waits as long as nothing can be seen.
    async fn ended(&self, session: SessionId, order: Order) -> Ended;

    /// Whether its supervisor or its command lives, as far as what is kept of the run and its control group tell.
    fn lives(&self, session: SessionId, order: Order) -> Presence<()>;

    /// The end of a run that nobody saw end: what a dead supervisor left is ended first, and one of which nothing is
    /// kept and nothing lives is lost. `None`: it goes on.
    async fn settle(&self, session: SessionId, order: Order) -> Result<Option<Ended>, Fault>;

    /// Gives the run more time: everything that was ever granted for it, and in how many grants. Moves the deadline by
    /// what is new of it.
    async fn extend(
        &self,
        session: SessionId,
        order: Order,
        granted_total: Duration,
        grants: u32,
    ) -> Result<Extended, Fault>;

    /// The run's deadline, once it has been moved more often than is known, by signs of life or grants; at once if it
    /// has. Never, if the run ends before.
    async fn extended(&self, session: SessionId, order: Order, known: u32) -> Extended;

    /// Lets the run go on until then (time since boot) and no longer, whatever becomes of this program; never less long
    /// than it was let before.
    async fn fence(&self, session: SessionId, order: Order, until_boot: Duration) -> Result<(), Fault>;

    /// The runs of a session that something is kept of here, the first one first.
    async fn kept(&self, session: SessionId) -> Result<Vec<Order>, Fault>;

    /// The run's log from the latest of these places on: to where it is written now, or until the run has ended.
    async fn log(&self, session: SessionId, order: Order, excerpt: Excerpt) -> Result<Follow, Fault>;

    /// Deletes what is kept of all of the session's runs: their logs.
    async fn forget(&self, session: SessionId) -> Result<(), Fault>;

    /// The account that runs under this name.
    fn account(&self, name: &str) -> Result<Account, Fault>;
}

#[derive(Clone, Copy, Debug)]
pub struct Stop<'a> {
    pub grace: Duration,
    /// Who ordered it.
    pub by: &'a str,
}

/// Which part of a log.
#[derive(Clone, Debug, Default)]
pub struct Excerpt {
    /// None: the beginning.
    pub from: Vec<From>,
    /// Go on as more is written.
    pub follow: bool,
}

/// How a run's deadline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// None: the run has no timeout.
    pub deadline: Option<Timestamp>,
    /// How often it was moved, grants included.
    pub extensions: u32,
}

/// The end of a run: no process of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// None: it never started.
    pub started: Option<Timestamp>,
    pub ended: Timestamp,
    pub outcome: Outcome,
    pub usage: Usage,
}

impl Home {
    /// The account that a session's own parts run as; none: the agent's. It may pass through the state directory from
    /// here on, as what is made for it lies below; what is not its own stays closed.
    pub fn account(&self, name: Option<&str>) -> Result<Option<Account>, Fault> {
        let Some(name) = name else { return Ok(None) };
        let account = self.runs.account(name)?;
        fs::set_permissions(&self.state, fs::Permissions::from_mode(0o711)).map_err(|error| {
            Failure::io("let the session's user pass", &self.state, &error).fault("account")
        })?;
        Ok(Some(account))
    }

    /// Deletes in the background what was put away. What fails is left for the next time.
    pub fn delete_put_away(&self, tasks: &Tasks) {
        let (workspaces, root) = (self.workspaces.clone(), self.worktrees.clone());
        tasks.spawn(async move {
            if let Err(failure) = workspaces.delete_put_away(&root).await {
                tracing::warn!("removed workspaces are not deleted yet: {failure}");
            }
        });
    }
}

#[cfg(test)]
mod tests;
