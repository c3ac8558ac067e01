//! The live registry: one writer, an OS thread, that decides commands in batches, commits each batch in one transaction,
//! then publishes the new value, wakes those who watch, and only then answers. Reading never waits for it and never sees
//! what could still be lost.

mod published;
mod requests;
mod writer;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use drover_daemon::clock::Clock;
use drover_domain::command::Command;
use drover_domain::fleet::{Answer, Fleet};
use drover_domain::id::InstallationId;
use drover_domain::refused::Refused;
use drover_domain::time::Timestamp;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Metrics;
use crate::store::{History, OpenError, RequestKey, Store};

pub use published::{Published, Recent};

/// How many commands of people may wait; then they are refused at once.
const USERS: usize = 4096;
/// How often all of the file is read and checked: at the start, and then.
const CHECK_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How many reports may wait; then their links do.
const REPORTS: usize = 4096;

/// A handle on the registry; cheap to clone. The writer ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Registry {
    users: mpsc::Sender<Job>,
    reports: mpsc::Sender<Job>,
    published: Arc<ArcSwap<Published>>,
    revision: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<Arc<str>>>,
    /// What is wrong with the file, if something is.
    damage: Arc<OnceLock<Arc<str>>>,
    history: History,
    clock: Clock,
}

/// The writer's thread.
#[derive(Debug)]
pub struct Owner(Vec<thread::JoinHandle<()>>);

impl Owner {
    /// Waits until everything is written and the file closed; every [`Registry`] must be dropped before.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a thread of the registry panicked");
            }
        }
    }
}

/// What makes a call safe to repeat: its key, the hash of what it asks, and how its answer looks on the wire.
pub struct Repeatable {
    pub key: RequestKey,
    pub payload: [u8; 32],
    pub render: Render,
}

pub type Render = Box<dyn Fn(&Fleet, &Answer, Timestamp) -> Bytes + Send>;

impl std::fmt::Debug for Repeatable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.key.fmt(f)
    }
}

/// What became of a command.
#[derive(Clone, Debug)]
pub enum Done {
    Fresh(Answer),
    /// It was done before, by a call with the same request id; this is what was answered then.
    Repeated(Bytes),
}

#[derive(Clone, Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Refused(Refused),
    #[error("the request id was used before, for something else")]
    RequestIdReused,
    #[error("too many commands are waiting")]
    Full,
    /// Nothing of it happened.
    #[error("the registry cannot be written: {0}")]
    NotWritten(String),
    /// It may have happened; the same request id finds out.
    #[error("it is not known whether it was done: {0}")]
    OutcomeUnknown(String),
    #[error("the controller is shutting down")]
    Closed,
}

/// Work on its way to the writer.
#[derive(Debug)]
struct Job {
    work: Work,
    answer: oneshot::Sender<Result<Done, Error>>,
}

#[derive(Debug)]
enum Work {
    Decide(Command, Option<Repeatable>),
    /// What is kept under this request, asked for with this payload. Fresh: nothing is.
    Recall(RequestKey, [u8; 32]),
    /// Keeps this under it, unless something is kept already. Fresh: nothing was.
    Remember(RequestKey, [u8; 32], Bytes),
}

impl Registry {
    /// Whether `directory` holds a registry; an empty file is none.
    pub fn is_there(directory: &Path) -> bool {
        Store::is_there(directory)
    }

