//! What a supervisor left that was killed itself: the processes of its run are found by control group, by the run's mark in
//! their environment and by descent from them, and are ended; then its end is written down in its place.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_domain::outcome::Outcome;
use drover_domain::presence::Presence;
use rustix::process::Signal;

use super::{Key, Processes, Seen, StopError, told};
use crate::cgroup::Cgroup;
use crate::process::{self, Boot, ProcessId};
use crate::shim::record::{Exit, RunDirectory, Used, VERSION, Verdict};

const TOLD: Duration = Duration::from_secs(5);
const KILLED: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);

/// Where processes of a run may be.
#[derive(Clone, Debug)]
struct Traces {
    mark: String,
    cgroup: Option<Cgroup>,
    command: Option<ProcessId>,
    boot: Boot,
}

impl Processes {
    /// Ends what is left of the run and writes down its end. `None`: somebody else is at it; look again.
    pub(super) async fn settle(&self, key: Key, because: Outcome) -> Result<Option<Exit>, StopError> {
        let directory = self.directory(key);
        let unseen = |error: std::io::Error| StopError::Unseen(error.to_string());
        let Some(_lock) = directory.lock().map_err(unseen)? else { return Ok(None) };
        if let Some(exit) = directory.exit().map_err(|error| StopError::Unseen(told(&error)))? {
            return Ok(Some(exit));
        }
        let traces = self.traces(key, &directory);
        let left = self.end(&traces).await?;
        let text = match left.as_slice() {
            [] => "its supervisor was gone, and nothing was left of it".to_owned(),
            pids => format!("its supervisor was gone; what it left was ended: {pids:?}"),
        };
        tracing::warn!(run = %key.order.run, "{text}");
        let exit = Exit {
            version: VERSION,
            verdict: Verdict::from(&because),
            code: None,
            signal: None,
            text: Some(text),
            started: directory.started().ok().flatten().map(|started| started.started),
            ended: self.0.clock.wall_millis(),
            // Whoever counted is gone; what the kernel counts for the group is not.
            used: traces.cgroup.as_ref().map(|group| group.usage().into()).unwrap_or_default(),
            log_bytes: None,
            log_dropped: None,
        };
        directory.write_exit(&exit).map_err(unseen)?;
        Ok(Some(exit))
    }

    /// The end of a run that nobody saw end. `None`: something of it lives, or somebody else is at it.
    pub(super) async fn settle_unseen(&self, key: Key) -> Result<Option<Exit>, StopError> {
        match self.look(key) {
            Presence::Present(Seen::Ended(exit)) => Ok(Some(exit)),
            Presence::Present(Seen::Starting | Seen::Running(_)) => Ok(None),
            Presence::Present(Seen::Orphaned) => self.settle(key, self.interruption(key)).await,
            Presence::Absent => self.lost(key).await,
            Presence::Unknown(why) => Err(StopError::Unseen(why)),
        }
    }

    /// Nothing is kept of the run. As long as something with its mark lives it has not ended.
    async fn lost(&self, key: Key) -> Result<Option<Exit>, StopError> {
        let traces = self.traces(key, &self.directory(key));
        let made = self.0.cgroup.as_ref().map(|home| home.join(format!("{}.{}", key.session, key.order.run)));
        let traces = Traces { cgroup: traces.cgroup.or_else(|| made.map(Cgroup::at)), ..traces };
        if !traces.look().await?.is_empty() {
            return Ok(None);
        }
        if !matches!(self.0.runs.try_exists(), Ok(true)) {
            return Err(StopError::Unseen(format!("{} is not there", self.0.runs.display())));
        }
        Ok(Some(Exit {
            version: VERSION,
            verdict: Verdict::from(&Outcome::Lost),
            code: None,
            signal: None,
            text: Some("nothing is left of it, nor of what was kept of it".to_owned()),
            started: None,
            ended: self.0.clock.wall_millis(),
            used: Used::default(),
            log_bytes: None,
            log_dropped: None,
        }))
    }

    /// Ends whatever bears the mark of a run that is recorded nowhere.
    pub(super) async fn sweep(&self, key: Key) -> Result<(), StopError> {
        self.end(&self.traces(key, &self.directory(key))).await.map(drop)
    }

    fn traces(&self, key: Key, directory: &RunDirectory) -> Traces {
        Traces {
            mark: format!("DROVER_RUN={}", key.order.run),
            cgroup: self.cgroup(key),
            command: directory.started().ok().flatten().map(|started| started.process),
            boot: self.0.boot.clone(),
        }
    }

    /// Tells, then kills. Returns what was there.
    async fn end(&self, traces: &Traces) -> Result<Vec<u32>, StopError> {
        let first = traces.look().await?;
        let begin = self.0.clock.boot();
        for process in &first {
            process.signal(&self.0.boot, Signal::TERM);
            process.signal(&self.0.boot, Signal::CONT);
        }
        loop {
            let left = traces.look().await?;
            let waited = self.0.clock.boot() - begin;
            if left.is_empty() {
                return Ok(first.into_iter().map(|process| process.pid).collect());
            }
            if waited > TOLD + KILLED {
                return Err(StopError::Stuck { pids: left.into_iter().map(|process| process.pid).collect() });
            }
            if waited > TOLD {
                traces.kill(&left);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl Traces {
    async fn look(&self) -> Result<Vec<ProcessId>, StopError> {
        let traces = self.clone();
        let found = tokio::task::spawn_blocking(move || traces.living());
        found.await.map_err(|error| StopError::Unseen(error.to_string()))
    }

    fn living(&self) -> Vec<ProcessId> {
        let (boot, own) = (&self.boot, std::process::id());
        let mut found = BTreeMap::new();
        let grouped = self.cgroup.as_ref().map(Cgroup::pids).unwrap_or_default();
        let grouped = grouped.into_iter().filter_map(process::Stat::of).filter(process::Stat::is_alive);
        for stat in process::marked(&self.mark).into_iter().chain(grouped) {
            found.insert(stat.pid, stat.id(boot));
        }
        let command = self.command.iter().filter(|command| command.look(boot).is_present());
        found.extend(command.map(|command| (command.pid, command.clone())));
        for pid in found.keys().copied().collect::<Vec<_>>() {
            found.extend(process::descendants(pid).into_iter().map(|stat| (stat.pid, stat.id(boot))));
        }
        found.remove(&own);
        found.into_values().collect()
    }

    fn kill(&self, left: &[ProcessId]) {
        if let Some(cgroup) = &self.cgroup {
            // What the kernel would not do at once is done one by one.
            let _ = cgroup.kill();
        }
        for process in left {
            process.signal(&self.boot, Signal::KILL);
        }
    }
}
