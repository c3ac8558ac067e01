//! One session's task: the only one that acts for it, so nothing about it happens twice at once. Its knowledge is the
//! ledger's: after every action it reads again what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drover_daemon::telemetry;
use drover_domain::converge::{Action, Assignment, LocalRun, Site, next};
use drover_domain::id::SessionId;
use drover_domain::retry::Backoff;
use drover_domain::session::Order;
use tokio::sync::watch;
use tracing::Instrument;

use super::checkpoint::Schedule;
use super::{Converge, Told, Turn};
use crate::chance;
use crate::ledger::{self, Entry, Journal, Key, Record, Write};
use crate::saga::{Ended, Extended};

/// Between attempts when the ledger or a probe gives no answer.
pub(super) const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) };

pub(super) struct Tender {
    pub converge: Converge,
    pub session: SessionId,
    pub told: watch::Receiver<Told>,
    pub entry: Entry,
    pub sagas: BTreeMap<Box<str>, Record>,
    pub checkpoints: Schedule,
    /// How often the live run's deadline was moved, as far as that was told.
    pub extensions: u32,
    turn: Arc<Turn>,
}

/// Why a task does not go on at once.
#[derive(Debug)]
pub(super) enum Pause {
    /// The agent is going down; the records say where it stopped.
    Parked,
    /// It may go better in a while.
    Again(String),
}

impl From<ledger::Error> for Pause {
    fn from(error: ledger::Error) -> Self {
        Self::Again(error.to_string())
    }
}

/// What wakes a task that has nothing to do.
enum Woken {
    Told,
    RunEnded(Order, Ended),
    Extended(Order, Extended),
    CheckpointDue,
    Leaving,
}

impl Tender {
    pub(super) fn new(
        converge: Converge,
        session: SessionId,
        told: watch::Receiver<Told>,
        entry: Entry,
    ) -> Self {
        let (sagas, checkpoints) = (BTreeMap::new(), Schedule::default());
        let turn = converge.turn(session);
        Self { converge, session, told, entry, sagas, checkpoints, extensions: 0, turn }
    }

    pub(super) async fn tend(mut self) {
        let mut troubles = 0;
        loop {
            match self.settle().await {
                Ok(Woken::Leaving) | Err(Pause::Parked) => return,
                Ok(woken) => {
                    if !matches!(woken, Woken::Extended(..) | Woken::CheckpointDue) {
                        troubles = 0;
                    }
                    if let Err(error) = self.hear(woken).await {
                        tracing::error!(session = %self.session, "{error}");
                    }
                }
                Err(Pause::Again(why)) => {
                    tracing::error!(session = %self.session, "{why}; trying again");
                    self.is_busy(false);
                    if !self.rest(AGAIN.delay(troubles, chance::byte())).await {
                        return;
                    }
                    self.is_busy(true);
                    troubles = troubles.saturating_add(1);
                }
            }
        }
    }

    /// Does what it was woken for, as long as the ledger still speaks of it.
    async fn hear(&mut self, woken: Woken) -> Result<(), ledger::Error> {
        if matches!(woken, Woken::Told | Woken::Leaving) {
            return Ok(());
        }
        let _turn = self.turn.clone().lock_owned().await;
        self.reload().await?;
        let alive = match self.entry.local.run {
            LocalRun::Starting(order) | LocalRun::Live(order) => Some(order),
            LocalRun::None | LocalRun::Ended(_) => None,
        };
        match woken {
            Woken::RunEnded(order, ended) if alive == Some(order) => self.run_ended(order, ended).await,
            Woken::Extended(order, extended) if alive == Some(order) => {
                self.run_extended(order, extended).await
            }
            Woken::CheckpointDue => {
                self.checkpoint().await;
                Ok(())
            }
            Woken::RunEnded(..) | Woken::Extended(..) | Woken::Told | Woken::Leaving => Ok(()),
        }
    }

