//! Runs as processes of this machine, each under a supervisor of its own that goes on without the agent. What is here
//! only starts supervisors, talks to them, and settles what a dead one left; everything it knows of a run stands in the
//! run's directory, so that an agent that is started anew knows as much as the one before.
//!
//! Every call may be repeated. Unknown is not gone: what cannot be seen is neither started again nor called ended.

pub mod account;
mod deadline;
mod environment;
mod install;
mod keep;
mod launch;
mod look;
mod runs;
mod settle;
mod talk;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_daemon::atomic;
use drover_daemon::clock::Clock;
use drover_domain::id::{NodeId, RunId, SessionId};
use drover_domain::outcome::Outcome;
use drover_domain::presence::Presence;
use drover_domain::session::Order;
use thiserror::Error;

use crate::cgroup::Cgroup;
use crate::logs::{self, follow::Follow, read::Reader};
use crate::process::Boot;
use crate::shim::record::{Exit, Limits, Run, RunDirectory, Unreadable, User};
pub use deadline::AskError;
pub use look::Seen;
use talk::Said;

/// Where an agent keeps its runs, and what it starts them with.
#[derive(Clone, Debug)]
pub struct Places {
    /// The agent's state directory.
    pub state: PathBuf,
    /// For sockets and heartbeats: a short path, which need not outlive the boot.
    pub sockets: PathBuf,
    pub node: NodeId,
    /// A program that serves the `shim` command. A copy of it is kept in the state directory.
    pub program: PathBuf,
    /// Where control groups may be made, see [`crate::cgroup::home`]; none: runs get none.
    pub cgroups: Option<PathBuf>,
    /// Where this boot's name stands, see [`Boot::FILE`].
    pub boot_id: PathBuf,
}

/// The runs of one agent; cheap to clone.
#[derive(Clone, Debug)]
pub struct Processes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    runs: PathBuf,
    sockets: PathBuf,
    shim: PathBuf,
    cgroup: Option<PathBuf>,
    clock: Clock,
    boot: Boot,
    /// The runs that are being started.
    starting: Mutex<HashSet<RunId>>,
}

/// The turn to start a run; two at once would take each other's directory away.
#[derive(Debug)]
struct Turn {
    shared: Arc<Shared>,
    run: RunId,
}

/// Which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub session: SessionId,
    pub order: Order,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Job {
    pub command: Vec<String>,
    /// The whole environment but for what marks the run.
    pub environment: BTreeMap<String, String>,
    pub workspace: PathBuf,
    pub fence: String,
    pub user: Option<User>,
    pub limits: Limits,
}

#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot {what} in {}: {source}", path.display())]
    Files { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the supervisor {} cannot be run: {source}", shim.display())]
    Launch { shim: PathBuf, source: io::Error },
    #[error("the run was not started: {0}")]
    Supervisor(String),
    #[error("run {ordinal} of this session has not ended on this node")]
    NotAlone { ordinal: u32 },
    #[error("cannot see whether the run was started: {0}")]
    Unseen(String),
    #[error("the path of its socket is too long ({}): use a shorter directory for sockets", .0.display())]
    LongSocket(PathBuf),
}

#[derive(Debug, Error)]
pub enum StopError {
    #[error("these processes do not end although they were killed: {pids:?}")]
    Stuck { pids: Vec<u32> },
    #[error("the run's supervisor (process {pid}) does not answer")]
    Silent { pid: u32 },
    #[error("the run cannot be seen: {0}")]
    Unseen(String),
}

/// As long as the kernel allows, with its end.
const LONGEST_SOCKET: usize = 107;
/// Between looks at what cannot be waited for.
const PAUSE: Duration = Duration::from_millis(500);
/// What a supervisor needs for the end beyond the grace: five seconds each to tell and to kill, and some more.
const END: Duration = Duration::from_secs(20);

