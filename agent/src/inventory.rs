//! What is really on this machine of sessions: worktrees, references, processes, lock files, directories, grouped by the
//! session whose mark they bear, beside what the ledger says. Looking touches nothing. What bears another installation's or
//! node's mark, or none, is not ours and is not told; what cannot be looked at is told as unseen.
//!
//! A look is cheap enough for every minute: it lists directories and reads small files, and asks no git.

mod assemble;
mod directories;
mod ledger_view;
mod machine;
mod news;
mod processes;
mod references;
#[cfg(test)]
mod tests;
mod worktrees;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drover_domain::id::SessionId;
use drover_domain::inventory::{Blind, Inventory, Process};
use drover_domain::time::Timestamp;
use tokio::sync::Mutex;

use crate::converge::{Converge, Means};
use crate::git::read::blocking;
use crate::ledger;
use assemble::assemble;
use ledger_view::Known;
use machine::{Grounds, Machine};
pub use news::{News, Pieces};
pub(crate) use processes::group;

/// Looks at this machine; cheap to clone. One for a process, because it remembers what it told.
#[derive(Clone, Debug)]
pub struct Probe {
    converge: Converge,
    told: Arc<Mutex<news::Told>>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The look that the asker has. 0: none.
    pub known: u64,
    /// Tell everything, also what did not change.
    pub is_full: bool,
    /// Only this repository.
    pub repository: Option<PathBuf>,
}

impl Probe {
    pub fn new(converge: Converge) -> Self {
        let begun = u64::try_from(converge.means().clock.wall_millis()).unwrap_or(0);
        Self { converge, told: Arc::new(Mutex::new(news::Told::since(begun))) }
    }

    /// Looks, and returns what is news to the asker. One look at a time.
    pub async fn read(&self, ask: &Ask) -> Result<News, ledger::Error> {
        let mut told = self.told.lock().await;
        let begun = self.converge.means().clock.boot();
        let inventory = self.look(ask.repository.clone()).await?;
        let took = self.converge.means().clock.boot().saturating_sub(begun);
        let now = Timestamp::from_millis(self.converge.means().clock.wall_millis());
        Ok(told.take(inventory, ask, took, now))
    }

    /// Everything that is here, or in one repository.
    pub async fn look(&self, only: Option<PathBuf>) -> Result<Inventory, ledger::Error> {
        let only = only.map(|path| common_of(&path));
        let before = self.known().await?;
        let grounds = self.grounds(&before, only.clone());
        let looked = before.clone();
        let machine = blocking(move || Ok(Machine::look(&grounds, &looked))).await;
        let machine = machine.unwrap_or_else(|failure| Machine::unseen(&failure.to_string()));
        // What came or went while the machine was looked at is not taken for a difference.
        let after = self.known().await?;
        Ok(assemble(machine, before.until(after), only.as_deref()))
    }

    async fn known(&self) -> Result<Known, ledger::Error> {
        let holdings = self.converge.means().ledger.holdings().await?;
        Ok(Known::new(self.converge.standing(), holdings))
    }

    fn grounds(&self, known: &Known, only: Option<PathBuf>) -> Grounds {
        let means = self.converge.means();
        Grounds {
            home: means.home.clone(),
            commons: known.commons(),
            only,
            now_millis: means.clock.wall_millis(),
            boot: means.clock.boot(),
        }
    }
}

/// Living processes of the session that are this agent's; `path`: its workspace, if the ledger knows the session.
pub(crate) fn marked(means: &Means, session: SessionId, path: Option<&Path>) -> Result<Vec<Process>, Blind> {
    let known = Known::of_one(session, path);
    let whose = processes::Whose { root: &means.home.worktrees, node: means.home.node, known: &known };
    let census = processes::Census::take(whose, means.clock.wall_millis(), means.clock.boot());
    match census.blind {
        Some(blind) => Err(blind),
        None => {
            Ok(census.marked.into_iter().filter(|(of, _)| *of == session).map(|(_, found)| found).collect())
        }
    }
}

/// A person may name the repository by its work tree.
pub(crate) fn common_of(path: &Path) -> PathBuf {
    let inner = path.join(".git");
    let common = if inner.is_dir() { inner } else { path.to_owned() };
    common.canonicalize().unwrap_or(common)
}

/// When something began that has an age, on the wall clock.
fn since(now_millis: i64, age: Duration) -> Timestamp {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now_millis.saturating_sub(age))
}

/// Real paths, each once.
type Commons = BTreeSet<PathBuf>;
