//! One thread that writes: takes what waits, puts a row and an event for each into one transaction, answers after the
//! commit. The log is copied beside it, so that this is no slower than need be.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::{BareArgs, Blob, Layout};

const BATCH: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Job>);

type Job = (Blob, oneshot::Sender<Result<(), String>>);

impl Writer {
    pub(super) fn start(args: &BareArgs) -> Result<Self> {
        let path = args.data.join("bare.db");
        let mut connection = open(&path)?;
        fill(&mut connection, args)?;
        let (jobs, waiting) = mpsc::channel(4096);
        let layout = args.layout;
        thread::Builder::new().name("writer".into()).spawn(move || run(connection, layout, waiting))?;
        let beside = open(&path)?;
        thread::Builder::new().name("checkpoints".into()).spawn(move || {
            loop {
                // A busy log is copied the next time.
                let _ = beside.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
                thread::sleep(Duration::from_millis(250));
            }
        })?;
        Ok(Self(jobs))
    }

    pub(super) async fn write(&self, blob: Blob) -> Result<(), Status> {
        let (answer, answered) = oneshot::channel();
        let closed = |_| Status::unavailable("the writer is gone");
        self.0.send((blob, answer)).await.map_err(|_| Status::unavailable("the writer is gone"))?;
        answered.await.map_err(closed)?.map_err(Status::internal)
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -65536;",
    )?;
    Ok(connection)
}

const RANDOM: &str = "
    CREATE TABLE things (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE events (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL) STRICT;";

const SAME: &str = "
    CREATE TABLE meta (revision INTEGER NOT NULL);
    INSERT INTO meta VALUES (0);
    CREATE TABLE things (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, node TEXT, value BLOB NOT NULL) STRICT;
    CREATE TABLE events (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, kind TEXT NOT NULL,
                         thing INTEGER, node TEXT, value BLOB) STRICT;
    CREATE INDEX events_of_things ON events (thing, number) WHERE thing IS NOT NULL;";

fn fill(connection: &mut Connection, args: &BareArgs) -> rusqlite::Result<()> {
    connection.execute_batch(if args.layout == Layout::Random { RANDOM } else { SAME })?;
    let value = vec![7_u8; args.record];
    let transaction = connection.transaction()?;
    {
        let insert = match args.layout {
            Layout::Random => "INSERT INTO things (key, value) VALUES (?1, ?2)",
            Layout::Same => "INSERT INTO things (number, id, state, value) VALUES (?3, hex(?1), 'error', ?2)",
        };
        let mut insert = transaction.prepare(insert)?;
        for number in 0..args.rows {
            match args.layout {
                Layout::Random => insert.execute(params![key(number), value])?,
                Layout::Same => insert.execute(params![key(number), value, signed(number)])?,
            };
        }
    }
    transaction.commit()
}

fn run(mut connection: Connection, layout: Layout, mut waiting: mpsc::Receiver<Job>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut jobs = vec![first];
        while let (true, Ok(job)) = (jobs.len() < BATCH, waiting.try_recv()) {
            jobs.push(job);
        }
        let done = write(&mut connection, layout, &jobs).map_err(|error| error.to_string());
        for (_, answer) in jobs {
            // Whoever asked may have left.
            let _ = answer.send(done.clone());
        }
    }
}

fn write(connection: &mut Connection, layout: Layout, jobs: &[Job]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for (Blob { data, number, .. }, _) in jobs {
        let (data, now) = (&**data, 1_700_000_000_000_i64);
        match layout {
            Layout::Random => {
                let upsert = "INSERT INTO things (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
                transaction.prepare_cached(upsert)?.execute(params![key(*number), data])?;
                let event = "INSERT INTO events (at, key, value) VALUES (?1, ?2, ?3)";
                transaction.prepare_cached(event)?.execute(params![now, key(*number), data])?;
            }
            Layout::Same => {
                let update = "UPDATE things SET state = ?2, node = ?3, value = ?4 WHERE number = ?1";
                let row = params![signed(*number), "error", Option::<String>::None, data];
                transaction.prepare_cached(update)?.execute(row)?;
                let event = "INSERT INTO events (at, actor, kind, thing, node, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let row = params![
                    now,
                    "user:operator",
                    "session_held",
                    signed(*number),
                    Option::<String>::None,
                    data
                ];
                transaction.prepare_cached(event)?.execute(row)?;
            }
        }
    }
    if layout == Layout::Same {
        let count = i64::try_from(jobs.len()).unwrap_or(0);
        transaction.prepare_cached("UPDATE meta SET revision = revision + ?1")?.execute([count])?;
    }
    transaction.commit()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The key of a row: sixteen bytes in no order.
fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&crate::bench::scatter(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}
