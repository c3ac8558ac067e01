//! The writer: takes what waits, decides each command on a copy of the fleet after its predecessors, commits the batch,
//! publishes the copy, wakes, answers. All answers wait for the commit, refusals too: they may rest on what was not
//! committed yet.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use drover_daemon::clock::Clock;
use drover_domain::command::{Command, Wish};
use drover_domain::fleet::{Answer, Fleet};
use drover_domain::time::Timestamp;
use tokio::sync::{mpsc, watch};

use super::requests::{Known, Requests};
use super::{Done, Error, Job, Published, Work};
use crate::metrics::Metrics;
use crate::store::{CommitError, KeptAnswer, RequestKey, Store};

/// How many commands one transaction takes.
const BATCH: usize = 256;
/// How many bytes of specs it takes: a batch of large ones is cut here.
const BATCH_BYTES: usize = 1 << 20;
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Writer {
    store: Store,
    requests: Requests,
    outlet: Outlet,
    clock: Clock,
    last: Timestamp,
    /// A commit failed half-way: what is on disk must be read again before anything is decided.
    is_stale: bool,
    pruned: Duration,
}

/// Where what was committed becomes known.
pub(super) struct Outlet {
    pub published: Arc<ArcSwap<Published>>,
    pub wake: watch::Sender<u64>,
    pub trouble: watch::Sender<Option<Arc<str>>>,
    pub metrics: Metrics,
}

impl Outlet {
    fn tell_trouble(&self, why: Option<&str>) {
        self.trouble.send_if_modified(|told| {
            let is_news = told.as_deref() != why;
            if is_news {
                *told = why.map(Into::into);
            }
            is_news
        });
    }
}

/// A batch being decided.
struct Batch {
    fleet: Fleet,
    changes: Vec<drover_domain::change::Change>,
    answers: Vec<KeptAnswer>,
}

impl Batch {
    fn decide(&mut self, command: &Command, now: Timestamp) -> Result<Answer, Error> {
        let decision = self.fleet.decide(command, now).map_err(Error::Refused)?;
        for change in decision.changes {
            self.fleet.apply(&change);
            self.changes.push(change);
        }
        Ok(decision.answer)
    }
}

impl Writer {
    pub(super) fn new(store: Store, answers: &[KeptAnswer], outlet: Outlet, clock: Clock) -> Self {
        let requests = Requests::load(answers);
        let (last, pruned) = (Timestamp::default(), clock.boot());
        Self { store, requests, outlet, clock, last, is_stale: false, pruned }
    }

    pub(super) fn run(mut self, mut users: mpsc::Receiver<Job>, mut reports: mpsc::Receiver<Job>) {
        while let Some(first) = futures::executor::block_on(next(&mut users, &mut reports)) {
            let jobs = fill(first, &mut users, &mut reports);
            self.batch(jobs);
            self.prune();
        }
    }

    fn batch(&mut self, jobs: Vec<Job>) {
        if self.is_stale
            && let Err(error) = self.reload()
        {
            for job in jobs {
                // Whoever asked may have left.
                let _ = job.answer.send(Err(Error::NotWritten(error.clone())));
            }
            return;
        }
        let started = self.clock.boot();
        let count = jobs.len();
        let retry = self.decide_and_commit(jobs);
        self.outlet.metrics.committed(count, self.clock.boot().saturating_sub(started));
        // What failed together is tried one by one, so that one bad command costs only itself.
        for job in retry {
            for left in self.decide_and_commit(vec![job]) {
                let _ = left.answer.send(Err(Error::NotWritten("the disk refused it".into())));
            }
        }
    }

    /// Answers all jobs but those that are to be tried singly: nothing of them happened.
    fn decide_and_commit(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        let now = self.tick();
        let before = self.outlet.published.load_full();
        let mut batch = Batch { fleet: before.fleet.clone(), changes: vec![], answers: vec![] };
        let single = jobs.len() == 1;
        let mut decided = Vec::new();
        for job in jobs {
            if job.answer.is_closed() {
                continue;
            }
            let reply = self.decide(&job, &mut batch, now);
            decided.push((job, reply));
        }
        if batch.changes.is_empty() && batch.answers.is_empty() {
            decided.into_iter().for_each(|(job, reply)| drop(job.answer.send(reply)));
            return vec![];
        }
        match self.store.commit(&batch.changes, &batch.answers) {
            Ok(()) => {
                self.outlet.tell_trouble(None);
                self.publish(&before, &mut batch);
                decided.into_iter().for_each(|(job, reply)| drop(job.answer.send(reply)));
                vec![]
            }
            Err(CommitError::Refused(why)) if single => {
                self.outlet.tell_trouble(Some(&why));
                tracing::error!("a command could not be written: {why}");
                decided
                    .into_iter()
                    .for_each(|(job, _)| drop(job.answer.send(Err(Error::NotWritten(why.clone())))));
                vec![]
            }
            Err(CommitError::Refused(why)) => {
                tracing::warn!("a batch could not be written, its commands are tried singly: {why}");
                decided.into_iter().map(|(job, _)| job).collect()
            }
            Err(CommitError::Unknown(why)) => {
                tracing::error!("a commit failed, the registry is read again: {why}");
                self.is_stale = true;
                self.outlet.tell_trouble(Some(&why));
                let unknown = || Err(Error::OutcomeUnknown(why.clone()));
                decided.into_iter().for_each(|(job, _)| drop(job.answer.send(unknown())));
                vec![]
            }
        }
    }

