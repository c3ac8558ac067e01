//! What a run used. Its control group measures that where controllers are; else the kernel counts processors and memory of
//! everything that was waited for, and processes are counted here: when the supervisor is awake anyway, and else at times
//! that get rarer the longer the run lasts, so that an idle run costs nothing to speak of.

use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_domain::outcome::Usage;

use super::tree::Tree;
use crate::cgroup::Cgroup;
use crate::sys;

#[derive(Debug)]
pub(super) struct Meter {
    /// The most processes that were seen at once.
    most: u32,
    /// From when on one that is awake may count.
    again: Duration,
    /// When it counts at the latest, and how much later next time.
    due: Duration,
    pause: Duration,
}

const FIRST: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// Counting takes no more of the time than one part in so many.
const PART: u32 = 1_000;

impl Meter {
    pub(super) fn new(now: Duration) -> Self {
        Self { most: 0, again: now, due: now + FIRST, pause: FIRST }
    }

    /// When to count at the latest.
    pub(super) fn next(&self) -> Duration {
        self.due
    }

    /// Counts, if it is time to.
    pub(super) fn look(&mut self, tree: &Tree, clock: &Clock, now: Duration) {
        if now < self.again.min(self.due) {
            return;
        }
        self.saw(tree.count());
        let cost = clock.boot().saturating_sub(now);
        self.again = now + SECOND.max(cost * PART);
        if self.due <= now {
            self.pause = self.pause.saturating_mul(2);
            self.due = now.saturating_add(self.pause);
        }
    }

    /// So many were there at once.
    pub(super) fn saw(&mut self, processes: usize) {
        self.most = self.most.max(u32::try_from(processes).unwrap_or(u32::MAX));
    }

    /// At the end, when all of it was waited for.
    pub(super) fn usage(&self, tree: &Tree, was_started: bool) -> Usage {
        let measured = tree.cgroup.as_ref().map(Cgroup::usage).unwrap_or_default();
        let (time, peak) = sys::used_by_children().unzip();
        let counted = was_started.then(|| self.most.max(1));
        Usage {
            peak_memory_bytes: measured.peak_memory_bytes.or(peak),
            cpu_time: measured.cpu_time.or(time),
            peak_processes: measured.peak_processes.or(counted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_run_is_counted_more_and_more_rarely() {
        let clock = Clock::manual(0);
        let tree = Tree::new(None, "this".into());
        let mut meter = Meter::new(clock.boot());
        let mut counts = 0;
        while clock.boot() < Duration::from_secs(24 * 3_600) && counts < 100 {
            let now = clock.boot();
            meter.look(&tree, &clock, now);
            counts += 1;
            clock.advance(meter.next() - now);
        }
        assert!(counts <= 22, "{counts} in a day");
    }

    #[test]
    fn one_that_is_awake_all_the_time_counts_once_a_second() {
        let clock = Clock::manual(0);
        let tree = Tree::new(None, "this".into());
        let mut meter = Meter::new(clock.boot());
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut seen = Vec::new();
        for _ in 0..30 {
            meter.most = 0;
            meter.look(&tree, &clock, clock.boot());
            seen.push(meter.most > 0);
            clock.advance(Duration::from_millis(100));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // At once, at the three times that come by themselves in the first second, and then each second.
        let at: Vec<_> = (0..30).filter(|tick| seen[*tick]).collect();
        assert_eq!(at, [0, 1, 3, 7, 15, 25], "in tenths of a second");
    }
}
