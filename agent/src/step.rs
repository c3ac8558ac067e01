//! The step engine, the only way effects are made: every effect is a step {intend, probe, make, undo}, a saga is a
//! list of steps, and the ledger has the intent before the effect begins.
//!
//! A saga that died at any point is taken up by running it again from its record: what is there is kept, what is
//! absent is made, what cannot be seen stops it. A step that fails turns the saga round, and what it made is undone
//! backwards; a step whose intent was never recorded is not its own, and is not touched.

use std::time::Duration;

use async_trait::async_trait;
use drover_daemon::clock::Clock;
use drover_domain::presence::Presence;
use drover_domain::retry::Backoff;
use drover_domain::session::{Fault, FaultCode, Progress};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::chance;
use crate::failpoint::{self, Marks, Point};
use crate::ledger::{self, Heading, Journal, Key, Mark, Record, Write};

/// One effect on the machine. `C` is what a saga's steps tell each other; it is in the ledger with every mark.
#[async_trait]
pub trait Step<C: Send>: Send + Sync {
    /// What the ledger and the person call it; unique in its saga.
    fn name(&self) -> &'static str;

    /// Before anything is recorded: whether the effect may be made (nothing foreign is in its place), and what must
    /// be known to find it again. Changes nothing on the machine.
    async fn intend(&self, _facts: &mut C) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether the whole effect is there. Asked only of a step whose intent is recorded.
    async fn probe(&self, facts: &mut C) -> Presence<()>;

    /// Makes the effect, also over what an earlier attempt of the same step left half-made.
    async fn make(&self, facts: &mut C) -> Result<(), Fault>;

    /// Removes the effect, whole, half-made or absent. Nothing to do for what others share, or goes with another step.
    async fn undo(&self, _facts: &mut C) -> Result<(), Fault> {
        Ok(())
    }
}

/// What to do when a step fails for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    Undo,
    /// Leave what was made: the next attempt goes on from there.
    Halt,
}

/// An ordered list of steps about one thing.
#[expect(missing_debug_implementations, reason = "steps are code")]
pub struct Saga<C> {
    pub key: Key,
    pub steps: Vec<Box<dyn Step<C>>>,
    pub on_failure: OnFailure,
}

/// Why a saga did not come to its end.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Stopped {
    /// What was made is undone, or left for the next attempt, as the saga's kind says; that is committed.
    #[error("{}: {}", .0.step, .0.text)]
    Failed(Fault),
    /// It was asked to pause; its record says where.
    #[error("paused")]
    Parked,
    /// Nothing may be done that the ledger does not know of.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// How a saga ended, for whoever adds what this means to its last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a, C> {
    Done(&'a C),
    /// Nothing of it is left.
    Undone(&'a Fault),
    /// What was made is there, and the record with it.
    Left(&'a Fault),
}

/// What a saga's end means, as writes.
pub type Closing<'a, C> = Box<dyn Fn(Ending<'_, C>) -> Vec<Write> + Send + Sync + 'a>;

/// Where a saga stands: its record, and the facts of one that has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing<C> {
    pub record: Record,
    pub fresh: C,
}

/// What goes into the saga's own commits, so that a state and the effects it tells of are never apart.
#[expect(missing_debug_implementations, reason = "holds closures")]
pub struct Around<'a, C> {
    /// With the first intent.
    pub opening: Vec<Write>,
    /// With the last mark.
    pub closing: Closing<'a, C>,
    pub progress: Box<dyn Fn(Progress) + Send + Sync + 'a>,
}

/// Runs sagas. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Between attempts of a step that may succeed when tried again.
    pub backoff: Backoff,
    pub attempts: u32,
    /// A step that has lasted so long is not tried again: it has waited for whatever was in its way.
    pub patience: Duration,
    pub clock: Clock,
    /// Cancelled: sagas stop before their next step.
    pub park: CancellationToken,
}

