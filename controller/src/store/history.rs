//! What happened, read from the change log on connections of their own. Answers come page by page, by revision.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use drover_domain::id::{NodeId, SessionId};
use drover_domain::session::{EndedRun, Session};
use drover_domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::commit::{node_id, session_of, sql, unsigned};
use super::{Error, open};

/// One row of the log.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub at: Timestamp,
    pub actor: String,
    pub kind: String,
    /// The session that it is about, as it became. None also if it was forgotten then.
    pub session: Option<Session>,
    pub node: Option<NodeId>,
    /// What it says in words.
    pub note: Option<Box<str>>,
}

/// Which rows, from where, in which direction.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub after: u64,
    /// Rows below this one instead, the newest first.
    pub before: Option<u64>,
    pub most: usize,
}

/// Reads the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

const CONNECTIONS: usize = 4;

impl History {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default() }
    }

    /// The registry's file.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Rows of the log, of one session or of all.
    pub fn changes(&self, session: Option<u64>, position: Position) -> Result<Vec<Change>, Error> {
        let (range, order, bound) = match position.before {
            Some(before) => ("c.revision < ?1", "DESC", before),
            None => ("c.revision > ?1", "ASC", position.after),
        };
        let of = if session.is_some() { "AND c.session = ?2" } else { "AND ?2 IS NULL" };
        let query = format!(
            "SELECT c.revision, c.at, c.actor, c.kind, c.node, c.record, p.spec, c.note FROM changes c
             LEFT JOIN specs p ON p.number = c.session
             WHERE {range} {of} ORDER BY c.revision {order} LIMIT ?3"
        );
        let most = i64::try_from(position.most).unwrap_or(i64::MAX);
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&query)?;
            let rows = statement.query_map(params![sql(bound), session.map(sql), most], |row| {
                let has_record = row.get_ref(5)?.as_blob_or_null()?.is_some()
                    && row.get_ref(6)?.as_blob_or_null()?.is_some();
                Ok(Change {
                    revision: unsigned(row.get(0)?),
                    at: Timestamp::from_millis(row.get(1)?),
                    actor: row.get(2)?,
                    kind: row.get(3)?,
                    session: if has_record { Some(session_of(row, 5, 6)?) } else { None },
                    node: node_id(row.get(4)?),
                    note: row.get::<_, Option<String>>(7)?.map(Into::into),
                })
            })?;
            rows.collect()
        })
    }

    /// The oldest revision that the log still has.
    pub fn oldest(&self) -> Result<Option<u64>, Error> {
        self.read(|connection| {
            let query = "SELECT revision FROM changes ORDER BY revision LIMIT 1";
            connection
                .query_row(query, (), |row| row.get::<_, i64>(0))
                .optional()
                .map(|found| found.map(unsigned))
        })
    }

    /// How the session's runs ended, the newest first, with the revisions that say so.
    pub fn runs_ended(&self, session: u64, before: u64, most: usize) -> Result<Vec<(u64, EndedRun)>, Error> {
        self.read(|connection| {
            let query =
                "SELECT c.revision, c.record, p.spec FROM changes c JOIN specs p ON p.number = c.session
                         WHERE c.session = ?1 AND c.revision < ?2 AND c.kind IN ('run_ended', 'run_interrupted')
                         ORDER BY c.revision DESC LIMIT ?3";
            let mut statement = connection.prepare_cached(query)?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![sql(session), sql(before), most], |row| {
                Ok((unsigned(row.get(0)?), session_of(row, 1, 2)?.last_run))
            })?;
            let runs = rows.filter_map(|row| row.map(|(revision, run)| Some((revision, run?))).transpose());
            runs.collect()
        })
    }

    /// Ids of what left memory after `revision`: forgotten sessions, removed nodes. None: the log does not reach back.
    pub fn removed_after(&self, revision: u64) -> Result<Option<Vec<String>>, Error> {
        if self.oldest()?.is_none_or(|oldest| oldest > revision + 1) {
            return Ok(None);
        }
        self.read(|connection| {
            let query =
                "SELECT coalesce(s.id, c.node) FROM changes c LEFT JOIN sessions s ON s.number = c.session
                         WHERE c.revision > ?1 AND c.kind IN ('session_forgotten', 'node_removed')";
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement.query_map([sql(revision)], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>().map(Some)
        })
    }

    /// A session that left memory: as it was last.
    pub fn session(&self, id: SessionId) -> Result<Option<Session>, Error> {
        self.read(|connection| {
            let query = "SELECT s.record, p.spec FROM sessions s JOIN specs p USING (number) WHERE s.id = ?1";
            connection.query_row(query, [id.to_string()], |row| session_of(row, 0, 1)).optional()
        })
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| open::second_connection(&self.path), Ok)?;
        let answer = query(&connection).map_err(|error| Error { what: "be read", why: error.to_string() });
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < CONNECTIONS {
            idle.push(connection);
        }
        answer
    }
}
