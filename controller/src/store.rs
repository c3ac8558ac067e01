//! The registry on disk: load, commit, history. Small, because every rule is elsewhere: what arrives here was decided.
//!
//! One SQLite file, one writer at a time (a kernel lock, so that a killed controller leaves nothing behind), readers on
//! connections of their own that never block it.

pub mod backup;
mod commit;
mod history;
mod open;
mod upkeep;

use std::path::{Path, PathBuf};

use drover_domain::fleet::Fleet;
use drover_domain::id::InstallationId;
use drover_domain::time::Timestamp;
use rusqlite::Connection;
use thiserror::Error;

pub use commit::CommitError;
pub use history::{Change, History, Position};
pub use open::OpenError;

/// The writer's side of the store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// Held as long as the file is open.
    _lock: std::fs::File,
}

#[derive(Clone, Debug, Error)]
#[error("the registry could not {what}: {why}")]
pub struct Error {
    pub what: &'static str,
    pub why: String,
}

/// An answer that is kept with its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    pub at: Timestamp,
    pub key: RequestKey,
    /// SHA-256 of what was asked, without what the controller made up.
    pub payload: [u8; 32],
    pub answer: bytes::Bytes,
}

/// What makes a call the same call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    pub principal: Box<str>,
    pub method: Box<str>,
    pub request: Box<str>,
}

/// Everything that was stored.
#[derive(Debug)]
pub struct Loaded {
    pub fleet: Fleet,
    pub answers: Vec<KeptAnswer>,
}

impl Store {
    /// Whether `directory` holds a registry; an empty file is none.
    pub fn is_there(directory: &Path) -> bool {
        std::fs::metadata(directory.join(open::FILE)).is_ok_and(|file| file.len() > 0)
    }

    /// Opens the registry in `directory`, or makes one for `installation`.
    pub fn open(directory: &Path, installation: InstallationId) -> Result<(Self, Loaded), OpenError> {
        let (connection, path, lock) = open::open(directory, installation)?;
        let store = Self { connection, path: path.clone(), _lock: lock };
        let loaded = store.load().map_err(|error| OpenError::Database { path, why: error.to_string() })?;
        Ok((store, loaded))
    }

    /// A reader with connections of its own.
    pub fn history(&self) -> History {
        History::new(self.path.clone())
    }

    /// Keeps the write-ahead log short; to be called from a thread of its own, again and again.
    pub fn checkpointer(&self) -> Result<Checkpointer, Error> {
        open::second_connection(&self.path)
            .map(|connection| Checkpointer { connection, path: self.path.clone() })
    }
}

/// Copies the write-ahead log into the file, off the writer's path.
#[derive(Debug)]
pub struct Checkpointer {
    connection: Connection,
    path: PathBuf,
}

/// Above this the log is cut, which makes the writer wait for a moment.
const LONG_LOG: u64 = 64 << 20;
const SHORT_LOG: u64 = 2 << 20;

impl Checkpointer {
    /// Reads all of the file, history included, and says what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        open::check_whole(&self.connection)
    }

    pub fn run(&self) -> Result<(), Error> {
        let log = self.path.with_extension("db-wal");
        let length = std::fs::metadata(&log).map_or(0, |found| found.len());
        if length < SHORT_LOG {
            return Ok(());
        }
        let order = if length > LONG_LOG {
            "PRAGMA wal_checkpoint(TRUNCATE)"
        } else {
            "PRAGMA wal_checkpoint(PASSIVE)"
        };
        let result = self.connection.query_row(order, (), |_| Ok(()));
        result.map_err(|error| Error { what: "shorten its log", why: error.to_string() })
    }
}

/// Spoils what no table of the state needs, once nobody has the file open.
#[cfg(test)]
pub(crate) fn damage_history(directory: &Path) {
    let path = directory.join(open::FILE);
    let connection = open::second_connection(&path).unwrap();
    let number = |query| connection.query_row(query, (), |row| row.get::<_, i64>(0)).unwrap();
    let page = number("SELECT rootpage FROM sqlite_master WHERE name = 'changes'");
    let begin = usize::try_from((page - 1) * number("PRAGMA page_size")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    drop(connection);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[begin..begin + 64].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
}

/// Another hand on the same file, as an operator with `sqlite3` has it.
#[cfg(test)]
pub(crate) fn execute_beside(path: &Path, statement: &str) {
    open::second_connection(path).unwrap().execute_batch(statement).unwrap();
}

#[cfg(test)]
mod tests;
