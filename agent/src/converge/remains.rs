//! What may be left of sessions that do not belong here any more: looked at closely, and cleared, ended or told on order.
//! An order is about one session and has its turn. It says what it was planned for: if that changed, or somebody is inside,
//! or the session is wanted here, nothing is done. What was begun is in the ledger and goes on at the next start.

mod clear;
mod ending;
mod stamp;
mod subject;
mod users;

use std::path::PathBuf;
use std::time::Duration;

use drover_domain::converge::LocalRun;
use drover_domain::id::SessionId;
use tokio::sync::OwnedMutexGuard;

use super::{Converge, observe};
use crate::git::left::{self, Moved};
use crate::git::lock::Asker;
use crate::git::read::blocking;
use crate::inventory::common_of;
use crate::ledger::{Book, Journal, Key, Write};
use crate::process::ProcessId;
use crate::workspace::work::Work;
use crate::workspace::{Label, Site};

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    pub session: SessionId,
    /// None: only processes or directories.
    pub repository: Option<PathBuf>,
    pub path: Option<PathBuf>,
    /// The branch that registry or ledger recorded.
    pub branch: Option<String>,
    pub label: Label,
}

/// What was found when it was looked at closely.
#[derive(Clone, Debug)]
pub struct Assessment {
    pub session: SessionId,
    pub work: Option<(Site, Work)>,
    /// Who is inside.
    pub users: Vec<String>,
    /// Tells this state from another one.
    pub stamp: String,
    /// Why it cannot be removed.
    pub obstacle: Option<String>,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    pub result: Outcome,
    pub text: String,
    pub kept: Vec<String>,
    /// References.
    pub saved: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// There is nothing to do any more.
    Nothing,
    /// It is not as it was when that was planned.
    Changed,
    Failed,
}

/// A lock file to be moved aside, as it was seen.
#[derive(Clone, Debug)]
pub struct SeenLock {
    pub repository: PathBuf,
    pub name: String,
    pub stamp: String,
}

/// For whatever the session's task is doing.
const PATIENCE: Duration = Duration::from_secs(20);
const BUSY: &str = "something else is being done for this session";

impl Deed {
    fn new(result: Outcome, text: impl Into<String>) -> Self {
        Self { result, text: text.into(), kept: vec![], saved: vec![] }
    }

    fn failed(text: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, text)
    }
}

impl Converge {
    /// Goes on with what was begun before this start. Each has its session's turn before anybody else wants it.
    pub(super) fn take_up_remains(&self, book: &Book) {
        for (key, record) in &book.sagas {
            let is_of = |saga: &str| &*key.saga == saga;
            if !is_of(clear::SAGA) && !is_of(ending::SAGA) {
                continue;
            }
            let Ok(turn) = self.turn(key.session).try_lock_owned() else { continue };
            let (converge, key, record) = (self.clone(), key.clone(), record.clone());
            self.means().tasks.spawn(async move {
                let _turn = turn;
                let deed = match &*key.saga {
                    clear::SAGA => converge.clear_on(&key, record).await,
                    _ => converge.end_on(&key, record).await,
                };
                tracing::info!(session = %key.session, saga = %key.saga, "taken up again: {}", deed.text);
                converge.wake(key.session);
            });
        }
    }

    /// The session's workspace and branch are removed by the rules, once its work is saved.
    pub async fn clear(&self, asked: Asked, stamp: String) -> Deed {
        let session = asked.session;
        self.alone(session, move |converge| async move { converge.clear_now(&asked, &stamp).await }).await
    }

    /// Ends those of these processes that still bear the session's mark.
    pub async fn end_processes(&self, asked: Asked, processes: Vec<(u32, u64)>) -> Deed {
        let session = asked.session;
        self.alone(session, move |converge| async move { converge.end_now(&asked, &processes).await }).await
    }

    /// Looks again at the run that the ledger holds alive, and tells its end if it is over.
    pub async fn tell_run(&self, session: SessionId) -> Deed {
        self.alone(session, move |converge| async move { converge.tell_now(session).await }).await
    }

