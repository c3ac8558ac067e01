//! Everything that came of the command, wherever it went: what is in the run's control group, and what descends from the
//! supervisor, which takes in every orphan.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_domain::presence::Presence;
use rustix::process::Signal;

use crate::cgroup::Cgroup;
use crate::process::{self, Boot, ProcessId, Stat};
use crate::sys;

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) cgroup: Option<Cgroup>,
    own: u32,
    boot: Boot,
}

/// Looks for newborn processes before it kills.
const ROUNDS: usize = 32;

impl Tree {
    pub(super) fn new(cgroup: Option<Cgroup>, boot: Boot) -> Self {
        let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        Self { cgroup, own, boot }
    }

    /// Tells everything to end; what is stopped is let go on, so that it can. Returns how many processes that were.
    pub(super) fn tell(&self) -> usize {
        let living = self.living();
        for process in &living {
            process.signal(&self.boot, Signal::TERM);
            process.signal(&self.boot, Signal::CONT);
        }
        living.len()
    }

    /// Kills everything. What might still give birth is stopped first.
    pub(super) fn kill(&self) {
        if let Some(cgroup) = &self.cgroup {
            // What the kernel would not do at once is done one by one.
            let _ = cgroup.kill();
        }
        let mut stopped: BTreeMap<u32, ProcessId> = BTreeMap::new();
        for _ in 0..ROUNDS {
            let news: Vec<_> =
                self.living().into_iter().filter(|found| stopped.get(&found.pid) != Some(found)).collect();
            if news.is_empty() {
                break;
            }
            for process in news {
                if let Presence::Present(()) = process.signal(&self.boot, Signal::STOP) {
                    stopped.insert(process.pid, process);
                }
            }
        }
        for process in self.living() {
            process.signal(&self.boot, Signal::KILL);
        }
    }

    /// Whether a process is in the control group, that is not ours to wait for too.
    pub(super) fn is_populated(&self) -> bool {
        self.cgroup.as_ref().is_some_and(Cgroup::is_populated)
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.living().into_iter().map(|process| process.pid).collect()
    }

    /// How many processes there are; a control group has all of them and tells them at little cost.
    pub(super) fn count(&self) -> usize {
        match &self.cgroup {
            Some(cgroup) => cgroup.pids().len(),
            None => process::descendants(self.own).len(),
        }
    }

    /// What all of it used of processors, ended or not.
    pub(super) fn cpu_time(&self) -> Duration {
        self.cgroup.as_ref().and_then(Cgroup::cpu_time).unwrap_or_else(|| {
            let waited_for = sys::used_by_children().map_or(Duration::ZERO, |(time, _)| time);
            waited_for + process::time_of_descendants(self.own)
        })
    }

    fn living(&self) -> Vec<ProcessId> {
        let mut found: BTreeMap<u32, Stat> =
            process::descendants(self.own).into_iter().map(|stat| (stat.pid, stat)).collect();
        for pid in self.cgroup.as_ref().map(Cgroup::pids).unwrap_or_default() {
            found.extend(Stat::of(pid).filter(Stat::is_alive).map(|stat| (pid, stat)));
        }
        found.into_values().map(|stat| stat.id(&self.boot)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_ended_and_was_waited_for_is_in_the_time_of_the_tree() {
        let tree = Tree::new(None, "this".into());
        let work = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", work]).status().unwrap().success());
        let used = tree.cpu_time();
        assert!(used > Duration::from_millis(10), "{used:?}");
    }
}