impl Engine {
    pub fn new(park: CancellationToken) -> Self {
        let backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(5) };
        Self { backoff, attempts: 4, patience: Duration::from_secs(20), clock: Clock::system(), park }
    }

    /// Brings `saga` to its end from where it stands.
    pub async fn run<C>(
        &self,
        journal: &dyn Journal,
        saga: &Saga<C>,
        standing: Standing<C>,
        around: Around<'_, C>,
    ) -> Result<C, Stopped>
    where
        C: Serialize + DeserializeOwned + Send + Sync,
    {
        let Standing { record, fresh } = standing;
        let facts = recorded_facts(&record, fresh, &saga.key)?;
        let mut running = Running { engine: self, journal, saga, record, facts, around, pending: Vec::new() };
        running.whole().await?;
        Ok(running.facts)
    }

    /// Whether `fault`, met at this attempt, is worth another one; returns after the pause before it.
    async fn again(&self, fault: &Fault, attempt: u32, began: Duration) -> bool {
        let is_patient = self.clock.boot().saturating_sub(began) >= self.patience;
        // Whoever speaks to a network has tried it more than once.
        let was_tried = is_patient || fault.code == FaultCode::Network;
        if !fault.retryable || was_tried || attempt + 1 >= self.attempts || self.park.is_cancelled() {
            return false;
        }
        tracing::info!(step = %fault.step, attempt, "trying again: {}", fault.text);
        let pause = tokio::time::sleep(self.backoff.delay(attempt, chance::byte()));
        // Woken early, it has one more try and then ends.
        tokio::select! { () = pause => {}, () = self.park.cancelled() => {} }
        true
    }
}

fn recorded_facts<C: DeserializeOwned>(record: &Record, fresh: C, key: &Key) -> Result<C, Stopped> {
    if record.data.is_empty() {
        return Ok(fresh);
    }
    serde_json::from_str(&record.data).map_err(|error| {
        let why = format!("{} of {}: {error}", key.saga, key.session);
        Stopped::Ledger(ledger::Error::Failed { what: "understand its record", why })
    })
}

struct Running<'a, C> {
    engine: &'a Engine,
    journal: &'a dyn Journal,
    saga: &'a Saga<C>,
    record: Record,
    facts: C,
    around: Around<'a, C>,
    /// Marks that the next commit takes along.
    pending: Vec<Write>,
}

/// What of a step is to be done.
#[derive(Clone, Copy)]
enum Part {
    Intend,
    Probe,
    Make,
    Undo,
}

/// What came of going forward.
enum Went {
    Through,
    /// A step failed for good; what was made before it is known.
    Failed(Fault),
    /// A step's effect could not be seen: nothing may be concluded, so nothing is undone.
    Unseen(Fault),
}