    /// Opens the registry in `directory`, and starts its writer.
    pub fn open(
        directory: &Path,
        new: InstallationId,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<(Self, Owner), OpenError> {
        let (store, loaded) = Store::open(directory, new)?;
        let history = store.history();
        let database = |why: String| OpenError::Database { path: directory.to_owned(), why };
        let checkpointer = store.checkpointer().map_err(|error| database(error.to_string()))?;
        let revision = loaded.fleet.revision();
        let published = Arc::new(ArcSwap::from_pointee(Published::new(loaded.fleet.clone())));
        let (users, user_jobs) = mpsc::channel(USERS);
        let (reports, report_jobs) = mpsc::channel(REPORTS);
        let (wake, woken) = watch::channel(revision);
        let (trouble, troubles) = watch::channel(None);
        let damage = Arc::new(OnceLock::new());
        let (damages, beside) = (damage.clone(), clock.clone());
        let ended = Arc::new(());
        let alive = Arc::downgrade(&ended);
        let outlet = writer::Outlet { published: published.clone(), wake, trouble, metrics };
        let writer = writer::Writer::new(store, &loaded.answers, outlet, clock.clone());
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(work).map_err(|error| database(error.to_string()))
        };
        let writing = spawn(
            "registry",
            Box::new(move || {
                writer.run(user_jobs, report_jobs);
                drop(ended);
            }),
        )?;
        let checkpoints = spawn(
            "checkpoints",
            Box::new(move || {
                let mut checked = None;
                while alive.strong_count() > 0 {
                    if let Err(error) = checkpointer.run() {
                        tracing::warn!("{error}");
                    }
                    let now = beside.boot();
                    if checked.is_none_or(|at| now.saturating_sub(at) > CHECK_EVERY) {
                        checked = Some(now);
                        if let Err(why) = checkpointer.check() {
                            tracing::error!("the registry's file was checked: {why}");
                            damages.get_or_init(|| why.into());
                        }
                    }
                    thread::sleep(writer::CHECKPOINT_EVERY);
                }
            }),
        )?;
        Ok((
            Self { users, reports, published, revision: woken, trouble: troubles, damage, history, clock },
            Owner(vec![writing, checkpoints]),
        ))
    }

    /// The registry as it is now.
    pub fn now(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// The revision, as it moves.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }

    /// Why the last batch could not be written; none: it was.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.borrow().clone()
    }

    /// What is wrong with the file, if something is. It may be written all the same.
    pub fn damage(&self) -> Option<Arc<str>> {
        self.damage.get().cloned()
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.wall_millis())
    }

    /// Decides a command of a person or of the controller, and waits until its effect is durable.
    pub async fn submit(&self, command: Command, repeatable: Option<Repeatable>) -> Result<Done, Error> {
        self.ask(Work::Decide(command, repeatable)).await
    }

    /// What is kept under this request: for a call whose effect is on a node, and not in here.
    pub async fn recall(&self, key: RequestKey, payload: [u8; 32]) -> Result<Option<Bytes>, Error> {
        match self.ask(Work::Recall(key, payload)).await? {
            Done::Repeated(kept) => Ok(Some(kept)),
            Done::Fresh(_) => Ok(None),
        }
    }

    /// Keeps this under the request, durably. Returns what is kept now: what came first stays.
    pub async fn remember(&self, key: RequestKey, payload: [u8; 32], answer: Bytes) -> Result<Bytes, Error> {
        match self.ask(Work::Remember(key, payload, answer.clone())).await? {
            Done::Repeated(kept) => Ok(kept),
            Done::Fresh(_) => Ok(answer),
        }
    }

    async fn ask(&self, work: Work) -> Result<Done, Error> {
        let (answer, answered) = oneshot::channel();
        self.users.try_send(Job { work, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// The same for what nodes say: it waits for its place, and the node waits with it.
    pub async fn report(&self, command: Command) -> Result<Done, Error> {
        self.report_soon(command).await?.await.map_err(|_| Error::Closed)?
    }

    /// Puts a report into its lane; the answer comes later, so that many can be on their way.
    pub async fn report_soon(
        &self,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Done, Error>>, Error> {
        let (answer, answered) = oneshot::channel();
        let work = Work::Decide(command, None);
        self.reports.send(Job { work, answer }).await.map_err(|_| Error::Closed)?;
        Ok(answered)
    }
}

#[cfg(test)]
mod tests;
