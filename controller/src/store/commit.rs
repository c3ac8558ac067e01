//! Changes into rows, all of them in one transaction, and rows back into the fleet.

use std::sync::Arc;

use bytes::Bytes;
use drover_domain::change::{After, Change};
use drover_domain::fleet::Fleet;
use drover_domain::id::{InstallationId, NodeId};
use drover_domain::node::Node;
use drover_domain::session::{Session, State};
use drover_domain::time::Timestamp;
use drover_proto::convert::{Invalid, record, spec};
use drover_proto::{store_v1, v1};
use prost::Message;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::{Error, KeptAnswer, Loaded, RequestKey, Store, upkeep};

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing of it happened.
    #[error("the registry could not be written: {0}")]
    Refused(String),
    /// It may have happened: only the file knows.
    #[error("the commit failed, and its outcome is not known: {0}")]
    Unknown(String),
}

impl Store {
    /// All of it, durably, or nothing.
    pub fn commit(&mut self, changes: &[Change], answers: &[KeptAnswer]) -> Result<(), CommitError> {
        let refused = |error: rusqlite::Error| CommitError::Refused(error.to_string());
        let transaction = self.connection.transaction().map_err(refused)?;
        // The transaction is rolled back where it is dropped; SQLite may have done so by itself.
        write(&transaction, changes, answers).map_err(refused)?;
        transaction.commit().map_err(|error| CommitError::Unknown(error.to_string()))
    }

    /// Everything that is not forgotten.
    pub fn load(&self) -> Result<Loaded, Error> {
        load(&self.connection).map_err(|error| Error { what: "be read", why: error.to_string() })
    }

    /// Deletes what is older than its retention, a little at a time. Says whether there may be more.
    pub fn prune(&mut self, answers_before: Timestamp, changes_before: Timestamp) -> Result<bool, Error> {
        const AT_ONCE: i64 = 500;
        let old = |table: &str, key: &str| {
            format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE at < ?1 ORDER BY {key} LIMIT ?2)"
            )
        };
        let run = || {
            let answers = self
                .connection
                .execute(&old("answers", "number"), params![answers_before.millis(), AT_ONCE])?;
            let changes = self
                .connection
                .execute(&old("changes", "revision"), params![changes_before.millis(), AT_ONCE])?;
            Ok(answers + changes)
        };
        let count =
            run().map_err(|error: rusqlite::Error| Error { what: "be pruned", why: error.to_string() })?;
        Ok(i64::try_from(count).unwrap_or(i64::MAX) >= AT_ONCE)
    }
}

/// SQLite knows no unsigned numbers of this length; ours are counters that never get there.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn write(connection: &Connection, changes: &[Change], answers: &[KeptAnswer]) -> rusqlite::Result<()> {
    for change in changes {
        let (mut session, mut node, record) = write_change(connection, change)?;
        if let Some(note) = &change.note {
            session = session.or(note.session.map(sql));
            node = node.or_else(|| note.node.map(|node| node.to_string()));
        }
        let note = change.note.as_ref().map(|note| &note.text);
        let insert = "INSERT INTO changes (revision, at, actor, kind, session, node, record, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (actor, kind) = (change.actor.to_string(), change.kind.word());
        let row = params![sql(change.revision), change.at.millis(), actor, kind, session, node, record, note];
        connection.prepare_cached(insert)?.execute(row)?;
    }
    if let Some(last) = changes.last() {
        connection.prepare_cached("UPDATE meta SET revision = ?1")?.execute([sql(last.revision)])?;
    }
    for kept in answers {
        let insert = "INSERT INTO answers (at, principal, method, request, payload, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let row = params![
            kept.at.millis(),
            kept.key.principal,
            kept.key.method,
            kept.key.request,
            kept.payload,
            &*kept.answer
        ];
        connection.prepare_cached(insert)?.execute(row)?;
    }
    Ok(())
}

/// What the log says of a change: the session's number, the node, the session as it became.
type Logged = (Option<i64>, Option<String>, Option<Vec<u8>>);

const NOTHING: Logged = (None, None, None);

