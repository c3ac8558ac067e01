//! The converge loop: for every session that is held here one task, which compares what is assigned with what the ledger
//! holds, does the next thing, and looks again. Tasks do not wait for each other but for the machine's patience.
//!
//! What is assigned is durable before anything follows from it. Without an assignment a session is kept as it is.

mod act;
mod checkpoint;
mod observe;
pub mod remains;
mod session;
mod trash;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_domain::converge::{Assignment, Local, LocalRun};
use drover_domain::fence::Against;
use drover_domain::id::SessionId;
use drover_domain::spec::OnNodeLoss;
use tokio::sync::{Semaphore, watch};

use crate::ledger::{self, Book, Entry, Journal, Ledger, Write};
use crate::saga::Home;
use crate::step::Engine;
use crate::wire;
use session::Tender;

/// How long a run that was told to end may still take: it is told again, then killed.
const KILLED_AFTER: Duration = Duration::from_secs(10);

/// Everything that is held here, kept converging; cheap to clone.
#[derive(Clone, Debug)]
pub struct Converge(Arc<Shared>);

/// What a converge loop works with.
#[derive(Clone, Debug)]
pub struct Means {
    pub home: Home,
    pub ledger: Ledger,
    pub engine: Engine,
    pub clock: Clock,
    pub tasks: Tasks,
}

/// How much is done at once on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Workspaces that are being made or removed.
    pub makes: usize,
    /// Runs that are being started.
    pub starts: usize,
    /// How often the workspace of a run that goes on is saved. None: never by itself.
    pub checkpoint_every: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    means: Means,
    makes: Semaphore,
    starts: Semaphore,
    checkpoint_every: Option<Duration>,
    seats: Mutex<HashMap<SessionId, Seat>>,
    /// Whose turn it is at the trash.
    trash: trash::Turn,
    turns: Mutex<HashMap<SessionId, Weak<Turn>>>,
}

/// Who has it acts for the session, and nobody else does.
pub(crate) type Turn = tokio::sync::Mutex<()>;

/// How a session's task is reached.
#[derive(Debug)]
struct Seat {
    told: watch::Sender<Told>,
    entry: Entry,
    /// Its task is acting, or about to.
    is_busy: bool,
}

/// A session that is held here, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub entry: Entry,
    /// The controller's last word on it is known.
    pub is_assigned: bool,
    /// Something is being done for it.
    pub is_busy: bool,
}

/// What the controller last said of a session.
#[derive(Clone, Debug)]
enum Told {
    /// Nothing: it is kept.
    Nothing,
    Assigned(Arc<Assignment>),
    /// It may be forgotten, if nothing of it is left here.
    Retired,
}

/// One assignment, decoded and as it came.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub assignment: Arc<Assignment>,
    pub bytes: Bytes,
}

impl Converge {
    /// Takes up everything that the ledger holds.
    pub fn start(means: Means, limits: Limits, book: &Book) -> Self {
        let converge = Self(Arc::new(Shared {
            means,
            makes: Semaphore::new(limits.makes),
            starts: Semaphore::new(limits.starts),
            checkpoint_every: limits.checkpoint_every,
            seats: Mutex::default(),
            trash: trash::Turn::default(),
            turns: Mutex::default(),
        }));
        // First, so that what was begun about a session's remains goes before whatever its own task wants.
        converge.take_up_remains(book);
        for (session, entry) in &book.sessions {
            let told = entry.assignment.as_ref().map_or(Told::Nothing, |bytes| recalled(*session, bytes));
            converge.seat(*session, told, entry.clone());
        }
        converge.take_up_trash(book);
        converge
    }

    /// Takes in what the controller assigns: durable first, then acted upon.
    pub async fn assign(&self, arrived: Vec<Arrived>) -> Result<(), ledger::Error> {
        let (mut writes, mut news) = (Vec::new(), Vec::new());
        for Arrived { assignment, bytes } in arrived {
            let session = assignment.session;
            let known = self.entry(session);
            if known.as_ref().is_some_and(|known| known.local.fence.judge(assignment.fence) == Against::Stale)
            {
                tracing::info!(%session, fence = %assignment.fence, "an assignment of an older placement: ignored");
                continue;
            }
            if known.is_none() {
                let local = Local { fence: assignment.fence, ..Local::default() };
                writes.push(Write::Local { session, local });
            }
            writes.push(Write::Assign { session, assignment: Some(bytes) });
            news.push((session, assignment));
        }
        self.0.means.ledger.commit(writes).await?;
        for (session, assignment) in news {
            let entry =
                Entry { local: Local { fence: assignment.fence, ..Local::default() }, ..Entry::default() };
            self.tell(session, Told::Assigned(assignment), Some(entry));
        }
        Ok(())
    }

    /// These may be forgotten, as soon as nothing of them is left.
    pub fn retire(&self, sessions: impl IntoIterator<Item = SessionId>) {
        for session in sessions {
            self.tell(session, Told::Retired, None);
        }
    }