    fn decide(&self, job: &Job, batch: &mut Batch, now: Timestamp) -> Result<Done, Error> {
        match &job.work {
            Work::Decide(command, None) => batch.decide(command, now).map(Done::Fresh),
            Work::Decide(command, Some(repeatable)) => {
                let (key, payload) = (&repeatable.key, &repeatable.payload);
                if let Some(answer) = self.known(batch, key, payload)? {
                    return Ok(Done::Repeated(answer));
                }
                let decided = batch.decide(command, now)?;
                let answer = (repeatable.render)(&batch.fleet, &decided, now);
                batch.answers.push(KeptAnswer { at: now, key: key.clone(), payload: *payload, answer });
                Ok(Done::Fresh(decided))
            }
            Work::Recall(key, payload) => {
                Ok(self.known(batch, key, payload)?.map_or(Done::Fresh(Answer::Gone), Done::Repeated))
            }
            Work::Remember(key, payload, answer) => {
                if let Some(earlier) = self.known(batch, key, payload)? {
                    return Ok(Done::Repeated(earlier));
                }
                let (key, answer) = (key.clone(), answer.clone());
                batch.answers.push(KeptAnswer { at: now, key, payload: *payload, answer });
                Ok(Done::Fresh(Answer::Gone))
            }
        }
    }

    /// What was answered to this request before, by this batch or an earlier one.
    fn known(&self, batch: &Batch, key: &RequestKey, payload: &[u8; 32]) -> Result<Option<Bytes>, Error> {
        let earlier = batch.answers.iter().find(|kept| kept.key == *key);
        let known = match earlier {
            Some(kept) if kept.payload == *payload => Some(Known::Answered(kept.answer.clone())),
            Some(_) => Some(Known::Taken),
            None => self.requests.find(key, payload),
        };
        match known {
            Some(Known::Answered(answer)) => Ok(Some(answer)),
            Some(Known::Taken) => Err(Error::RequestIdReused),
            None => Ok(None),
        }
    }

    fn publish(&mut self, before: &Published, batch: &mut Batch) {
        let mut after = Published { fleet: batch.fleet.clone(), recent: before.recent.clone() };
        for change in batch.changes.drain(..) {
            self.outlet.metrics.changed(&change);
            after.recent.push(change);
        }
        batch.answers.iter().for_each(|kept| self.requests.keep(kept));
        let revision = after.fleet.revision();
        self.outlet.published.store(Arc::new(after));
        self.outlet.wake.send_replace(revision);
    }

    /// What the disk says counts: the fleet and the answers are read again, and watchers begin anew from the log.
    fn reload(&mut self) -> Result<(), String> {
        let loaded = self.store.load().map_err(|error| error.to_string())?;
        self.requests = Requests::load(&loaded.answers);
        let revision = loaded.fleet.revision();
        self.outlet.published.store(Arc::new(Published::new(loaded.fleet)));
        self.outlet.wake.send_replace(revision);
        self.is_stale = false;
        Ok(())
    }

    /// The time of a batch, which never runs backwards.
    fn tick(&mut self) -> Timestamp {
        self.last = self.last.max(Timestamp::from_millis(self.clock.wall_millis()));
        self.last
    }

    fn prune(&mut self) {
        const EVERY: Duration = Duration::from_secs(60);
        const CHANGES: Duration = Duration::from_secs(90 * 24 * 3600);
        if self.clock.boot().saturating_sub(self.pruned) < EVERY {
            return;
        }
        let before = |age: Duration| {
            Timestamp::from_millis(
                self.last.millis().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            )
        };
        match self.store.prune(before(super::requests::KEPT_FOR), before(CHANGES)) {
            Ok(true) => {}
            Ok(false) => self.pruned = self.clock.boot(),
            Err(error) => {
                tracing::warn!("{error}");
                self.pruned = self.clock.boot();
            }
        }
    }
}

async fn next(users: &mut mpsc::Receiver<Job>, reports: &mut mpsc::Receiver<Job>) -> Option<Job> {
    tokio::select! {
        biased;
        Some(job) = reports.recv() => Some(job),
        Some(job) = users.recv() => Some(job),
        else => None,
    }
}

/// Takes what waits along, from both lanes in turn.
fn fill(first: Job, users: &mut mpsc::Receiver<Job>, reports: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut bytes = weight(&first);
    let mut jobs = vec![first];
    while jobs.len() < BATCH && bytes < BATCH_BYTES {
        let before = jobs.len();
        for lane in [&mut *reports, &mut *users] {
            if let Ok(job) = lane.try_recv() {
                bytes += weight(&job);
                jobs.push(job);
            }
        }
        if jobs.len() == before {
            break;
        }
    }
    jobs
}

fn weight(job: &Job) -> usize {
    match &job.work {
        Work::Decide(Command { wish: Wish::CreateSession(new), .. }, _) => {
            let words: usize = new.spec.command.iter().map(|word| word.len()).sum();
            let variables: usize =
                new.spec.environment.iter().map(|(name, value)| name.len() + value.len()).sum();
            words + variables + 512
        }
        Work::Decide(..) | Work::Recall(..) => 512,
        Work::Remember(_, _, answer) => answer.len() + 512,
    }
}