fn write_change(connection: &Connection, change: &Change) -> rusqlite::Result<Logged> {
    match &change.after {
        After::Session(session) => put_session(connection, session, change.revision),
        After::SessionWithSecrets(session, secrets) => {
            let insert = "INSERT INTO secrets (number, record) VALUES (?1, ?2)";
            let row = params![sql(session.number), record::secrets(secrets).encode_to_vec()];
            connection.prepare_cached(insert)?.execute(row)?;
            put_session(connection, session, change.revision)
        }
        After::SessionForgotten(number, _) => {
            connection
                .prepare_cached("UPDATE sessions SET forgotten = 1 WHERE number = ?1")?
                .execute([sql(*number)])?;
            Ok((Some(sql(*number)), None, None))
        }
        After::Node(node) => put_node(connection, node),
        After::Heard(node) => acknowledge(connection, node),
        After::Reported(session, node) => {
            acknowledge(connection, node)?;
            let (number, _, row) = put_session(connection, session, change.revision)?;
            Ok((number, Some(node.id.to_string()), row))
        }
        After::NodeRemoved(id) => {
            connection.prepare_cached("DELETE FROM nodes WHERE id = ?1")?.execute([id.to_string()])?;
            upkeep::end_safe_mode(connection, Some(*id))?;
            Ok((None, Some(id.to_string()), None))
        }
        After::Token(token) => put_token(connection, token).map(|()| NOTHING),
        After::TokenForgotten(id) => {
            connection.prepare_cached("DELETE FROM tokens WHERE id = ?1")?.execute([id.to_string()])?;
            Ok(NOTHING)
        }
        After::Joined(token, node) => {
            put_token(connection, token)?;
            put_node(connection, node)
        }
        After::Plan(plan) => upkeep::put_plan(connection, plan).map(|()| NOTHING),
        After::PlanForgotten(id) => upkeep::forget_plan(connection, *id).map(|()| NOTHING),
        After::SafeMode(mode) => upkeep::put_safe_mode(connection, mode).map(|()| NOTHING),
        After::SafeModeOver(node) => upkeep::end_safe_mode(connection, *node).map(|()| NOTHING),
        After::Noted => Ok(NOTHING),
    }
}

fn put_session(connection: &Connection, session: &Session, revision: u64) -> rusqlite::Result<Logged> {
    let row = record::session(session).encode_to_vec();
    let node = session.state.placement().map(|placement| placement.node.to_string());
    let state = session.state.kind().word();
    if session.number == revision {
        let insert = "INSERT INTO sessions (number, id, project, name, state, node, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let (id, project, name) = (session.id.to_string(), session.project.as_str(), session.name.as_str());
        let values = params![sql(session.number), id, project, name, state, node, row];
        connection.prepare_cached(insert)?.execute(values)?;
        let spec = spec::to_wire(&session.spec).encode_to_vec();
        let insert = "INSERT INTO specs (number, spec) VALUES (?1, ?2)";
        connection.prepare_cached(insert)?.execute(params![sql(session.number), spec])?;
    } else {
        let update = "UPDATE sessions SET state = ?2, node = ?3, record = ?4 WHERE number = ?1";
        connection.prepare_cached(update)?.execute(params![sql(session.number), state, node, row])?;
    }
    if matches!(session.state, State::Cleaned { .. }) {
        connection.prepare_cached("DELETE FROM secrets WHERE number = ?1")?.execute([sql(session.number)])?;
    }
    Ok((Some(sql(session.number)), node, Some(row)))
}

fn put_node(connection: &Connection, node: &Node) -> rusqlite::Result<Logged> {
    let upsert = "INSERT INTO nodes (id, name, standing, acknowledged, record) VALUES (?1, ?2, ?3, ?4, ?5)
                  ON CONFLICT (id) DO UPDATE SET standing = ?3, acknowledged = ?4, record = ?5";
    let row = record::node(node).encode_to_vec();
    let values =
        params![node.id.to_string(), node.name.as_str(), node.standing.word(), sql(node.acknowledged), row];
    connection.prepare_cached(upsert)?.execute(values)?;
    Ok((None, Some(node.id.to_string()), None))
}

fn acknowledge(connection: &Connection, node: &Node) -> rusqlite::Result<Logged> {
    let update = "UPDATE nodes SET acknowledged = ?2 WHERE id = ?1";
    connection.prepare_cached(update)?.execute(params![node.id.to_string(), sql(node.acknowledged)])?;
    Ok((None, Some(node.id.to_string()), None))
}

