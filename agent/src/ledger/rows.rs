//! What a write and the whole book look like in SQL. Rows and words end here; numbers are stored as SQLite's i64.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use drover_domain::converge::{Local, LocalRun, Site};
use drover_domain::fence::Fence;
use drover_domain::id::SessionId;
use drover_domain::session::{Fault, Grant, Order, Workspace};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::book::{Book, Entry, Heading, KeptBranch, Key, Mark, Pending, Record, TRASH, Write};
use super::words;

pub(super) fn write(to: &Connection, write: &Write) -> Result<()> {
    match write {
        Write::Assign { session, assignment } => assign(to, *session, assignment.as_deref()),
        Write::Local { session, local } => set_local(to, *session, local),
        Write::Workspace { session, workspace } => set_workspace(to, *session, workspace),
        Write::Repository(common) => run(
            to,
            "INSERT INTO repositories (common) VALUES (?1) ON CONFLICT (common) DO NOTHING",
            [common.to_string_lossy()],
        ),
        Write::KeepBranch { session, common, kept } => keep_branch(to, *session, common, kept),
        Write::GiveUpBranch { session, common } => run(
            to,
            "DELETE FROM kept_branches WHERE session = ?1 AND common = ?2",
            params![session.to_string(), common.to_string_lossy()],
        ),
        Write::Forget(session) => forget(to, *session),
        Write::Mark { key, step, number, mark, data } => {
            saga(to, key, data)?;
            run(
                to,
                "INSERT INTO steps (session, saga, step, number, mark) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (session, saga, step) DO UPDATE SET number = ?4, mark = ?5",
                params![key.session.to_string(), key.saga, step, number, words::mark(*mark)],
            )
        }
        Write::Turn { key, fault, told } => turn(to, key, fault, *told),
        Write::Undone { key, step } => run(
            to,
            "DELETE FROM steps WHERE session = ?1 AND saga = ?2 AND step = ?3",
            params![key.session.to_string(), key.saga, step],
        ),
        Write::End(key) => {
            let of = params![key.session.to_string(), key.saga];
            run(to, "DELETE FROM steps WHERE session = ?1 AND saga = ?2", of)?;
            run(to, "DELETE FROM sagas WHERE session = ?1 AND saga = ?2", of)
        }
        Write::Report { session, progress, body } => report(to, *session, *progress, body),
        Write::Acknowledged(sequence) => {
            run(to, "DELETE FROM reports WHERE sequence <= ?1", [signed(*sequence)?])?;
            run(to, "UPDATE meta SET acknowledged = max(acknowledged, ?1)", [signed(*sequence)?])
        }
        Write::ReportAfter(sequence) => {
            run(to, "UPDATE meta SET reported = max(reported, ?1)", [signed(*sequence)?])
        }
        Write::Cookie(cookie) => run(to, "UPDATE meta SET cookie = ?1", [&cookie[..]]),
    }
}

fn run(to: &Connection, sql: &str, with: impl rusqlite::Params) -> Result<()> {
    to.prepare_cached(sql)?.execute(with).map(drop)
}

/// Makes the session's row if there is none.
fn row(to: &Connection, session: SessionId) -> Result<()> {
    run(
        to,
        "INSERT INTO sessions (session, generation, epoch, site, run_state) VALUES (?1, 0, 0, 'nothing', 'none')
         ON CONFLICT (session) DO NOTHING",
        [session.to_string()],
    )
}

fn assign(to: &Connection, session: SessionId, assignment: Option<&[u8]>) -> Result<()> {
    row(to, session)?;
    run(
        to,
        "UPDATE sessions SET assignment = ?2 WHERE session = ?1",
        params![session.to_string(), assignment],
    )
}

fn set_local(to: &Connection, session: SessionId, local: &Local) -> Result<()> {
    row(to, session)?;
    let (state, order) = words::run(local.run);
    run(
        to,
        "UPDATE sessions SET generation = ?2, epoch = ?3, site = ?4, run_state = ?5, run = ?6, ordinal = ?7,
                faulted = ?8, rebuild = ?9, granted_ms = ?10, grants = ?11 WHERE session = ?1",
        params![
            session.to_string(),
            signed(local.fence.generation)?,
            signed(local.fence.epoch)?,
            local.site.word(),
            state,
            order.map(|order| order.run.to_string()),
            order.map(|order| order.ordinal),
            local.faulted,
            local.rebuild,
            i64::try_from(local.grant.total.as_millis()).unwrap_or(i64::MAX),
            local.grant.count,
        ],
    )
}

fn set_workspace(to: &Connection, session: SessionId, workspace: &Workspace) -> Result<()> {
    row(to, session)?;
    run(
        to,
        "UPDATE sessions SET path = ?2, branch = ?3, base_commit = ?4 WHERE session = ?1",
        params![session.to_string(), workspace.path, workspace.branch, workspace.base_commit],
    )
}

