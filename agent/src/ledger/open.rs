//! Opening the ledger: the lock that keeps a second agent out, the settings that make a commit durable (set and then
//! checked), the schema, and whose ledger it is. What is newer than this program, or another node's, is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_domain::id::NodeId;
use rusqlite::{Connection, OptionalExtension};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

mod migrations {
    refinery::embed_migrations!("src/ledger/migrations");
}

#[derive(Debug, Error)]
pub enum OpenError {
    #[error("another agent works with {}: its lock is held; stop it, or give this one its own --state-dir", .0.display())]
    Locked(PathBuf),
    #[error("cannot open {}: {why}", path.display())]
    File { path: PathBuf, why: io::Error },
    #[error("cannot use the ledger {}: {why}", path.display())]
    Database { path: PathBuf, why: String },
    #[error("the ledger {} has schema {found}, and this agent knows {known}: it was written by a newer agent; run that one", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("the ledger {} belongs to {found}, and this agent is {node}: the state directories were mixed up", path.display())]
    Foreign { path: PathBuf, found: String, node: NodeId },
    #[error("cannot start the ledger's thread: {0}")]
    Thread(io::Error),
}

/// An open ledger file and the lock on it.
#[derive(Debug)]
pub(super) struct OpenLedger {
    pub connection: Connection,
    pub reported: u64,
    pub path: PathBuf,
    /// What a person should know of how it was opened.
    pub note: Option<String>,
    /// Held for as long as the file is open.
    _lock: File,
}

pub(super) fn open(directory: &Path, node: NodeId) -> Result<OpenLedger, OpenError> {
    let lock = lock(&directory.join("agent.lock"))?;
    let path = directory.join("ledger.db");
    let (connection, note) = match connect(&path)? {
        Opened::Whole(connection) => (connection, None),
        Opened::Damaged(why) => {
            let aside = set_aside(&path).map_err(|why| OpenError::File { path: path.clone(), why })?;
            let note = format!(
                "the ledger was damaged ({why}) and is kept as {}; sessions are found again by what is here",
                aside.display()
            );
            tracing::error!("{note}");
            match connect(&path)? {
                Opened::Whole(connection) => (connection, Some(note)),
                Opened::Damaged(why) => return Err(OpenError::Database { path, why }),
            }
        }
    };
    let reported = owned_by(&connection, &path, node)?;
    Ok(OpenLedger { connection, reported, path, note, _lock: lock })
}

enum Opened {
    Whole(Connection),
    /// It is no ledger, or not one any more.
    Damaged(String),
}

/// Opens the file, which is made if it is not there, and brings it to this program's schema.
fn connect(path: &Path) -> Result<Opened, OpenError> {
    private_file(path).map_err(|why| OpenError::File { path: path.to_owned(), why })?;
    let database = |why: String| OpenError::Database { path: path.to_owned(), why };
    let mut connection = Connection::open(path).map_err(|why| database(why.to_string()))?;
    match settle(&connection) {
        Ok(()) => {}
        Err(Unsettled::Damaged(why)) => return Ok(Opened::Damaged(why)),
        Err(Unsettled::Other(why)) => return Err(database(why)),
    }
    refuse_newer(&connection, path)?;
    let migrated = migrations::migrations::runner().set_grouped(true).run(&mut connection);
    migrated.map_err(|why| database(why.to_string()))?;
    Ok(Opened::Whole(connection))
}

/// Renames the file and what belongs to it to the first name that is free. Nothing of it is deleted.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let aside = free_name(path, "damaged")?;
    std::fs::rename(path, &aside)?;
    for part in ["-wal", "-shm"] {
        match std::fs::rename(with(part), format!("{}{part}", aside.display())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(aside)
}

/// `ledger.db.<why>-1`, or the first number after it that is free.
pub(super) fn free_name(path: &Path, why: &str) -> io::Result<PathBuf> {
    for number in 1_u32.. {
        let name = PathBuf::from(format!("{}.{why}-{number}", path.display()));
        if !name.try_exists()? {
            return Ok(name);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let file = private_file(path).map_err(|why| OpenError::File { path: path.to_owned(), why })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(path.to_owned())),
        Err(why) => Err(OpenError::File { path: path.to_owned(), why: why.into() }),
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Why a file is not settled.
enum Unsettled {
    Damaged(String),
    Other(String),
}

impl From<rusqlite::Error> for Unsettled {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
            Some(_) | None => Self::Other(error.to_string()),
        }
    }
}

/// Durable at commit, and nobody else's file: set, then checked, because SQLite ignores what it cannot do.
fn settle(connection: &Connection) -> Result<(), Unsettled> {
    let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
               PRAGMA journal_size_limit = 4194304; PRAGMA temp_store = MEMORY;";
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(set)?;
    let read = |name: &str| {
        let value = connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        value.map(|value| format!("{value:?}"))
    };
    for (name, expected) in [("journal_mode", "Text(\"wal\")"), ("synchronous", "Integer(2)")] {
        let found = read(name)?;
        if found != expected {
            return Err(Unsettled::Other(format!(
                "{name} is {found} and must be {expected}; is its file system a network one?"
            )));
        }
    }
    let verdict = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Unsettled::Damaged(verdict)) }
}

fn refuse_newer(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let database = |why: rusqlite::Error| OpenError::Database { path: path.to_owned(), why: why.to_string() };
    if !connection.table_exists(None, "refinery_schema_history").map_err(database)? {
        return Ok(());
    }
    let found: Option<i64> = connection
        .query_row("SELECT max(version) FROM refinery_schema_history", (), |row| row.get(0))
        .map_err(database)?;
    let runner = migrations::migrations::runner();
    let known = runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max();
    match (found, known) {
        (Some(found), Some(known)) if found > known => {
            Err(OpenError::Newer { path: path.to_owned(), found, known })
        }
        _ => Ok(()),
    }
}

/// Checks whose ledger it is, and takes a new one. Returns the sequence of the last report.
fn owned_by(connection: &Connection, path: &Path, node: NodeId) -> Result<u64, OpenError> {
    let database = |why: rusqlite::Error| OpenError::Database { path: path.to_owned(), why: why.to_string() };
    let known = connection
        .query_row("SELECT node, reported FROM meta", (), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()
        .map_err(database)?;
    match known {
        None => {
            let insert = "INSERT INTO meta (only_row, node) VALUES (1, ?1)";
            connection.execute(insert, [node.to_string()]).map_err(database)?;
            Ok(0)
        }
        Some((found, reported)) if found == node.to_string() => Ok(u64::try_from(reported).unwrap_or(0)),
        Some((found, _)) => Err(OpenError::Foreign { path: path.to_owned(), found, node }),
    }
}