fn put_token(connection: &Connection, token: &drover_domain::node::Token) -> rusqlite::Result<()> {
    let upsert = "INSERT INTO tokens (id, record) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET record = ?2";
    let row = record::token(token).encode_to_vec();
    connection.prepare_cached(upsert)?.execute(params![token.id.to_string(), row]).map(drop)
}

fn load(connection: &Connection) -> rusqlite::Result<Loaded> {
    let (installation, generation, revision) =
        connection.query_row("SELECT installation, generation, revision FROM meta", (), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
    let installation: InstallationId = installation.parse().map_err(|error| odd(0, error))?;
    let mut sessions = connection.prepare(
        "SELECT s.record, p.spec, x.record FROM sessions s JOIN specs p USING (number) LEFT JOIN secrets x USING (number)
         WHERE NOT s.forgotten ORDER BY number",
    )?;
    let sessions = sessions.query_map((), |row| {
        let secrets: Option<Vec<u8>> = row.get(2)?;
        let secrets = secrets.map(|bytes| decode::<store_v1::SecretsRecord>(2, &bytes)).transpose()?;
        Ok((Arc::new(session_of(row, 0, 1)?), secrets.map(|secrets| Arc::new(record::secrets_from(secrets)))))
    })?;
    let sessions = sessions.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut nodes = connection.prepare("SELECT record, acknowledged FROM nodes")?;
    let nodes = nodes.query_map((), node_of)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut tokens = connection.prepare("SELECT record FROM tokens")?;
    let tokens = tokens.query_map((), |row| {
        let wire = decode::<store_v1::TokenRecord>(0, &row.get::<_, Vec<u8>>(0)?)?;
        record::token_from(&wire).map(Arc::new).map_err(|error| odd(0, error))
    })?;
    let tokens = tokens.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut answers = connection
        .prepare("SELECT principal, method, request, at, payload, answer FROM answers ORDER BY number")?;
    let answers = answers.query_map((), |row| {
        let text = |at: usize| row.get::<_, String>(at).map(String::into_boxed_str);
        Ok(KeptAnswer {
            key: RequestKey { principal: text(0)?, method: text(1)?, request: text(2)? },
            at: Timestamp::from_millis(row.get(3)?),
            payload: row.get(4)?,
            answer: Bytes::from(row.get::<_, Vec<u8>>(5)?),
        })
    })?;
    let answers = answers.collect::<rusqlite::Result<Vec<_>>>()?;
    let fleet =
        Fleet::new(installation, unsigned(generation)).load(unsigned(revision), sessions, nodes, tokens);
    let fleet = fleet.load_upkeep(upkeep::plans(connection)?, upkeep::safe_modes(connection)?);
    Ok(Loaded { fleet, answers })
}

fn node_of(row: &Row<'_>) -> rusqlite::Result<Arc<Node>> {
    let wire = decode::<store_v1::NodeRecord>(0, &row.get::<_, Vec<u8>>(0)?)?;
    let node = record::node_from(&wire).map_err(|error| odd(0, error))?;
    Ok(Arc::new(Node { acknowledged: unsigned(row.get(1)?), ..node }))
}

pub(super) fn session_of(row: &Row<'_>, record_at: usize, spec_at: usize) -> rusqlite::Result<Session> {
    let wire = decode::<store_v1::SessionRecord>(record_at, row.get_ref(record_at)?.as_blob()?)?;
    let spec = decode::<v1::SessionSpec>(spec_at, row.get_ref(spec_at)?.as_blob()?)?;
    let spec = spec::accepted("spec", spec).map_err(|error| odd(spec_at, error))?;
    record::session_from(wire, Arc::new(spec)).map_err(|error: Invalid| odd(record_at, error))
}

pub(super) fn decode<M: Message + Default>(at: usize, bytes: &[u8]) -> rusqlite::Result<M> {
    M::decode(bytes).map_err(|error| odd(at, error))
}

pub(super) fn odd(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Blob, Box::new(error))
}

/// The node that a row of the log names.
pub(super) fn node_id(text: Option<String>) -> Option<NodeId> {
    text?.parse().ok()
}