impl<C: Serialize + DeserializeOwned + Send + Sync> Running<'_, C> {
    async fn whole(&mut self) -> Result<(), Stopped> {
        self.pending.append(&mut self.around.opening);
        if let Heading::Back { fault, told } = self.record.heading.clone() {
            self.back(&fault).await?;
            if !told {
                return self.closed(Ending::Undone(&fault)).await;
            }
            self.record = Record::default();
        }
        match (self.forward().await?, self.saga.on_failure) {
            (Went::Through, _) => {
                self.pending.extend((self.around.closing)(Ending::Done(&self.facts)));
                self.commit().await
            }
            (Went::Unseen(fault), _) | (Went::Failed(fault), OnFailure::Halt) => {
                self.closed(Ending::Left(&fault)).await
            }
            (Went::Failed(fault), OnFailure::Undo) => {
                failpoint::reach(&self.saga.key, &fault.step, Point::BeforeTurn);
                self.pending.push(Write::Turn {
                    key: self.saga.key.clone(),
                    fault: fault.clone(),
                    told: false,
                });
                self.back(&fault).await?;
                self.closed(Ending::Undone(&fault)).await
            }
        }
    }

    async fn forward(&mut self) -> Result<Went, Stopped> {
        let of = u32::try_from(self.saga.steps.len()).unwrap_or(u32::MAX);
        for (number, step) in (1_u32..).zip(&self.saga.steps) {
            self.unless_parked().await?;
            (self.around.progress)(Progress { step: number, of, name: step.name().into() });
            match self.one(number, step.as_ref()).await? {
                Went::Through => {}
                failed => return Ok(failed),
            }
        }
        Ok(Went::Through)
    }

    async fn one(&mut self, number: u32, step: &dyn Step<C>) -> Result<Went, Stopped> {
        if self.record.steps.contains_key(step.name()) {
            match self.persist(step, Part::Probe).await {
                Ok(true) => {
                    self.mark(number, step, Mark::Made)?;
                    return Ok(Went::Through);
                }
                Ok(false) => {}
                Err(fault) => return Ok(Went::Unseen(fault)),
            }
        } else if let Err(fault) = self.persist(step, Part::Intend).await {
            return Ok(Went::Failed(fault));
        }
        self.mark(number, step, Mark::Intended)?;
        failpoint::reach(&self.saga.key, step.name(), Point::BeforeIntent);
        self.commit().await?;
        failpoint::reach(&self.saga.key, step.name(), Point::AfterIntent);
        if let Err(fault) = self.persist(step, Part::Make).await {
            return Ok(Went::Failed(fault));
        }
        failpoint::reach(&self.saga.key, step.name(), Point::AfterMake);
        self.mark(number, step, Mark::Made)?;
        Ok(Went::Through)
    }

    /// Does this part of the step, again while it fails with what may pass. For a probe: whether it is there.
    async fn persist(&mut self, step: &dyn Step<C>, part: Part) -> Result<bool, Fault> {
        let facts = &mut self.facts;
        let began = self.engine.clock.boot();
        let mut attempt = 0;
        loop {
            let result = match part {
                Part::Intend => step.intend(facts).await.map(|()| true),
                Part::Make => step.make(facts).await.map(|()| true),
                Part::Undo => step.undo(facts).await.map(|()| true),
                Part::Probe => match step.probe(facts).await {
                    Presence::Present(()) => Ok(true),
                    Presence::Absent => Ok(false),
                    Presence::Unknown(why) => Err(unseen(step.name(), &why)),
                },
            };
            match result {
                Err(fault) if self.engine.again(&fault, attempt, began).await => attempt += 1,
                done => return done,
            }
        }
    }

    /// Undoes the recorded steps, the last one first, and ends the record.
    async fn back(&mut self, because: &Fault) -> Result<(), Stopped> {
        self.commit().await?;
        for step in self.saga.steps.iter().rev() {
            if !self.record.steps.contains_key(step.name()) {
                continue;
            }
            self.unless_parked().await?;
            failpoint::reach(&self.saga.key, step.name(), Point::BeforeUndo);
            if let Err(fault) = self.persist(step.as_ref(), Part::Undo).await {
                return self.stuck(because, &fault).await;
            }
            failpoint::reach(&self.saga.key, step.name(), Point::AfterUndo);
            self.record.steps.remove(step.name());
            self.pending.push(Write::Undone { key: self.saga.key.clone(), step: step.name().into() });
            self.commit().await?;
        }
        self.pending.push(Write::End(self.saga.key.clone()));
        Ok(())
    }

    /// Undoing failed too. The record stays, so that the next attempt goes on with it.
    async fn stuck(&mut self, because: &Fault, undoing: &Fault) -> Result<(), Stopped> {
        let text = format!("{} (undoing {} failed too: {})", because.text, undoing.step, undoing.text);
        let fault = Fault { text: text.into(), hint: undoing.hint.clone(), ..because.clone() };
        self.pending.push(Write::Turn { key: self.saga.key.clone(), fault: fault.clone(), told: true });
        self.closed(Ending::Left(&fault)).await
    }

    async fn closed(&mut self, ending: Ending<'_, C>) -> Result<(), Stopped> {
        let fault = match ending {
            Ending::Done(_) => None,
            Ending::Undone(fault) | Ending::Left(fault) => Some(fault.clone()),
        };
        self.pending.extend((self.around.closing)(ending));
        self.commit().await?;
        fault.map_or(Ok(()), |fault| Err(Stopped::Failed(fault)))
    }

    async fn unless_parked(&mut self) -> Result<(), Stopped> {
        if self.engine.park.is_cancelled() {
            self.commit().await?;
            return Err(Stopped::Parked);
        }
        Ok(())
    }

    fn mark(&mut self, number: u32, step: &dyn Step<C>, mark: Mark) -> Result<(), Stopped> {
        let data = serde_json::to_string(&self.facts).map_err(|error| {
            Stopped::Ledger(ledger::Error::Failed {
                what: "write down a saga's facts",
                why: error.to_string(),
            })
        })?;
        self.record.steps.insert(step.name().into(), (number, mark));
        let (key, step) = (self.saga.key.clone(), step.name());
        self.pending.push(Write::Mark { key, step, number, mark, data: data.into() });
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Stopped> {
        let writes = std::mem::take(&mut self.pending);
        let marks = Marks::of(&self.saga.key, &writes);
        self.journal.commit(writes).await.map_err(Stopped::Ledger)?;
        failpoint::committed(&self.saga.key, marks);
        Ok(())
    }
}

fn unseen(step: &str, why: &str) -> Fault {
    Fault {
        code: FaultCode::Other,
        step: step.into(),
        text: format!("cannot see whether it was done: {why}").into(),
        hint: "nothing was changed; try again when the cause is gone".into(),
        retryable: true,
    }
}

#[cfg(test)]
mod tests;
