//! When a run is over and how it is brought to an end: asked first, then told, then killed. Pure; whoever watches the
//! run tells the time (since boot) and does what comes out.
//!
//! The command alone is asked. Once it has ended, or its grace is over, everything that came of it is told to end, and
//! five seconds later it is killed, again and again until nothing is left.

use std::time::Duration;

use drover_domain::outcome::{Limit, Outcome};

use super::record::Limits;

const TOLD: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);
/// What is left so long after it was killed is stuck.
const STUCK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Ending {
    grace: Duration,
    phase: Phase,
    /// Why it was ended; none: it ended by itself.
    because: Option<Outcome>,
    deadline: Option<Duration>,
    idle: Option<Duration>,
    active: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Asked { until: Duration },
    Told { until: Duration },
    Killed { again: Duration, stuck: Duration },
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Ask the command to end.
    Ask,
    /// Tell everything to end.
    Tell,
    Kill,
}

impl Ending {
    pub(super) fn new(limits: &Limits, now: Duration) -> Self {
        Self {
            grace: limits.grace(),
            phase: Phase::Running,
            because: None,
            deadline: limits.timeout().map(|timeout| now + timeout),
            idle: limits.idle(),
            active: now,
        }
    }

    /// The command was seen to do something.
    pub(super) fn touch(&mut self, at: Duration) {
        self.active = self.active.max(at);
    }

