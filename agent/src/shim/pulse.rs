//! Signs of life that the supervisor is not told of and has to look for: the heartbeat's file and the time that the tree
//! used of processors. It looks when a limit is reached and never else, so that an idle run costs nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use drover_daemon::clock::Clock;

use super::ending::Sign;
use super::tree::Tree;

#[derive(Debug)]
pub(super) struct Pulse {
    heartbeat: PathBuf,
    /// The file's time as it was seen last.
    touched: Option<Touched>,
    used: Duration,
    looked: Duration,
}

/// Seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touched(i64, i64);

/// What a waiting program uses by the way: timers, polling. Work is more than both.
const LITTLE: Duration = Duration::from_millis(50);
const PART: u32 = 100;
/// The file's time and the clock may differ by so much.
const SKEW: Duration = Duration::from_secs(1);

impl Pulse {
    /// Before the command begins, so that nothing of it is missed.
    pub(super) fn new(heartbeat: PathBuf, now: Duration) -> Self {
        Self { touched: touched(&heartbeat), heartbeat, used: Duration::ZERO, looked: now }
    }

    /// The signs since the last look, with their times.
    pub(super) fn look(
        &mut self,
        tree: &Tree,
        clock: &Clock,
        now: Duration,
    ) -> [Option<(Sign, Duration)>; 2] {
        let signs = [
            self.look_at_heartbeat(clock.wall_millis(), now).map(|at| (Sign::Touch, at)),
            self.look_at_processors(tree.cpu_time(), now).map(|at| (Sign::Cpu, at)),
        ];
        self.looked = now;
        signs
    }

    /// Only another time than before is a touch, whatever it says. It is on the wall clock: one that lies before the last
    /// look or in the future was stamped by a clock that was set, and counts as of now.
    fn look_at_heartbeat(&mut self, wall_millis: i64, now: Duration) -> Option<Duration> {
        let found = touched(&self.heartbeat).filter(|found| Some(*found) != self.touched)?;
        self.touched = Some(found);
        let age = wall_millis.saturating_sub(found.millis());
        let at = u64::try_from(age).ok().and_then(|age| now.checked_sub(Duration::from_millis(age)));
        Some(at.filter(|at| *at + SKEW >= self.looked).map_or(now, |at| at.max(self.looked)))
    }

    /// When in the time between it worked is not known: it counts as of now.
    fn look_at_processors(&mut self, used: Duration, now: Duration) -> Option<Duration> {
        let more = used.saturating_sub(self.used);
        self.used = used;
        let little = LITTLE.max(now.saturating_sub(self.looked) / PART);
        (more > little).then_some(now)
    }
}

impl Touched {
    fn millis(self) -> i64 {
        self.0.saturating_mul(1_000).saturating_add(self.1 / 1_000_000)
    }
}

fn touched(heartbeat: &PathBuf) -> Option<Touched> {
    let found = fs::symlink_metadata(heartbeat).ok()?;
    Some(Touched(found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A pulse whose last look was at 100 s.
    fn pulse() -> (tempfile::TempDir, Pulse) {
        let dir = tempfile::tempdir().unwrap();
        let heartbeat = dir.path().join("heartbeat");
        fs::write(&heartbeat, "").unwrap();
        stamp(&heartbeat, 1_000);
        (dir, Pulse::new(heartbeat, s(100)))
    }

    fn stamp(heartbeat: &PathBuf, seconds: u64) {
        let file = fs::File::options().write(true).open(heartbeat).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + s(seconds)).unwrap();
    }

    #[test]
    fn a_touch_counts_as_of_its_time_and_once() {
        let (_dir, mut pulse) = pulse();
        assert_eq!(pulse.look_at_heartbeat(1_060_000, s(160)), None);
        stamp(&pulse.heartbeat.clone(), 1_040);
        assert_eq!(pulse.look_at_heartbeat(1_060_000, s(160)), Some(s(140)));
        assert_eq!(pulse.look_at_heartbeat(1_061_000, s(161)), None);
    }

    #[test]
    fn a_touch_counts_whatever_became_of_the_wall_clock() {
        // When it was stamped, the wall's time now, and what it counts as, 60 s after the last look.
        let table = [
            (5_000, 1_060_000, s(160)),
            (1_040, 9_999_000, s(160)),
            (990, 1_060_000, s(160)),
            (999, 1_060_000, s(100)),
        ];
        for (stamped, wall, expected) in table {
            let (_dir, mut pulse) = pulse();
            stamp(&pulse.heartbeat.clone(), stamped);
            assert_eq!(pulse.look_at_heartbeat(wall, s(160)), Some(expected), "{stamped} at {wall}");
        }
    }

    #[test]
    fn a_heartbeat_that_was_taken_away_is_no_sign() {
        let (_dir, mut pulse) = pulse();
        fs::remove_file(&pulse.heartbeat).unwrap();
        assert_eq!(pulse.look_at_heartbeat(1_060_000, s(160)), None);
    }

    #[test]
    fn work_counts_and_what_a_waiting_program_uses_does_not() {
        let millis = Duration::from_millis;
        let table = [(1, 50, false), (1, 51, true), (60, 600, false), (60, 601, true)];
        for (seconds, used, is_sign) in table {
            let (_dir, mut pulse) = pulse();
            let now = s(100 + seconds);
            assert_eq!(
                pulse.look_at_processors(millis(used), now).is_some(),
                is_sign,
                "{used} ms in {seconds} s"
            );
            assert_eq!(pulse.look_at_processors(millis(used), now), None, "it is counted once");
        }
    }
}
