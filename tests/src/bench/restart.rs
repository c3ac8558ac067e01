//! A controller that is killed under load: how long until a started one gives the first right answers, against opening
//! the same file and reading its rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::Connection;
use tokio::task::block_in_place;

use super::controller::{Controller, hold, page};
use super::fill::{Fill, fill};
use super::load::Load;
use super::measure::{Contest, Stopwatch, Unit, rounds};
use super::table::{Bound, Goal, Row};
use super::{Scale, line, scatter};

const IN_FLIGHT: usize = 64;
const LOADED_FOR: Duration = Duration::from_millis(700);
const PAGE: i32 = 500;

pub(crate) async fn rows(scale: &Scale) -> Result<Vec<Row>> {
    let live = scale.killed;
    let mut young = Victim::new(Fill { live, ..Fill::default() })?;
    let measure =
        format!("kill -9 under load, {live} sessions → first right Get and List, against bare open + load");
    let goal = Goal::new("G10", measure, Bound::AtMost(4.0)).stretch(2.0);
    let start = line(goal, rounds(&mut young, Unit::Seconds)).await;
    // Two changes of each session are its birth and its end in the queue: ten times as many are eighteen more.
    let old = Victim::new(Fill { live, holds: 18, ..Fill::default() })?;
    let young = Victim::new(Fill { live, ..Fill::default() })?;
    let goal =
        Goal::new("G10", "the same with a history ten times longer, against without", Bound::AtMost(1.2));
    let growth = line(goal, rounds(&mut Growth { young, old }, Unit::Seconds)).await;
    Ok(vec![start, growth])
}

/// A registry whose controller is killed again and again.
struct Victim {
    directory: tempfile::TempDir,
    ids: Arc<Vec<String>>,
    round: u64,
    /// The file as the last kill left it.
    image: Option<tempfile::TempDir>,
    /// Of the last kill, until a controller was started after it.
    known: Option<Known>,
}

/// What was answered before the end: this session had this revision at least.
struct Known {
    session: String,
    revision: u64,
}

impl Victim {
    fn new(wanted: Fill) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let ids = block_in_place(|| fill(&directory.path().join("controller"), wanted))?;
        Ok(Self { directory, ids: ids.into(), round: 0, image: None, known: None })
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("controller")
    }

    /// Kills it while it is busy.
    async fn killed(&mut self) -> Result<Known> {
        self.round += 1;
        let controller = Controller::start(&self.data()).await?;
        let session = self.ids[usize::try_from(scatter(self.round))? % self.ids.len()].clone();
        let known = Arc::new(AtomicU64::new(0));
        let (client, ids, last, own) =
            (controller.client()?, self.ids.clone(), known.clone(), session.clone());
        let load = Load::start(IN_FLIGHT, move |number| {
            let (client, ids, last, own) = (client.clone(), ids.clone(), last.clone(), own.clone());
            async move {
                let is_own = number % 50 == 0;
                let at = usize::try_from(scatter(number)).unwrap_or(0) % ids.len();
                let id = if is_own { &own } else { &ids[at] };
                let revision = hold(&client, id, format!("hold {number:08}"), String::new()).await?;
                if is_own {
                    last.fetch_max(revision, Ordering::SeqCst);
                }
                Ok(())
            }
        });
        tokio::time::sleep(LOADED_FOR).await;
        controller.kill();
        // Every call that was in flight fails.
        let _ = load.end().await;
        let revision = known.load(Ordering::SeqCst);
        anyhow::ensure!(revision > 0, "nothing was answered before the end");
        Ok(Known { session, revision })
    }

    /// From the start of the program to the first right answers.
    async fn answers(&self, known: &Known) -> Result<f64> {
        let watch = Stopwatch::start();
        let controller = Controller::start(&self.data()).await?;
        let client = controller.client()?;
        let session = client.get(&known.session).await?;
        let sessions = page(&client, PAGE).await?;
        let seconds = watch.seconds();
        anyhow::ensure!(session.revision >= known.revision, "it lost what it had answered");
        anyhow::ensure!(sessions.len() == usize::try_from(PAGE)?.min(self.ids.len()), "sessions are missing");
        Ok(seconds)
    }

    /// Kills it, and keeps a copy of what that left.
    async fn crash(&mut self) -> Result<Known> {
        let known = self.killed().await.context("the load before the kill")?;
        self.image = Some(copy(&self.data())?);
        Ok(known)
    }

    /// The file as the kill left it, opened and read.
    fn read(&self) -> Result<f64> {
        let image = self.image.as_ref().context("it was killed")?;
        let copy = copy(image.path())?;
        rustix::fs::sync();
        let watch = Stopwatch::start();
        let rows = load(&copy.path().join("registry.db"))?;
        let seconds = watch.seconds();
        anyhow::ensure!(rows == self.ids.len(), "rows are missing");
        Ok(seconds)
    }
}

fn copy(data: &Path) -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for name in ["registry.db", "registry.db-wal"] {
        let from = data.join(name);
        if from.exists() {
            std::fs::copy(from, copy.path().join(name))?;
        }
    }
    Ok(copy)
}

fn load(path: &Path) -> Result<usize> {
    let database = Connection::open(path)?;
    let query =
        "SELECT s.number, s.record, p.spec FROM sessions s JOIN specs p USING (number) WHERE NOT s.forgotten";
    let mut query = database.prepare(query)?;
    type Loaded = (i64, Vec<u8>, Vec<u8>);
    let rows = query.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<rusqlite::Result<Vec<Loaded>>>()?.len())
}

impl Contest for Victim {
    /// Before and after the product's turn it is the same kill's file.
    async fn bare(&mut self) -> Result<f64> {
        if self.image.is_none() {
            self.known = Some(self.crash().await?);
        }
        let seconds = block_in_place(|| self.read())?;
        if self.known.is_none() {
            self.image = None;
        }
        Ok(seconds)
    }

    async fn product(&mut self) -> Result<f64> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.crash().await?,
        };
        self.answers(&known).await
    }
}

struct Growth {
    young: Victim,
    old: Victim,
}

impl Contest for Growth {
    async fn bare(&mut self) -> Result<f64> {
        self.young.product().await
    }

    async fn product(&mut self) -> Result<f64> {
        self.old.product().await
    }
}