impl Processes {
    /// Makes the places and the supervisor's copy, if they are not there.
    pub fn open(places: &Places, clock: Clock) -> io::Result<Self> {
        let runs = places.state.join("runs");
        atomic::private_directory(&runs)?;
        atomic::private_directory(&places.sockets)?;
        let shim = install::copy(&places.program, &places.state)?;
        let node = places.node.short();
        let cgroup = places.cgroups.as_ref().map(|home| home.join("drover").join(node));
        let (sockets, boot) = (places.sockets.clone(), Boot::read(&places.boot_id)?);
        let starting = Mutex::default();
        Ok(Self(Arc::new(Shared { runs, sockets, shim, cgroup, clock, boot, starting })))
    }

    /// Whether the run was started here, and how it stands.
    pub fn look(&self, key: Key) -> Presence<Seen> {
        look::look(&self.directory(key), &self.0.boot)
    }

    /// Starts the run, once: one that was started before is only looked at. Returns when the command runs, or has
    /// ended, or could not be started (then the run has ended with that).
    pub async fn start(&self, key: Key, job: Job) -> Result<Seen, StartError> {
        let turn = Arc::new(self.turn(key).await);
        match self.look(key) {
            Presence::Present(Seen::Starting) => return self.started(key).await,
            Presence::Present(seen) => return Ok(seen),
            Presence::Absent => {}
            Presence::Unknown(why) => return Err(StartError::Unseen(why)),
        }
        self.check_alone(key)?;
        let run = self.run(key, job)?;
        let (this, directory) = (self.clone(), self.directory(key));
        // It goes on even if nobody waits for it any more, and the turn lasts as long.
        let held = turn.clone();
        let made = tokio::task::spawn_blocking(move || {
            let made = this.make(&directory, &run);
            drop(held);
            made
        });
        match made.await {
            Ok(made) => made?,
            // The program ends, and says nothing more of the run: it is looked for at the next start.
            Err(error) if error.is_cancelled() => std::future::pending().await,
            Err(error) => return Err(StartError::Supervisor(error.to_string())),
        }
        let said = launch::launch(&self.0.shim, &self.directory(key)).await;
        let said = said.map_err(|source| StartError::Launch { shim: self.0.shim.clone(), source })?;
        match self.started(key).await {
            Err(StartError::Supervisor(_)) if !said.is_empty() => Err(StartError::Supervisor(said)),
            result => result,
        }
    }