fn keep_branch(to: &Connection, session: SessionId, common: &Path, kept: &KeptBranch) -> Result<()> {
    run(
        to,
        "INSERT INTO kept_branches (session, common, branch, base_commit) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (session, common) DO UPDATE SET branch = ?3, base_commit = ?4",
        params![session.to_string(), common.to_string_lossy(), kept.branch, kept.base],
    )
}

fn forget(to: &Connection, session: SessionId) -> Result<()> {
    let of = session.to_string();
    let others = format!("{TRASH}%");
    run(to, "DELETE FROM steps WHERE session = ?1 AND saga NOT LIKE ?2", [&of, &others])?;
    run(to, "DELETE FROM sagas WHERE session = ?1 AND saga NOT LIKE ?2", [&of, &others])?;
    run(to, "DELETE FROM sessions WHERE session = ?1", [&of])
}

/// Forgets what is known of workspaces and runs, but not of which sessions, and in which placements.
pub(super) fn distrust(to: &Connection) -> Result<()> {
    run(to, "DELETE FROM steps", ())?;
    run(to, "DELETE FROM sagas", ())?;
    run(
        to,
        "UPDATE sessions SET site = 'nothing', run_state = 'none', run = NULL, ordinal = NULL, faulted = NULL,
                granted_ms = 0, grants = 0",
        (),
    )
}

fn saga(to: &Connection, key: &Key, data: &str) -> Result<()> {
    run(
        to,
        "INSERT INTO sagas (session, saga, data) VALUES (?1, ?2, ?3)
         ON CONFLICT (session, saga) DO UPDATE SET data = ?3",
        params![key.session.to_string(), key.saga, data],
    )
}

fn turn(to: &Connection, key: &Key, fault: &Fault, told: bool) -> Result<()> {
    run(
        to,
        "INSERT INTO sagas (session, saga, data, back, fault_code, fault_step, fault_text, fault_hint, fault_retryable)
         VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (session, saga) DO UPDATE SET back = ?3, fault_code = ?4, fault_step = ?5, fault_text = ?6,
                fault_hint = ?7, fault_retryable = ?8",
        params![
            key.session.to_string(),
            key.saga,
            if told { 2 } else { 1 },
            words::fault_code(fault.code),
            fault.step,
            fault.text,
            fault.hint,
            fault.retryable,
        ],
    )
}

fn report(to: &Connection, session: SessionId, progress: bool, body: &[u8]) -> Result<()> {
    run(to, "DELETE FROM reports WHERE progress = 1 AND session = ?1", [session.to_string()])?;
    run(to, "UPDATE meta SET reported = reported + 1", ())?;
    run(
        to,
        "INSERT INTO reports (sequence, session, progress, body) VALUES ((SELECT reported FROM meta), ?1, ?2, ?3)",
        params![session.to_string(), progress, body],
    )
}

pub(super) fn load(from: &Connection) -> Result<Book> {
    let (reported, acknowledged) = (reported(from)?, acknowledged(from)?);
    let mut book = Book { reported, acknowledged, cookie: cookie(from)?, ..Book::default() };
    book.reports = reports(from, 0, usize::MAX)?.into_iter().collect();
    each(from, SESSIONS, (), |row| add_session(&mut book, row))?;
    each(from, SAGAS, (), |row| add_saga(&mut book, row))?;
    each(from, STEPS, (), |row| add_step(&mut book, row))?;
    book.repositories = repositories(from)?.into_iter().collect();
    book.kept = kept(from)?;
    Ok(book)
}

/// What is here, without what was assigned and reported, and without how far each list of steps is.
pub(super) fn load_holdings(from: &Connection) -> Result<Book> {
    let mut book = Book { kept: kept(from)?, ..Book::default() };
    each(from, SAGAS, (), |row| add_saga(&mut book, row))?;
    book.repositories = repositories(from)?.into_iter().collect();
    Ok(book)
}

/// The part of the book that is about one session, without its reports.
pub(super) fn load_session(from: &Connection, session: SessionId) -> Result<Book> {
    let mut book = Book::default();
    let of = session.to_string();
    each(from, &format!("{SESSIONS} WHERE session = ?1"), [&of], |row| add_session(&mut book, row))?;
    each(from, &format!("{SAGAS} WHERE session = ?1"), [&of], |row| add_saga(&mut book, row))?;
    each(from, &format!("{STEPS} WHERE session = ?1"), [&of], |row| add_step(&mut book, row))?;
    Ok(book)
}

pub(super) fn reports(from: &Connection, after: u64, most: usize) -> Result<Vec<(u64, Pending)>> {
    let mut found = Vec::new();
    let sql = "SELECT sequence, session, progress, body FROM reports WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    each(from, sql, [signed(after)?, most], |row| {
        let body: Vec<u8> = row.get("body")?;
        let pending =
            Pending { session: parsed(row, "session")?, progress: row.get("progress")?, body: body.into() };
        found.push((unsigned(row, "sequence")?, pending));
        Ok(())
    })?;
    Ok(found)
}

pub(super) fn repositories(from: &Connection) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    each(from, "SELECT common FROM repositories", (), |row| {
        found.push(PathBuf::from(row.get::<_, String>(0)?));
        Ok(())
    })?;
    Ok(found)
}

