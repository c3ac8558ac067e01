//! The composition root: from a config to a running agent. The binary, `droverctl dev` and tests start it in the same
//! way. Ending it ends no run: what is in hand is finished or parked, and the next start takes it up.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_domain::id::NodeId;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cgroup;
use crate::config::Config;
use crate::converge::{Converge, Means};
use crate::facts;
use crate::git::mirror::Mirrors;
use crate::git::runner::Git;
use crate::identity::join::{self, JoinError};
use crate::identity::{self, Identity, IdentityError, renew};
use crate::ledger::{self, Ledger, OpenError, Owner};
use crate::link::{Controller, Link, Standing};
use crate::process::Boot;
use crate::runtime::{Places, Processes};
use crate::saga::Home;
use crate::step::Engine;
use crate::tunnel::Tunnels;
use crate::upkeep;
use crate::workspace::Workspaces;

/// A running agent.
#[derive(Debug)]
pub struct Running {
    node: NodeId,
    name: String,
    standing: watch::Receiver<Standing>,
    tasks: Tasks,
    park: CancellationToken,
    owner: Owner,
}

/// Why an agent could not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error("cannot {what} {}: {why}", path.display())]
    File { what: &'static str, path: PathBuf, why: io::Error },
    #[error("it was stopped before it had started")]
    Stopped,
}

/// The agent.
#[derive(Debug)]
pub struct App;

impl App {
    /// Starts an agent: joins if it has no identity yet, takes up what its ledger holds, and keeps a link. Returns when
    /// everything that was here is taken up, whether the controller is there or not.
    pub async fn start(config: Config, clock: Clock, tasks: Tasks) -> Result<Running, StartError> {
        identity::prepare_state(&config.state_dir)?;
        let boot = boot(&config)?;
        let facts = facts::gather(&config.offer, &boot);
        let identity = match Identity::load(&config.state_dir)? {
            Some(identity) => identity,
            None => join::join(&config, &facts, &tasks).await?.ok_or(StartError::Stopped)?,
        };
        let (ledger, owner) = Ledger::open(&config.state_dir, identity.node)?;
        let runs = processes(&config, identity.node, &clock)?;
        let (home, shown) = (home(&config, &identity, runs.clone())?, identity.name.clone());
        let park = CancellationToken::new();
        let book = ledger.load().await?;
        let node = identity.node;
        let means = Means {
            home,
            ledger,
            engine: Engine::new(park.clone()),
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        means.home.delete_put_away(&tasks);
        let converge = Converge::start(means, config.limits, &book);
        tasks.spawn(upkeep::keep(converge.clone(), runs, config.logs, tasks.clone()));
        tracing::info!(%node, name = shown, sessions = book.sessions.len(), "the agent is up");
        let standing = keep_link(&config, converge, Arc::new(facts), identity);
        Ok(Running { node, name: shown, standing, tasks, park, owner })
    }
}

impl Running {
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The node's name, as the controller gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the controller hears this node, as it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Ends the agent: no new step begins, the one in hand is waited for. Runs go on. `false`: a step was cut off at the
    /// deadline; its intent is in the ledger, and the next start takes it up.
    pub async fn shutdown(self, patience: Duration) -> bool {
        self.park.cancel();
        let in_order = self.tasks.shutdown(patience).await;
        if in_order {
            // Every task has ended, so nothing holds the ledger open but its thread.
            let closed = tokio::task::spawn_blocking(move || self.owner.join()).await;
            return closed.is_ok();
        }
        in_order
    }
}

fn home(config: &Config, identity: &Identity, runs: Processes) -> Result<Home, StartError> {
    let state = &config.state_dir;
    let worktrees = config.worktrees.clone().unwrap_or_else(|| state.join("worktrees"));
    let worktrees = directory(&worktrees)?;
    let git = Git::new(config.git.clone());
    let workspaces = Workspaces::new(git.clone(), config.regenerable.iter().map(String::as_str));
    let workspaces = workspaces.with_trash(config.trash);
    let mirrors =
        Mirrors { root: directory(&state.join("repositories"))?, git, locks: workspaces.locks().clone() };
    Ok(Home {
        state: state.clone(),
        installation: identity.installation,
        node: identity.node,
        worktrees,
        workspaces,
        mirrors,
        runs: Arc::new(runs),
    })
}

fn boot(config: &Config) -> Result<Boot, StartError> {
    let path = &config.boot_id;
    let failed = |why| StartError::File { what: "read the boot's name from", path: path.clone(), why };
    Boot::read(path).map_err(failed)
}

fn processes(config: &Config, node: NodeId, clock: &Clock) -> Result<Processes, StartError> {
    // Users whom sessions run as pass through to their own.
    let passage = fs::DirBuilder::new().recursive(true).mode(0o711).create(&config.sockets);
    passage.map_err(|why| StartError::File {
        what: "make the directory",
        path: config.sockets.clone(),
        why,
    })?;
    let places = Places {
        state: config.state_dir.clone(),
        sockets: config.sockets.join(node.short()),
        node,
        program: config.shim.clone(),
        cgroups: cgroup::home(),
        boot_id: config.boot_id.clone(),
    };
    let opened = Processes::open(&places, clock.clone());
    opened.map_err(|why| StartError::File { what: "keep runs in", path: places.state, why })
}

/// Makes a directory and says its real path: git reports real paths, and paths are compared.
fn directory(path: &Path) -> Result<PathBuf, StartError> {
    let failed = |what| move |why| StartError::File { what, path: path.to_owned(), why };
    if !path.exists() {
        drover_daemon::atomic::private_directory(path).map_err(failed("make the directory"))?;
    }
    fs::canonicalize(path).map_err(failed("find the directory"))
}

fn keep_link(
    config: &Config,
    converge: Converge,
    facts: Arc<drover_domain::node::NodeFacts>,
    identity: Identity,
) -> watch::Receiver<Standing> {
    let Means { clock, tasks, .. } = converge.means().clone();
    let (fresh, known) = watch::channel(Arc::new(identity));
    let controller = Controller::new(&config.controller, known);
    let (standing, stands) = watch::channel(Standing::Away);
    let link = Link {
        controller: controller.clone(),
        facts,
        tunnels: Tunnels::new(converge.clone(), tasks.clone()),
        converge,
        clock: clock.clone(),
        tasks: tasks.clone(),
        standing,
    };
    tasks.spawn(link.keep());
    tasks.spawn(renew::keep_fresh(
        controller,
        fresh,
        config.state_dir.as_path().into(),
        clock,
        tasks.clone(),
    ));
    stands
}
