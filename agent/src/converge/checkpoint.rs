//! Checkpoints of a workspace in use: every now and then while its run goes on, and before it is stopped. One that fails
//! holds up nobody: it is said, and tried again when it is due.

use std::time::Duration;

use drover_domain::command::Observation;
use drover_domain::converge::{Assignment, LocalRun, Site, Target};
use drover_domain::id::SessionId;
use drover_domain::session::Checkpoint;
use drover_domain::time::Timestamp;

use super::session::Tender;
use super::{Converge, observe};
use crate::chance;
use crate::ledger::{Key, Write};
use crate::saga::saved::{self, Taken};
use crate::step::{Around, Ending, OnFailure, Saga, Standing, Stopped};
use crate::workspace::Site as Place;

/// A stop waits no longer for it.
const BEFORE_STOP: Duration = Duration::from_secs(10);

/// When the next one is due, and what the last one was.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// On the boot clock. None: nothing was due yet.
    due: Option<Duration>,
    last: Option<String>,
}

impl Tender {
    /// Returns when a checkpoint is due; never while no run goes on.
    pub(super) async fn checkpoint_due(&self) {
        let local = &self.entry.local;
        let is_in_use = local.site == Site::Made && matches!(local.run, LocalRun::Live(_));
        match self.checkpoints.due.filter(|_| is_in_use) {
            Some(due) => tokio::time::sleep(due.saturating_sub(self.converge.means().clock.boot())).await,
            None => std::future::pending().await,
        }
    }

    /// Sets when the next one is due. The first one comes at any time, so that sessions that began together do not
    /// save together for ever.
    pub(super) fn plan_checkpoint(&mut self) {
        let every = self.converge.0.checkpoint_every;
        let now = self.converge.means().clock.boot();
        self.checkpoints.due = match (every, self.checkpoints.due) {
            (None, _) => None,
            (Some(every), None) => Some(now + every.mul_f64(0.5 + f64::from(chance::byte()) / 510.0)),
            (Some(every), Some(due)) if due <= now => Some(now + every),
            (Some(_), due) => due,
        };
    }

    /// Saves, unless there is something else to do.
    pub(super) async fn checkpoint(&mut self) {
        let mut told = self.told.clone();
        tokio::select! {
            () = self.save_checkpoint() => {}
            // Its git is ended with it; what was not finished is referred to by nothing.
            _ = told.changed() => {}
        }
        self.plan_checkpoint();
    }

    /// Before a run is stopped, if its workspace stays and its program has time.
    pub(super) async fn checkpoint_before_stop(&mut self, assignment: &Assignment) {
        let stays = !matches!(assignment.target, Target::Cleaned { .. });
        let is_whole = self.entry.local.site == Site::Made;
        if stays
            && is_whole
            && !assignment.grace().is_zero()
            && tokio::time::timeout(BEFORE_STOP, self.save_checkpoint()).await.is_err()
        {
            tracing::warn!(session = %self.session, "its workspace was not saved in time before its run is stopped");
        }
    }

    async fn save_checkpoint(&mut self) {
        let Some(assignment) = self.assignment() else { return };
        let home = self.converge.means().home.clone();
        let site = match self.layout().map(|layout| layout.site(&home, &assignment)) {
            Some(Ok(Some(site))) => site,
            Some(Err(fault)) => {
                return tracing::warn!(session = %self.session, "no checkpoint: {}", fault.text);
            }
            Some(Ok(None)) | None => return,
        };
        match self.converge.save(self.session, &site, self.checkpoints.last.as_deref()).await {
            Ok(saved) => self.checkpoints.last = saved.map(|saved| saved.reference.into()),
            Err(stopped) => tracing::warn!(session = %self.session, "no checkpoint: {stopped}"),
        }
    }
}

impl Converge {
    /// Saves the session's workspace, which is in use as before, and tells what is not known yet. `None`: there is
    /// nothing to save.
    pub async fn save(
        &self,
        session: SessionId,
        site: &Place,
        known: Option<&str>,
    ) -> Result<Option<Checkpoint>, Stopped> {
        let means = self.means();
        let at = Timestamp::from_millis(means.clock.wall_millis());
        let local = self.entry(session).unwrap_or_default().local;
        let key = Key { session, saga: "checkpoint".into() };
        let saga = Saga {
            key: key.clone(),
            steps: saved::checkpoint(&means.home, site),
            on_failure: OnFailure::Halt,
        };
        let taken = |Taken(taken): &Taken| {
            let (reference, commit) = taken.clone()?;
            Some(Checkpoint { reference: reference.into(), commit: commit.into(), at })
        };
        let closing = |ending: Ending<'_, Taken>| {
            let end = Write::End(key.clone());
            match ending {
                Ending::Done(done) => {
                    let news = taken(done).filter(|saved| known != Some(&*saved.reference));
                    let told =
                        news.map(|saved| observe::report(session, &local, &Observation::Checkpointed(saved)));
                    told.into_iter().chain([end]).collect()
                }
                Ending::Undone(_) | Ending::Left(_) => vec![end],
            }
        };
        let around = Around { opening: vec![], closing: Box::new(closing), progress: Box::new(|_| {}) };
        let done = means.engine.run(&means.ledger, &saga, Standing::default(), around).await?;
        Ok(taken(&done))
    }
}