    /// Whether the run looks idle for longer than it may.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.phase == Phase::Running && self.idle.is_some_and(|idle| self.active + idle <= now)
    }

    /// Ends the run for this reason, unless it is being ended already; asked again, a shorter grace counts.
    pub(super) fn end(&mut self, because: Outcome, grace: Duration, now: Duration) -> Option<Act> {
        match self.phase {
            Phase::Running => {
                self.because = Some(because);
                self.phase = Phase::Asked { until: now + grace };
                Some(Act::Ask)
            }
            Phase::Asked { until } => {
                self.phase = Phase::Asked { until: until.min(now + grace) };
                None
            }
            Phase::Told { .. } | Phase::Killed { .. } => None,
        }
    }

    /// Goes straight to killing.
    pub(super) fn break_off(&mut self, because: Outcome, now: Duration) {
        self.because.get_or_insert(because);
        self.phase = Phase::Killed { again: now, stuck: now + STUCK };
    }

    /// What to do now. To be asked again until there is nothing.
    pub(super) fn step(&mut self, now: Duration, command_lives: bool) -> Option<Act> {
        match self.phase {
            Phase::Running if !command_lives => Some(self.tell(now)),
            Phase::Running if self.deadline.is_some_and(|deadline| deadline <= now) => {
                self.end(Outcome::TimedOut(Limit::Run), self.grace, now)
            }
            Phase::Running if self.is_idle(now) => self.end(Outcome::TimedOut(Limit::Idle), self.grace, now),
            Phase::Asked { until } if !command_lives || until <= now => Some(self.tell(now)),
            Phase::Told { until } if until <= now => {
                self.phase = Phase::Killed { again: now + AGAIN, stuck: now + STUCK };
                Some(Act::Kill)
            }
            Phase::Killed { again, stuck } if again <= now => {
                // A stuck one is tried less often.
                let pause = if stuck <= now { AGAIN * 10 } else { AGAIN };
                self.phase = Phase::Killed { again: now + pause, stuck };
                Some(Act::Kill)
            }
            Phase::Running | Phase::Asked { .. } | Phase::Told { .. } | Phase::Killed { .. } => None,
        }
    }

    /// When to ask again at the latest.
    pub(super) fn next(&self) -> Option<Duration> {
        match self.phase {
            Phase::Running => {
                let idle = self.idle.map(|idle| self.active + idle);
                self.deadline.into_iter().chain(idle).min()
            }
            Phase::Asked { until } | Phase::Told { until } => Some(until),
            Phase::Killed { again, .. } => Some(again),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    pub(super) fn is_stuck(&self, now: Duration) -> bool {
        matches!(self.phase, Phase::Killed { stuck, .. } if stuck <= now)
    }

    /// How it ended, whose command ended like this.
    pub(super) fn outcome(&self, code: Option<i32>, signal: Option<i32>) -> Outcome {
        self.because.clone().unwrap_or_else(|| Outcome::of_exit(code, signal))
    }

    fn tell(&mut self, now: Duration) -> Act {
        self.phase = Phase::Told { until: now + TOLD };
        Act::Tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ending(timeout: Option<u64>, idle: Option<u64>) -> Ending {
        let millis = |seconds: u64| seconds * 1_000;
        let limits = Limits {
            timeout_ms: timeout.map(millis),
            idle_ms: idle.map(millis),
            grace_ms: 10_000,
            log_bytes: 0,
        };
        Ending::new(&limits, s(100))
    }

    fn me() -> Outcome {
        Outcome::Stopped("me".into())
    }

    #[test]
    fn a_stop_asks_then_tells_then_kills_and_says_what_is_stuck() {
        let mut ending = ending(None, None);
        assert_eq!((ending.step(s(200), true), ending.next()), (None, None));
        assert_eq!(ending.end(me(), s(10), s(200)), Some(Act::Ask));
        assert_eq!((ending.step(s(209), true), ending.next()), (None, Some(s(210))));
        assert_eq!(ending.step(s(210), true), Some(Act::Tell));
        assert_eq!((ending.step(s(214), true), ending.next()), (None, Some(s(215))));
        assert_eq!(ending.step(s(215), true), Some(Act::Kill));
        assert_eq!(ending.step(s(215), true), None);
        assert_eq!(ending.step(s(216), true), Some(Act::Kill));
        assert!(!ending.is_stuck(s(219)));
        assert!(ending.is_stuck(s(220)));
        assert_eq!(ending.outcome(None, Some(9)), me());
    }

    #[test]
    fn a_command_that_ends_leaves_nobody_behind() {
        let mut ending = ending(Some(5), None);
        assert_eq!(ending.step(s(101), false), Some(Act::Tell));
        assert_eq!(ending.step(s(106), false), Some(Act::Kill));
        assert_eq!(ending.outcome(Some(3), None), Outcome::Failed(3));
    }

    #[test]
    fn what_is_asked_and_ends_is_not_waited_for() {
        let mut ending = ending(None, None);
        ending.end(me(), s(10), s(100));
        assert_eq!(ending.step(s(101), false), Some(Act::Tell));
    }

    #[test]
    fn the_first_reason_holds_and_a_shorter_grace_counts() {
        let mut ending = ending(Some(5), None);
        assert_eq!(ending.step(s(105), true), Some(Act::Ask));
        assert_eq!(ending.end(me(), s(1), s(106)), None);
        assert_eq!(ending.next(), Some(s(107)));
        assert_eq!(ending.outcome(Some(0), None), Outcome::TimedOut(Limit::Run));
    }

    #[test]
    fn whatever_it_does_puts_the_idle_limit_off_and_not_the_other() {
        let mut ending = ending(Some(60), Some(5));
        assert_eq!(ending.next(), Some(s(105)));
        ending.touch(s(104));
        assert_eq!((ending.step(s(105), true), ending.next()), (None, Some(s(109))));
        ending.touch(s(158));
        assert_eq!(ending.next(), Some(s(160)));
        assert_eq!(ending.step(s(160), true), Some(Act::Ask));
        assert_eq!(ending.outcome(None, None), Outcome::TimedOut(Limit::Run));
    }

    #[test]
    fn a_run_that_does_nothing_is_idle() {
        let mut ending = ending(None, Some(5));
        assert!(!ending.is_idle(s(104)) && ending.is_idle(s(105)));
        assert_eq!(ending.step(s(105), true), Some(Act::Ask));
        assert!(!ending.is_idle(s(106)));
        assert_eq!(ending.outcome(None, None), Outcome::TimedOut(Limit::Idle));
    }
}
