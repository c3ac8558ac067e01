//! Opening the registry: the lock that keeps a second controller out, the settings that make a commit durable (set and
//! then checked), the quick check, the schema. What a newer controller wrote is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_domain::id::InstallationId;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};

use super::{Error, backup};

mod migrations {
    refinery::embed_migrations!("src/store/migrations");
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another controller works with {}: its lock is held; stop it, or give this one its own data directory", .0.display())]
    Locked(PathBuf),
    #[error("cannot open {}: {why}", path.display())]
    File { path: PathBuf, why: io::Error },
    #[error("cannot use the registry {}: {why}", path.display())]
    Database { path: PathBuf, why: String },
    #[error("the registry {} has schema {found}, and this controller knows {known}: it was written by a newer controller; run that one", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
}

pub(super) const FILE: &str = "registry.db";

pub(super) fn open(
    directory: &Path,
    installation: InstallationId,
) -> Result<(Connection, PathBuf, File), OpenError> {
    let lock = lock(&directory.join("controller.lock"))?;
    let path = directory.join(FILE);
    private_file(&path).map_err(|why| OpenError::File { path: path.clone(), why })?;
    let database = |why: String| OpenError::Database { path: path.clone(), why };
    let mut connection = Connection::open(&path).map_err(|why| database(why.to_string()))?;
    settle(&connection).map_err(database)?;
    backup::sweep(&directory.join(backup::DIRECTORY));
    if let Some(found) = older_schema(&connection, &path)? {
        let backups = directory.join(backup::DIRECTORY);
        let name = free_name(&connection, &backups, found).map_err(|why| database(why.to_string()))?;
        backup::create(&path, &backups, &name).map_err(|error| database(error.to_string()))?;
    }
    let runner = migrations::migrations::runner().set_grouped(true);
    runner.run(&mut connection).map_err(|why| database(why.to_string()))?;
    let meta = "INSERT INTO meta (only_row, installation, generation, revision) VALUES (1, ?1, 1, 0) ON CONFLICT DO NOTHING";
    connection.execute(meta, [installation.to_string()]).map_err(|why| database(why.to_string()))?;
    Ok((connection, path, lock))
}

/// A connection beside the writer's.
pub(super) fn second_connection(path: &Path) -> Result<Connection, Error> {
    let connect = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")?;
        Ok(connection)
    };
    connect()
        .map_err(|error: rusqlite::Error| Error { what: "be opened a second time", why: error.to_string() })
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let file = private_file(path).map_err(|why| OpenError::File { path: path.to_owned(), why })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(path.to_owned())),
        Err(why) => Err(OpenError::File { path: path.to_owned(), why: why.into() }),
    }
}

pub(super) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Durable at commit, and nothing copied from the log on the writer's path: set, then checked, because SQLite ignores
/// what it cannot do.
fn settle(connection: &Connection) -> Result<(), String> {
    let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
               PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON; PRAGMA cache_size = -65536;";
    connection.busy_timeout(Duration::from_secs(5)).map_err(|error| error.to_string())?;
    connection.execute_batch(set).map_err(|error| error.to_string())?;
    connection.set_prepared_statement_cache_capacity(64);
    for (name, expected) in [("journal_mode", "wal"), ("synchronous", "2"), ("wal_autocheckpoint", "0")] {
        let found = connection
            .pragma_query_value(None, name, |row| {
                Ok(match row.get::<_, rusqlite::types::Value>(0)? {
                    rusqlite::types::Value::Text(text) => text,
                    rusqlite::types::Value::Integer(number) => number.to_string(),
                    other => format!("{other:?}"),
                })
            })
            .map_err(|error| error.to_string())?;
        if found != expected {
            return Err(format!(
                "{name} is {found} and must be {expected}; is its file system a network one?"
            ));
        }
    }
    check_state(connection)
}

/// Everything but the history, which grows without end and is checked beside the work: see [`check_whole`].
fn check_state(connection: &Connection) -> Result<(), String> {
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'changes'";
    let names = || -> rusqlite::Result<Vec<String>> {
        connection.prepare(names)?.query_map((), |row| row.get(0))?.collect()
    };
    let names = names().map_err(|error| damaged(&error.to_string()))?;
    names.iter().try_for_each(|name| check(connection, &format!("PRAGMA quick_check('{name}')")))
}

/// The whole file.
pub(super) fn check_whole(connection: &Connection) -> Result<(), String> {
    check(connection, "PRAGMA quick_check(1)")
}

fn check(connection: &Connection, order: &str) -> Result<(), String> {
    match connection.query_row(order, (), |row| row.get::<_, String>(0)) {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(damaged(&verdict)),
        Err(error) => Err(damaged(&error.to_string())),
    }
}

fn damaged(verdict: &str) -> String {
    format!("it is damaged ({verdict}); nothing was changed. Keep the file, and restore a backup")
}

/// What the copy before a migration is called. One may be there from an earlier one, if the older registry was put back
/// and worked with since.
fn free_name(connection: &Connection, backups: &Path, schema: i64) -> rusqlite::Result<String> {
    let name = format!("schema-{schema}");
    if !backups.join(format!("{name}.db")).exists() {
        return Ok(name);
    }
    let revision: Option<i64> =
        connection.query_row("SELECT max(revision) FROM meta", (), |row| row.get(0))?;
    Ok(format!("{name}-{}", revision.unwrap_or(0)))
}

/// The schema of a registry that an older controller wrote. A newer one's is refused.
fn older_schema(connection: &Connection, path: &Path) -> Result<Option<i64>, OpenError> {
    let database = |why: rusqlite::Error| OpenError::Database { path: path.to_owned(), why: why.to_string() };
    if !connection.table_exists(None, "refinery_schema_history").map_err(database)? {
        return Ok(None);
    }
    let query = "SELECT max(version) FROM refinery_schema_history";
    let found: Option<i64> = connection.query_row(query, (), |row| row.get(0)).map_err(database)?;
    let runner = migrations::migrations::runner();
    let known = runner.get_migrations().iter().map(|migration| i64::from(migration.version())).max();
    match (found, known) {
        (Some(found), Some(known)) if found > known => {
            Err(OpenError::Newer { path: path.to_owned(), found, known })
        }
        (Some(found), Some(known)) if found < known => Ok(Some(found)),
        _ => Ok(None),
    }
}

/// A file as a controller left it that knew no later schema than this.
#[cfg(test)]
pub(super) fn make_schema(path: &Path, version: i32) -> Connection {
    let mut connection = Connection::open(path).unwrap();
    settle(&connection).unwrap();
    let runner = migrations::migrations::runner().set_grouped(true);
    runner.set_target(refinery::Target::Version(version)).run(&mut connection).unwrap();
    connection
}