    /// Does what there is to do, then waits for something to change.
    async fn settle(&mut self) -> Result<Woken, Pause> {
        let turn = self.turn.clone().lock_owned().await;
        self.reload().await?;
        loop {
            let told = self.told.borrow_and_update().clone();
            if matches!(told, Told::Retired) && self.is_forgettable() {
                self.forget().await?;
                self.converge.seats(|seats| seats.remove(&self.session));
                return Ok(Woken::Leaving);
            }
            let assignment = match &told {
                Told::Assigned(assignment) => Some(assignment.clone()),
                Told::Nothing | Told::Retired => None,
            };
            let action = next(assignment.as_deref(), &self.entry.local);
            match (action, assignment) {
                (Action::Rest | Action::IgnoreStale, _) | (_, None) => {
                    self.is_busy(false);
                    drop(turn);
                    let woken = self.wait().await;
                    self.is_busy(true);
                    return Ok(woken);
                }
                (action, Some(assignment)) => {
                    if self.converge.means().tasks.is_cancelled() {
                        return Err(Pause::Parked);
                    }
                    let span =
                        tracing::info_span!("converge", session = %self.session, action = word(action));
                    telemetry::continue_from(&span, assignment.trace.as_deref());
                    self.perform(action, &assignment).instrument(span).await?;
                    self.reload().await?;
                }
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        self.plan_checkpoint();
        let tasks = self.converge.means().tasks.clone();
        let ended = watch_run(&self.converge, self.session, self.entry.local.run);
        let extended = watch_deadline(&self.converge, self.session, self.entry.local.run, self.extensions);
        let mut told = self.told.clone();
        tokio::select! {
            biased;
            () = tasks.cancelled() => Woken::Leaving,
            (order, ended) = ended => Woken::RunEnded(order, ended),
            changed = told.changed() => if changed.is_ok() { Woken::Told } else { Woken::Leaving },
            (order, extended) = extended => Woken::Extended(order, extended),
            () = self.checkpoint_due() => Woken::CheckpointDue,
        }
    }

    /// False: the agent is going down.
    async fn rest(&self, length: Duration) -> bool {
        let tasks = &self.converge.means().tasks;
        tokio::select! { () = tokio::time::sleep(length) => true, () = tasks.cancelled() => false }
    }

    fn is_busy(&self, is_busy: bool) {
        self.converge.is_busy(self.session, is_busy);
    }

    pub(super) fn key(&self, saga: impl Into<Box<str>>) -> Key {
        Key { session: self.session, saga: saga.into() }
    }

    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<(), ledger::Error> {
        self.converge.means().ledger.commit(writes).await
    }

    /// Knows what the ledger knows.
    pub(super) async fn reload(&mut self) -> Result<(), ledger::Error> {
        let book = self.converge.means().ledger.session(self.session).await?;
        self.sagas = book.sagas.into_iter().map(|(key, record)| (key.saga, record)).collect();
        self.entry = book.sessions.into_values().next().unwrap_or_default();
        let shown = Entry { assignment: None, ..self.entry.clone() };
        self.converge.seats(|seats| seats.get_mut(&self.session).map(|seat| seat.entry = shown));
        Ok(())
    }

    /// What is assigned now.
    pub(super) fn assignment(&self) -> Option<Arc<Assignment>> {
        match &*self.told.borrow() {
            Told::Assigned(assignment) => Some(assignment.clone()),
            Told::Nothing | Told::Retired => None,
        }
    }

    fn is_forgettable(&self) -> bool {
        let nothing_runs = matches!(self.entry.local.run, LocalRun::None | LocalRun::Ended(_));
        nothing_runs && matches!(self.entry.local.site, Site::Nothing | Site::Removed)
    }
}

/// The end of the run that may be alive, when it comes; never, if there is none.
async fn watch_run(converge: &Converge, session: SessionId, run: LocalRun) -> (Order, Ended) {
    match run {
        LocalRun::Starting(order) | LocalRun::Live(order) => {
            (order, converge.means().home.runs.ended(session, order).await)
        }
        LocalRun::None | LocalRun::Ended(_) => std::future::pending().await,
    }
}

/// The deadline of the live run, once it was moved again.
async fn watch_deadline(
    converge: &Converge,
    session: SessionId,
    run: LocalRun,
    known: u32,
) -> (Order, Extended) {
    match run {
        LocalRun::Live(order) => (order, converge.means().home.runs.extended(session, order, known).await),
        LocalRun::None | LocalRun::Starting(_) | LocalRun::Ended(_) => std::future::pending().await,
    }
}

/// What an action is called in traces.
fn word(action: Action) -> &'static str {
    match action {
        Action::Rest => "rest",
        Action::IgnoreStale => "ignore stale",
        Action::Refence => "refence",
        Action::MakeWorkspace => "make workspace",
        Action::StartRun(_) => "start run",
        Action::Extend(..) => "extend run",
        Action::StopRun(_) => "stop run",
        Action::ReportNeverStarted(_) => "report never started",
        Action::RemoveWorkspace(_) => "remove workspace",
        Action::ClearWorkspace => "clear workspace",
    }
}