fn kept(from: &Connection) -> Result<BTreeMap<(SessionId, PathBuf), KeptBranch>> {
    let mut found = BTreeMap::new();
    each(from, "SELECT session, common, branch, base_commit FROM kept_branches", (), |row| {
        let common = PathBuf::from(row.get::<_, String>("common")?);
        let kept = KeptBranch { branch: row.get("branch")?, base: row.get("base_commit")? };
        found.insert((parsed(row, "session")?, common), kept);
        Ok(())
    })?;
    Ok(found)
}

pub(super) fn reported(from: &Connection) -> Result<u64> {
    from.prepare_cached("SELECT reported FROM meta")?.query_row((), |row| unsigned(row, "reported"))
}

pub(super) fn acknowledged(from: &Connection) -> Result<u64> {
    from.prepare_cached("SELECT acknowledged FROM meta")?.query_row((), |row| unsigned(row, "acknowledged"))
}

pub(super) fn cookie(from: &Connection) -> Result<Option<Bytes>> {
    let found = from
        .prepare_cached("SELECT cookie FROM meta")?
        .query_row((), |row| row.get::<_, Option<Vec<u8>>>(0))
        .optional()?;
    Ok(found.flatten().map(Bytes::from))
}

const SESSIONS: &str =
    "SELECT session, assignment, generation, epoch, site, run_state, run, ordinal, faulted, path,
    branch, base_commit, rebuild, granted_ms, grants FROM sessions";
const SAGAS: &str =
    "SELECT session, saga, data, back, fault_code, fault_step, fault_text, fault_hint, fault_retryable
    FROM sagas";
const STEPS: &str = "SELECT session, saga, step, number, mark FROM steps";

fn each(
    from: &Connection,
    sql: &str,
    with: impl rusqlite::Params,
    mut take: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    let mut statement = from.prepare_cached(sql)?;
    let mut rows = statement.query(with)?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}

fn add_session(book: &mut Book, row: &Row<'_>) -> Result<()> {
    let fence = Fence { generation: unsigned(row, "generation")?, epoch: unsigned(row, "epoch")? };
    let grant =
        Grant { total: Duration::from_millis(unsigned(row, "granted_ms")?), count: row.get("grants")? };
    let local = Local {
        fence,
        site: site(row)?,
        run: local_run(row)?,
        faulted: row.get("faulted")?,
        rebuild: row.get("rebuild")?,
        grant,
    };
    let workspace = match row.get::<_, Option<Box<str>>>("path")? {
        Some(path) => {
            Some(Workspace { path, branch: row.get("branch")?, base_commit: row.get("base_commit")? })
        }
        None => None,
    };
    let assignment = row.get::<_, Option<Vec<u8>>>("assignment")?.map(Bytes::from);
    book.sessions.insert(parsed(row, "session")?, Entry { assignment, local, workspace });
    Ok(())
}

fn site(row: &Row<'_>) -> Result<Site> {
    let word: String = row.get("site")?;
    words::parse_site(&word).ok_or_else(|| odd("site", &word))
}

fn local_run(row: &Row<'_>) -> Result<LocalRun> {
    let word: String = row.get("run_state")?;
    let order = match row.get::<_, Option<u32>>("ordinal")? {
        Some(ordinal) => Some(Order { run: parsed(row, "run")?, ordinal }),
        None => None,
    };
    words::parse_run(&word, order).ok_or_else(|| odd("run_state", &word))
}

fn add_saga(book: &mut Book, row: &Row<'_>) -> Result<()> {
    let heading = match row.get::<_, u8>("back")? {
        0 => Heading::Forward,
        back => Heading::Back { fault: fault(row)?, told: back == 2 },
    };
    let record = Record { data: row.get("data")?, heading, ..Record::default() };
    book.sagas.insert(key(row)?, record);
    Ok(())
}

fn fault(row: &Row<'_>) -> Result<Fault> {
    let word: String = row.get("fault_code")?;
    Ok(Fault {
        code: words::parse_fault_code(&word).ok_or_else(|| odd("fault_code", &word))?,
        step: row.get("fault_step")?,
        text: row.get("fault_text")?,
        hint: row.get("fault_hint")?,
        retryable: row.get("fault_retryable")?,
    })
}

fn add_step(book: &mut Book, row: &Row<'_>) -> Result<()> {
    let word: String = row.get("mark")?;
    let mark: Mark = words::parse_mark(&word).ok_or_else(|| odd("mark", &word))?;
    let step = row.get("step")?;
    book.sagas.entry(key(row)?).or_default().steps.insert(step, (row.get("number")?, mark));
    Ok(())
}

fn key(row: &Row<'_>) -> Result<Key> {
    Ok(Key { session: parsed(row, "session")?, saga: row.get("saga")? })
}

fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, column: &'static str) -> Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| odd(column, &error.to_string()))
}

fn odd(column: &str, found: &str) -> rusqlite::Error {
    let text = format!("column {column}: {found}");
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, text.into())
}

fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn unsigned(row: &Row<'_>, column: &'static str) -> Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| odd(column, &number.to_string()))
}
