//! The thread that owns the file: takes what waits, writes it in one transaction, each commit in a savepoint of its
//! own so that one that fails does not take the others along, and answers only after the sync.

use std::path::PathBuf;

use drover_domain::id::SessionId;
use rusqlite::{Connection, Savepoint, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::book::{Book, Pending, Write};
use super::open::{OpenLedger, free_name};
use super::{Error, rows};

type Answer<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Job {
    Commit { writes: Vec<Write>, answer: Answer<()> },
    Load(Answer<Book>),
    Holdings(Answer<Book>),
    Session(SessionId, Answer<Book>),
    Reports { after: u64, most: usize, answer: Answer<Vec<(u64, Pending)>> },
    Acknowledged(Answer<u64>),
    Cookie(Answer<Option<bytes::Bytes>>),
    Distrust(Answer<PathBuf>),
    Repositories(Answer<Vec<PathBuf>>),
}

/// How many commits share one sync at most.
const BATCH: usize = 64;

pub(super) fn run(mut file: OpenLedger, mut jobs: mpsc::Receiver<Job>, reported: &watch::Sender<u64>) {
    let mut waiting = Vec::with_capacity(BATCH);
    while jobs.blocking_recv_many(&mut waiting, BATCH) > 0 {
        let mut batch = Batch::default();
        for job in waiting.drain(..) {
            match job {
                Job::Commit { writes, answer } => batch.add(writes, answer),
                // A read sees what was asked to be written before it.
                other => {
                    std::mem::take(&mut batch).commit(&mut file.connection, reported);
                    read(&mut file, other);
                }
            }
        }
        batch.commit(&mut file.connection, reported);
    }
}

fn read(file: &mut OpenLedger, job: Job) {
    let connection = &file.connection;
    // Whoever asked may have left; then nobody needs the answer.
    match job {
        Job::Commit { answer, .. } => drop(answer),
        Job::Load(answer) => drop(answer.send(rows::load(connection).map_err(failed("be read")))),
        Job::Holdings(answer) => {
            drop(answer.send(rows::load_holdings(connection).map_err(failed("be read"))));
        }
        Job::Session(session, answer) => {
            drop(answer.send(rows::load_session(connection, session).map_err(failed("be read"))));
        }
        Job::Reports { after, most, answer } => {
            drop(answer.send(rows::reports(connection, after, most).map_err(failed("read reports"))));
        }
        Job::Repositories(answer) => {
            drop(answer.send(rows::repositories(connection).map_err(failed("be read"))));
        }
        Job::Distrust(answer) => drop(answer.send(distrust(file).map_err(failed("be set aside")))),
        Job::Acknowledged(answer) => {
            drop(answer.send(rows::acknowledged(connection).map_err(failed("be read"))));
        }
        Job::Cookie(answer) => drop(answer.send(rows::cookie(connection).map_err(failed("read the cookie")))),
    }
}

fn distrust(file: &mut OpenLedger) -> Result<PathBuf, rusqlite::Error> {
    let unwritable = |error: std::io::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    let copy = free_name(&file.path, "older").map_err(unwritable)?;
    file.connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    let transaction = file.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    rows::distrust(&transaction)?;
    transaction.commit()?;
    Ok(copy)
}

fn failed(what: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |why| Error::Failed { what, why: why.to_string() }
}

#[derive(Default)]
struct Batch(Vec<(Vec<Write>, Answer<()>)>);

impl Batch {
    fn add(&mut self, writes: Vec<Write>, answer: Answer<()>) {
        self.0.push((writes, answer));
    }

    fn commit(self, connection: &mut Connection, reported: &watch::Sender<u64>) {
        if self.0.is_empty() {
            return;
        }
        let (commits, answers): (Vec<_>, Vec<_>) = self.0.into_iter().unzip();
        let outcome = commit_all(connection, &commits);
        if let Ok((_, last)) = &outcome {
            reported.send_if_modified(|known| std::mem::replace(known, *last) != *last);
        }
        let results = match outcome {
            Ok((results, _)) => results,
            Err(error) => vec![Err(failed("commit")(error)); answers.len()],
        };
        for (answer, result) in answers.into_iter().zip(results) {
            if answer.send(result).is_err() {
                tracing::debug!("a commit's owner left before its answer");
            }
        }
    }
}

/// Writes all of them and syncs. `Err`: nothing of the batch was committed.
fn commit_all(
    connection: &mut Connection,
    commits: &[Vec<Write>],
) -> Result<(Vec<Result<(), Error>>, u64), rusqlite::Error> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut results = Vec::with_capacity(commits.len());
    for writes in commits {
        results.push(write_one(&mut transaction, writes)?.map_err(failed("write")));
    }
    let last = rows::reported(&transaction)?;
    transaction.commit()?;
    Ok((results, last))
}

/// The outer error ends the batch: SQLite itself has rolled the transaction back.
fn write_one(
    transaction: &mut Transaction<'_>,
    writes: &[Write],
) -> Result<Result<(), rusqlite::Error>, rusqlite::Error> {
    let savepoint = transaction.savepoint()?;
    match write_all(&savepoint, writes) {
        Ok(()) => savepoint.commit().map(Ok),
        Err(error) if savepoint.is_autocommit() => Err(error),
        // Dropped, a savepoint is rolled back.
        Err(error) => Ok(Err(error)),
    }
}

fn write_all(savepoint: &Savepoint<'_>, writes: &[Write]) -> Result<(), rusqlite::Error> {
    writes.iter().try_for_each(|write| rows::write(savepoint, write))
}