    /// The controller knows of no others than these: nothing is wanted of the rest, so the rest is kept.
    pub async fn keep_others(&self, known: &BTreeSet<SessionId>) -> Result<(), ledger::Error> {
        let others: Vec<SessionId> = self.held().into_iter().map(|(session, _)| session).collect();
        let others: Vec<SessionId> = others.into_iter().filter(|session| !known.contains(session)).collect();
        let writes =
            others.iter().map(|session| Write::Assign { session: *session, assignment: None }).collect();
        self.0.means.ledger.commit(writes).await?;
        for session in others {
            tracing::warn!(%session, "held here and unknown to the controller: kept as it is");
            self.tell(session, Told::Nothing, None);
        }
        Ok(())
    }

    /// Everything that is held here.
    pub fn held(&self) -> Vec<(SessionId, Entry)> {
        self.seats(|seats| seats.iter().map(|(session, seat)| (*session, seat.entry.clone())).collect())
    }

    /// The same, with how each of them stands.
    pub fn standing(&self) -> BTreeMap<SessionId, Held> {
        let held = |seat: &Seat| Held {
            entry: seat.entry.clone(),
            is_assigned: matches!(*seat.told.borrow(), Told::Assigned(_)),
            is_busy: seat.is_busy,
        };
        self.seats(|seats| seats.iter().map(|(session, seat)| (*session, held(seat))).collect())
    }

    pub fn entry(&self, session: SessionId) -> Option<Entry> {
        self.seats(|seats| seats.get(&session).map(|seat| seat.entry.clone()))
    }

    /// What is assigned of this session.
    pub fn assignment(&self, session: SessionId) -> Option<Arc<Assignment>> {
        self.seats(|seats| match &*seats.get(&session)?.told.borrow() {
            Told::Assigned(assignment) => Some(assignment.clone()),
            Told::Nothing | Told::Retired => None,
        })
    }

    /// Lets the runs that may be placed elsewhere when this node is lost go on, as long as the controller cannot have
    /// done so yet: `until` says how long, counted from the boot, for a run that takes so long to stop.
    pub async fn renew_fences(&self, until: impl Fn(Duration) -> Option<Duration>) {
        for (session, entry) in self.held() {
            let Some(assignment) = self.assignment(session) else { continue };
            let LocalRun::Live(order) = entry.local.run else { continue };
            if assignment.spec.on_node_loss != OnNodeLoss::Reschedule {
                continue;
            }
            let Some(until) = until(assignment.spec.limits.stop_grace() + KILLED_AFTER) else { continue };
            if let Err(fault) = self.0.means.home.runs.fence(session, order, until).await {
                tracing::warn!(%session, "its supervisor was not told how long it may go on: {}", fault.text);
            }
        }
    }

    /// The session's turn: its own task takes it, and whoever else does something about it.
    fn turn(&self, session: SessionId) -> Arc<Turn> {
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let known = turns.get(&session).and_then(Weak::upgrade);
        let turn = known.unwrap_or_default();
        turns.insert(session, Arc::downgrade(&turn));
        turn
    }

    /// Says to whoever looks whether something is being done for the session.
    fn is_busy(&self, session: SessionId, is_busy: bool) {
        self.seats(|seats| seats.get_mut(&session).map(|seat| seat.is_busy = is_busy));
    }

    /// Has the session's task look again, if there is one.
    fn wake(&self, session: SessionId) {
        self.seats(|seats| seats.get(&session).map(|seat| seat.told.send_modify(|_| {})));
    }

    pub fn means(&self) -> &Means {
        &self.0.means
    }

    /// Tells a session's task; one that is not held yet is taken up if `fresh` says what is here of it.
    fn tell(&self, session: SessionId, told: Told, fresh: Option<Entry>) {
        let missing = self.seats(|seats| match seats.get(&session) {
            Some(seat) => {
                seat.told.send_replace(told.clone());
                false
            }
            None => true,
        });
        if let (true, Some(entry)) = (missing, fresh) {
            self.seat(session, told, entry);
        }
    }

    fn seat(&self, session: SessionId, told: Told, entry: Entry) {
        let (told, hears) = watch::channel(told);
        self.seats(|seats| seats.insert(session, Seat { told, entry: entry.clone(), is_busy: true }));
        let tender = Tender::new(self.clone(), session, hears, entry);
        self.0.means.tasks.spawn(tender.tend());
    }

    fn seats<T>(&self, work: impl FnOnce(&mut HashMap<SessionId, Seat>) -> T) -> T {
        work(&mut self.0.seats.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An assignment from the ledger. One that cannot be read is no reason to touch what is here.
fn recalled(session: SessionId, bytes: &Bytes) -> Told {
    match wire::assignment(bytes) {
        Ok(assignment) => Told::Assigned(Arc::new(assignment)),
        Err(error) => {
            tracing::error!(%session, "its stored assignment cannot be read, so it is kept as it is: {error}");
            Told::Nothing
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