    /// Ends the run; returns when no process of it is left. `None`: it was never started. What had ended before has
    /// ended as it did.
    pub async fn stop(&self, key: Key, by: &str, grace: Duration) -> Result<Option<Exit>, StopError> {
        let patience = self.0.clock.boot() + grace + END;
        let mut silent = None;
        loop {
            let mut pause = PAUSE / 10;
            match self.look(key) {
                Presence::Present(Seen::Ended(exit)) => return Ok(Some(exit)),
                Presence::Present(Seen::Starting | Seen::Running(_)) => {
                    match self.tell_to_stop(key, by, grace).await {
                        // The exit file is there: the next look finds it.
                        Said::Ended => pause = Duration::ZERO,
                        Said::Nothing => {}
                        Said::Stuck(pids) => return Err(StopError::Stuck { pids }),
                        Said::Silent => silent = self.wake(key).or(silent),
                    }
                }
                Presence::Present(Seen::Orphaned) => {
                    let settled = self.settle(key, Outcome::Stopped(by.into())).await?;
                    if settled.is_some() {
                        return Ok(settled);
                    }
                }
                Presence::Absent => return self.sweep(key).await.map(|()| None),
                Presence::Unknown(why) => return Err(StopError::Unseen(why)),
            }
            if patience <= self.0.clock.boot() {
                let pid = silent.unwrap_or(0);
                return Err(StopError::Silent { pid });
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The end of the run, when it comes. What a dead supervisor left is ended first. Waits as long as nothing can be
    /// seen, and as long as there is nothing to be seen: a run is never called lost because its record is.
    pub async fn ended(&self, key: Key) -> Exit {
        loop {
            match self.look(key) {
                Presence::Present(Seen::Ended(exit)) => {
                    // If its supervisor is in it for another moment, it goes with the run.
                    let _ = self.cgroup(key).map(|group| group.remove());
                    return exit;
                }
                Presence::Present(Seen::Starting | Seen::Running(_)) => {
                    if matches!(self.wait(key).await, Said::Stuck(_)) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    // It may have said so to nobody: then it is seen at the next look.
                    tokio::time::sleep(PAUSE / 50).await;
                    continue;
                }
                Presence::Present(Seen::Orphaned) => match self.settle(key, self.interruption(key)).await {
                    Ok(Some(exit)) => return exit,
                    Ok(None) => {}
                    Err(error) => tracing::warn!(run = %key.order.run, "{error}"),
                },
                Presence::Absent => {}
                Presence::Unknown(why) => tracing::warn!(run = %key.order.run, "cannot be seen: {why}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Every run that is kept here.
    pub fn all(&self) -> io::Result<Vec<Key>> {
        let mut found = Vec::new();
        for session in fs::read_dir(&self.0.runs)? {
            let session = session?;
            let Some(id) = session.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            found.extend(self.of(id)?);
        }
        Ok(found)
    }

    /// The runs of a session, the first one first.
    pub fn of(&self, session: SessionId) -> io::Result<Vec<Key>> {
        let entries = match fs::read_dir(self.0.runs.join(session.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let order = name.to_str().and_then(|name| {
                let (ordinal, run) = name.split_once('-')?;
                Some(Order { run: run.parse().ok()?, ordinal: ordinal.parse().ok()? })
            });
            found.extend(order.map(|order| Key { session, order }));
        }
        found.sort_by_key(|key| key.order.ordinal);
        Ok(found)
    }

    /// Deletes what is kept of the run. Refused as long as anything of it lives: this is all that leads to it.
    pub fn forget(&self, key: Key) -> io::Result<()> {
        let run = key.order.run;
        let lives = |what: &str| Err(io::Error::other(format!("{what} of run {run} still lives")));
        // A supervisor that has said how the run ended holds it for another moment, and wants nothing more of it.
        match self.look(key) {
            Presence::Present(Seen::Starting | Seen::Running(_)) => return lives("the supervisor"),
            Presence::Unknown(why) => return Err(io::Error::other(why)),
            Presence::Present(Seen::Ended(_) | Seen::Orphaned) | Presence::Absent => {}
        }
        if self.cgroup(key).is_some_and(|group| group.is_populated()) {
            return lives("a process");
        }
        remove_if_there(fs::remove_file(self.socket(key)))?;
        remove_if_there(fs::remove_dir_all(self.desk(key)))?;
        if let Some(group) = self.cgroup(key)
            && let Err(error) = group.remove()
        {
            tracing::warn!(%run, "its control group cannot be removed: {error}");
        }
        remove_if_there(fs::remove_dir_all(self.directory(key).path()))
    }

    /// Reads the run's log from the latest of these places on; from its beginning if there is none.
    pub fn read_log(&self, key: Key, from: &[logs::From]) -> Result<Reader, logs::read::Error> {
        let log = self.directory(key).log();
        let begin = Reader::open(&log, logs::From::Beginning)?;
        from.iter().try_fold(begin, |latest, from| Ok(latest.or_later(Reader::open(&log, *from)?)))
    }

    /// Goes on as more is written, until the run has ended.
    pub fn follow(&self, key: Key, reader: Reader) -> Follow {
        let this = self.clone();
        Follow::new(reader, move || match this.look(key) {
            Presence::Present(Seen::Ended(_)) | Presence::Absent => true,
            Presence::Present(Seen::Starting | Seen::Running(_) | Seen::Orphaned) | Presence::Unknown(_) => {
                false
            }
        })
    }

    fn directory(&self, key: Key) -> RunDirectory {
        let Order { run, ordinal } = key.order;
        RunDirectory::at(self.0.runs.join(key.session.to_string()).join(format!("{ordinal}-{run}")))
    }

    fn socket(&self, key: Key) -> PathBuf {
        self.0.sockets.join(format!("{}.sock", key.order.run))
    }

    fn desk(&self, key: Key) -> PathBuf {
        self.0.sockets.join(key.order.run.to_string())
    }

    /// The run's control group, where its supervisor was told to make it.
    fn cgroup(&self, key: Key) -> Option<Cgroup> {
        self.directory(key).run().ok().flatten()?.cgroup.map(Cgroup::at)
    }

    async fn turn(&self, key: Key) -> Turn {
        let run = key.order.run;
        while !self.0.starting.lock().unwrap_or_else(PoisonError::into_inner).insert(run) {
            tokio::time::sleep(PAUSE / 50).await;
        }
        Turn { shared: self.0.clone(), run }
    }

    /// No run starts while a process of an older one of its session may be left, whatever the ledger says.
    fn check_alone(&self, key: Key) -> Result<(), StartError> {
        let unseen = |error: io::Error| StartError::Unseen(error.to_string());
        let others = self.of(key.session).map_err(unseen)?.into_iter().filter(|other| *other != key);
        for other in others {
            match self.look(other) {
                Presence::Present(Seen::Ended(_)) | Presence::Absent => {}
                Presence::Present(_) => return Err(StartError::NotAlone { ordinal: other.order.ordinal }),
                Presence::Unknown(why) => return Err(StartError::Unseen(why)),
            }
        }
        Ok(())
    }

    /// What the supervisor is told.
    fn run(&self, key: Key, job: Job) -> Result<Run, StartError> {
        let socket = self.socket(key);
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(StartError::LongSocket(socket));
        }
        let mut run = Run {
            version: crate::shim::record::VERSION,
            id: key.order.run.to_string(),
            session: key.session.to_string(),
            fence: job.fence,
            boot: self.0.boot.clone(),
            written: self.0.clock.wall_millis(),
            command: job.command,
            environment: job.environment,
            directory: job.workspace,
            user: job.user,
            limits: job.limits,
            cgroup: self
                .0
                .cgroup
                .as_ref()
                .map(|home| home.join(format!("{}.{}", key.session, key.order.run))),
            socket,
            desk: self.desk(key),
        };
        environment::mark(&mut run);
        Ok(run)
    }

    /// Everything that a supervisor finds when it begins. What an earlier attempt left that never came to a start is
    /// replaced.
    fn make(&self, directory: &RunDirectory, run: &Run) -> Result<(), StartError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Files { what, path, source }
        };
        if run.user.is_some() {
            // The user must get through to its own directory, and see nothing on the way.
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            fs::set_permissions(&self.0.sockets, open).map_err(failed("open the way", &self.0.sockets))?;
        }
        let path = directory.path();
        remove_if_there(fs::remove_dir_all(path)).map_err(failed("make room", path))?;
        directory.create(run).map_err(failed("write down what to run", path))
    }

    /// How the run stands once its supervisor has come to the command.
    async fn started(&self, key: Key) -> Result<Seen, StartError> {
        for _ in 0..200 {
            match self.look(key) {
                Presence::Present(Seen::Starting) => tokio::time::sleep(PAUSE / 10).await,
                Presence::Present(seen) => return Ok(seen),
                Presence::Absent => {
                    return Err(StartError::Supervisor("its supervisor ended at once".into()));
                }
                Presence::Unknown(why) => return Err(StartError::Unseen(why)),
            }
        }
        Err(StartError::Unseen("its supervisor does not come to the command".into()))
    }

    /// What took a run along whose supervisor is gone.
    fn interruption(&self, key: Key) -> Outcome {
        use drover_domain::outcome::Cause;
        let run = self.directory(key).run().ok().flatten();
        let is_of_this_boot = run.is_some_and(|run| run.boot == self.0.boot);
        Outcome::Interrupted(if is_of_this_boot { Cause::Agent } else { Cause::Reboot })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}

fn remove_if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn told(unreadable: &Unreadable) -> String {
    unreadable.to_string()
}
