//! The ledger: the agent's durable record of what it was told, what it is about to make, has made or is removing,
//! and what it has yet to report. An effect's intent is committed here before the effect begins.
//!
//! One SQLite file with one owner (a kernel lock), on a thread of its own. Commits that wait together share one sync.
//! Reading is for the start; afterwards who commits knows what he wrote.

mod book;
mod open;
mod owner;
mod rows;
mod words;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use async_trait::async_trait;
use bytes::Bytes;
use drover_domain::id::{NodeId, SessionId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

pub use book::{Book, Entry, Heading, KeptBranch, Key, Mark, Pending, Record, TRASH, Write};
pub use open::OpenError;
use owner::Job;

/// How many commits may wait before committers do.
const WAITING: usize = 256;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error("the ledger could not {what}: {why}")]
    Failed { what: &'static str, why: String },
    #[error("the ledger is closed")]
    Closed,
}

/// Whoever commits. The step engine knows a ledger only by this.
#[async_trait]
pub trait Journal: Send + Sync {
    /// All of the writes, durably, or none.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), Error>;
}

/// The open ledger; cheap to clone, closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    reported: watch::Receiver<u64>,
    /// What a person should know of it.
    notes: Arc<Mutex<Vec<String>>>,
}

/// The thread that owns the file.
#[derive(Debug)]
pub struct Owner(thread::JoinHandle<()>);

impl Owner {
    /// Waits until the file is closed and its lock free; every [`Ledger`] must be dropped before.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the ledger's thread panicked");
        }
    }
}

impl Ledger {
    /// Opens (or makes) the ledger of `node` in `directory`.
    pub fn open(directory: &Path, node: NodeId) -> Result<(Self, Owner), OpenError> {
        let file = open::open(directory, node)?;
        let notes = Arc::new(Mutex::new(file.note.iter().cloned().collect()));
        let (jobs, waiting) = mpsc::channel(WAITING);
        let (tell, reported) = watch::channel(file.reported);
        let thread = thread::Builder::new()
            .name("ledger".into())
            .spawn(move || owner::run(file, waiting, &tell))
            .map_err(OpenError::Thread)?;
        Ok((Self { jobs, reported, notes }, Owner(thread)))
    }

    /// Everything that is written.
    pub async fn load(&self) -> Result<Book, Error> {
        self.ask(Job::Load).await
    }

    /// Its sagas without their steps, the repositories and the kept branches: little enough to be read every minute.
    pub async fn holdings(&self) -> Result<Book, Error> {
        self.ask(Job::Holdings).await
    }

    /// One session and its sagas.
    pub async fn session(&self, session: SessionId) -> Result<Book, Error> {
        self.ask(|answer| Job::Session(session, answer)).await
    }

    /// The oldest reports after `sequence`, at most `most`.
    pub async fn reports(&self, after: u64, most: usize) -> Result<Vec<(u64, Pending)>, Error> {
        self.ask(|answer| Job::Reports { after, most, answer }).await
    }

    /// The cookie to show.
    pub async fn cookie(&self) -> Result<Option<Bytes>, Error> {
        self.ask(Job::Cookie).await
    }

    /// The last report that the controller said to be durable.
    pub async fn acknowledged(&self) -> Result<u64, Error> {
        self.ask(Job::Acknowledged).await
    }

    /// The repositories that saved work may lie in.
    pub async fn repositories(&self) -> Result<Vec<PathBuf>, Error> {
        self.ask(Job::Repositories).await
    }

    /// What a person should know of how it was found.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something that a person should know of it.
    pub fn note(&self, text: String) {
        tracing::error!("{text}");
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// It is older than what the controller knows: a copy of it is kept, and what it says of workspaces and runs is
    /// believed no more, so that everything is looked for before anything is done. Returns where the copy is.
    pub async fn distrust(&self) -> Result<PathBuf, Error> {
        self.ask(Job::Distrust).await
    }

    /// The sequence of the last report that was committed, as it changes.
    pub fn reported(&self) -> watch::Receiver<u64> {
        self.reported.clone()
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

#[async_trait]
impl Journal for Ledger {
    async fn commit(&self, writes: Vec<Write>) -> Result<(), Error> {
        if writes.is_empty() {
            return Ok(());
        }
        self.ask(|answer| Job::Commit { writes, answer }).await
    }
}

#[cfg(test)]
mod tests;