    /// In a task of its own, which goes on if nobody listens any more, and in the session's turn.
    async fn alone<F, D>(&self, session: SessionId, deed: F) -> Deed
    where
        F: FnOnce(Self) -> D + Send + 'static,
        D: Future<Output = Deed> + Send,
    {
        let converge = self.clone();
        let done = self.means().tasks.spawn(async move {
            let Some(_turn) = converge.turn_in_time(session).await else { return Deed::failed(BUSY) };
            converge.is_busy(session, true);
            let deed = deed(converge.clone()).await;
            converge.is_busy(session, false);
            converge.wake(session);
            deed
        });
        done.await.unwrap_or_else(|error| Deed::failed(error.to_string()))
    }

    async fn turn_in_time(&self, session: SessionId) -> Option<OwnedMutexGuard<()>> {
        tokio::time::timeout(PATIENCE, self.turn(session).lock_owned()).await.ok()
    }

    async fn tell_now(&self, session: SessionId) -> Deed {
        let local = match self.means().ledger.session(session).await {
            Ok(book) => book.sessions.into_values().next().unwrap_or_default().local,
            Err(error) => return Deed::failed(error.to_string()),
        };
        let (LocalRun::Starting(order) | LocalRun::Live(order)) = local.run else {
            return Deed::new(Outcome::Nothing, "no run of it is held alive here");
        };
        let ended = match self.means().home.runs.settle(session, order).await {
            Ok(Some(ended)) => ended,
            Ok(None) => return Deed::new(Outcome::Nothing, format!("run {} goes on", order.ordinal)),
            Err(fault) => return Deed::failed(fault.text),
        };
        let mut writes = observe::ended(session, local, order, &ended);
        writes.push(Write::End(Key { session, saga: format!("run.{}", order.ordinal).into() }));
        match self.means().ledger.commit(writes).await {
            Ok(()) => {
                let text = format!("run {} is over and told: {}", order.ordinal, ended.outcome);
                Deed::new(Outcome::Done, text)
            }
            Err(error) => Deed::failed(error.to_string()),
        }
    }

    /// Moves a lock file aside. One rename is all of it, so that nothing of it can be left half-way.
    pub async fn move_lock(&self, lock: SeenLock) -> Deed {
        let common = common_of(&lock.repository);
        match self.is_ground(&common).await {
            Ok(true) => {}
            Ok(false) => return Deed::failed("no workspace was ever made in this repository"),
            Err(error) => return Deed::failed(error.to_string()),
        }
        let means = self.means();
        if left::seen(&common, &lock.name).is_none() {
            return Deed::new(Outcome::Nothing, format!("{} is gone", lock.name));
        }
        let asker = Asker { operation: "move a lock aside", locks: &[] };
        let held = match means.home.workspaces.locks().acquire(&common, asker, PATIENCE).await {
            Ok(held) => held,
            Err(failure) => return Deed::failed(failure.to_string()),
        };
        let (now, name, at) = (means.clock.wall_millis(), lock.name.clone(), common.clone());
        let moved = blocking(move || Ok(left::move_aside(&at, &name, &lock.stamp, now))).await;
        held.release();
        match moved {
            Ok(Moved::Aside(to)) => {
                Deed::new(Outcome::Done, format!("{} is {} now", lock.name, to.display()))
            }
            // Taking the repository's lock looks after what its last holder left.
            Ok(Moved::Gone) => Deed::new(Outcome::Done, format!("{} is gone", lock.name)),
            Ok(Moved::Other) => Deed::new(
                Outcome::Changed,
                format!("{} is another file than the one that was seen", lock.name),
            ),
            Ok(Moved::Held(by)) => Deed::failed(format!("{} is held by {by}", lock.name)),
            Ok(Moved::Failed(why)) => Deed::failed(why),
            Err(failure) => Deed::failed(failure.to_string()),
        }
    }

    /// Whether the ledger, or a worktree with our mark, says that this repository may hold something of ours.
    async fn is_ground(&self, common: &std::path::Path) -> Result<bool, crate::ledger::Error> {
        let holdings = self.means().ledger.holdings().await?;
        let is_known = holdings.repositories.contains(common)
            || holdings.kept.keys().any(|(_, kept)| kept == common)
            || common.starts_with(&self.means().home.mirrors.root);
        Ok(is_known || !subject::entries(&self.means().home, common, None).unwrap_or_default().is_empty())
    }
}

/// The processes of these numbers and starts in this boot.
fn ids(boot: &crate::process::Boot, processes: &[(u32, u64)]) -> Vec<ProcessId> {
    processes.iter().map(|(pid, start)| ProcessId { boot: boot.clone(), pid: *pid, start: *start }).collect()
}
