//! When a run is over and how it is brought to an end: asked first, then told, then killed. Pure; whoever watches the
//! run tells the time (since boot) and does what comes out.
//!
//! The command alone is asked. Once it has ended, or its grace is over, everything that came of it is told to end, and
//! five seconds later it is killed, again and again until nothing is left.

mod deadline;

use std::time::Duration;

use drover_domain::outcome::{Cause, Limit, Outcome};

use super::record::{Limits, Signs};
use deadline::{Deadline, Due};

const TOLD: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);
/// What is left so long after it was killed is stuck.
const STUCK: Duration = Duration::from_secs(5);
/// A node that is given up has no time for a long farewell: somebody else waits to go on.
const LONGEST_FENCED_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Ending {
    grace: Duration,
    phase: Phase,
    /// Why it was ended; none: it ended by itself.
    because: Option<Outcome>,
    deadline: Option<Deadline>,
    idle: Option<Duration>,
    /// What keeps it from being idle, and what moves its deadline.
    counts: (Signs, Signs),
    /// The last sign that keeps it from being idle; its beginning is one.
    active: Duration,
    /// The last sign that moves its deadline.
    sign: Option<Duration>,
    /// Until when the node may run it.
    fence: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Asked { until: Duration },
    Told { until: Duration },
    Killed { again: Duration, stuck: Duration },
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Touch,
    Output,
    Cpu,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Tell who waits that the deadline was moved.
    Announce,
    /// Ask the command to end.
    Ask,
    /// Tell everything to end.
    Tell,
    Kill,
}

impl Sign {
    fn counts_among(self, signs: Signs) -> bool {
        match self {
            Self::Touch => signs.touch,
            Self::Output => signs.output,
            Self::Cpu => signs.cpu,
        }
    }
}

impl Ending {
    pub(super) fn new(limits: &Limits, now: Duration) -> Self {
        Self {
            grace: limits.grace(),
            phase: Phase::Running,
            because: None,
            deadline: limits.timeout().map(|timeout| Deadline::new(timeout, limits, now)),
            idle: limits.idle(),
            counts: (limits.idle_signs, limits.extend_signs),
            active: now,
            sign: None,
            fence: None,
        }
    }

    /// The command was seen to do something.
    pub(super) fn saw(&mut self, sign: Sign, at: Duration) {
        let (idle, extend) = self.counts;
        if sign.counts_among(idle) {
            self.active = self.active.max(at);
        }
        if sign.counts_among(extend) {
            self.sign = self.sign.max(Some(at));
        }
    }

    /// Whether a limit is reached that a sign of life puts off: time to look for one.
    pub(super) fn asks_for_signs(&self, now: Duration) -> bool {
        self.phase == Phase::Running && (self.is_idle(now) || self.deadline_has_come(now))
    }

    /// The node may run it until then. An earlier time than is known changes nothing. Returns what holds.
    pub(super) fn fence(&mut self, until: Duration) -> Duration {
        let until = self.fence.map_or(until, |known| known.max(until));
        self.fence = Some(until);
        until
    }

    /// So much was granted in all, in so many grants. Whether the deadline moved.
    pub(super) fn grant(&mut self, total: Duration, count: u32) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.grant(total, count))
    }

    /// When its time is over, as it stands.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadline.as_ref().map(Deadline::at)
    }

    /// How often its deadline was moved.
    pub(super) fn extensions(&self) -> u32 {
        self.deadline.as_ref().map_or(0, Deadline::extensions)
    }

    /// Ends the run for this reason, unless it is being ended already; asked again, a shorter grace counts.
    pub(super) fn end(&mut self, because: Outcome, grace: Duration, now: Duration) -> Option<Act> {
        match self.phase {
            Phase::Running => {
                self.because = Some(because);
                self.phase = Phase::Asked { until: now.saturating_add(grace) };
                Some(Act::Ask)
            }
            Phase::Asked { until } => {
                self.phase = Phase::Asked { until: until.min(now.saturating_add(grace)) };
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
            Phase::Running => self.watch_limits(now),
            Phase::Asked { until } if !command_lives || self.or_fenced(until) <= now => Some(self.tell(now)),
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
            Phase::Asked { .. } | Phase::Told { .. } | Phase::Killed { .. } => None,
        }
    }

    /// When to ask again at the latest.
    pub(super) fn next(&self) -> Option<Duration> {
        match self.phase {
            Phase::Running => self.deadline().into_iter().chain(self.idle_at()).chain(self.fence).min(),
            Phase::Asked { until } => Some(self.or_fenced(until)),
            Phase::Told { until } => Some(until),
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

    /// Whether it was ended because the node's time for it was over.
    pub(super) fn was_fenced(&self) -> bool {
        self.because == Some(Outcome::Interrupted(Cause::Agent))
    }

    fn watch_limits(&mut self, now: Duration) -> Option<Act> {
        if self.fence.is_some_and(|fence| fence <= now) {
            return self.end(Outcome::Interrupted(Cause::Agent), self.fenced_grace(), now);
        }
        let sign = self.sign;
        let due = self.deadline.as_mut().filter(|deadline| deadline.at() <= now);
        match due.map(|deadline| deadline.come(sign, now)) {
            Some(Due::Moved) => Some(Act::Announce),
            Some(Due::Over(limit)) => self.end(Outcome::TimedOut(limit), self.grace, now),
            None if self.is_idle(now) => self.end(Outcome::TimedOut(Limit::Idle), self.grace, now),
            None => None,
        }
    }

    fn deadline_has_come(&self, now: Duration) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    fn is_idle(&self, now: Duration) -> bool {
        self.idle_at().is_some_and(|at| at <= now)
    }

    fn idle_at(&self) -> Option<Duration> {
        self.idle.map(|idle| self.active.saturating_add(idle))
    }

    /// Whoever ordered the end, and however long ago: behind the fence it has no more than this.
    fn or_fenced(&self, until: Duration) -> Duration {
        self.fence.map_or(until, |fence| until.min(fence.saturating_add(self.fenced_grace())))
    }

    fn fenced_grace(&self) -> Duration {
        self.grace.min(LONGEST_FENCED_GRACE)
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
        let (timeout_ms, idle_ms) = (timeout.map(millis), idle.map(millis));
        held(Limits { timeout_ms, idle_ms, ..Limits::default() })
    }

    fn held(limits: Limits) -> Ending {
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
        ending.saw(Sign::Output, s(104));
        assert_eq!((ending.step(s(105), true), ending.next()), (None, Some(s(109))));
        ending.saw(Sign::Output, s(158));
        assert_eq!(ending.next(), Some(s(160)));
        assert_eq!(ending.step(s(160), true), Some(Act::Ask));
        assert_eq!(ending.outcome(None, None), Outcome::TimedOut(Limit::Run));
    }

    #[test]
    fn a_run_that_does_nothing_is_idle() {
        let mut ending = ending(None, Some(5));
        assert!(!ending.asks_for_signs(s(104)) && ending.asks_for_signs(s(105)));
        assert_eq!(ending.step(s(105), true), Some(Act::Ask));
        assert!(!ending.asks_for_signs(s(106)));
        assert_eq!(ending.outcome(None, None), Outcome::TimedOut(Limit::Idle));
    }

    /// The times of touches, the limits, and what must come of it: when it was over, why, and how often it was moved.
    fn lives(touches: &[u64], limits: Limits) -> (u64, Outcome, u32) {
        let mut ending = held(limits);
        for second in 101..10_000 {
            if touches.contains(&second) {
                ending.saw(Sign::Touch, s(second));
            }
            while let Some(act) = ending.step(s(second), true) {
                if act == Act::Ask {
                    return (second, ending.outcome(None, None), ending.extensions());
                }
            }
        }
        panic!("it lives for ever");
    }

    #[test]
    fn touches_move_the_deadline_to_a_timeout_after_the_last_one_up_to_the_cap() {
        let ten = Limits { timeout_ms: Some(10_000), ..Limits::default() };
        let number = |most| Limits { max_extensions: most, ..ten };
        let total = |seconds: u64| Limits { max_extension_ms: Some(seconds * 1_000), ..ten };
        let run = Outcome::TimedOut(Limit::Run);
        let cap = Outcome::TimedOut(Limit::Cap);
        let always: Vec<u64> = (101..10_000).collect();
        let table = [
            ("no sign", vec![], ten, (110, run.clone(), 0)),
            ("one early sign", vec![103], ten, (113, run.clone(), 1)),
            ("signs that cease", vec![103, 108, 112], ten, (122, run.clone(), 2)),
            ("a sign at the last moment", vec![110], ten, (120, run.clone(), 1)),
            ("the usual number", always.clone(), ten, (210, cap.clone(), 10)),
            ("another number", always.clone(), number(Some(2)), (130, cap.clone(), 2)),
            ("no extension at all", always.clone(), number(Some(0)), (110, cap.clone(), 0)),
            ("the total", always.clone(), total(25), (135, cap.clone(), 3)),
            ("the total cuts the last one short", vec![109, 118], total(3), (113, cap.clone(), 1)),
            (
                "the total is not the number",
                always,
                Limits { max_extensions: None, ..total(300) },
                (410, cap, 30),
            ),
            ("signs cease before the total", vec![103], total(25), (113, run, 1)),
        ];
        for (what, touches, limits, expected) in table {
            assert_eq!(lives(&touches, limits), expected, "{what}");
        }
    }

    #[test]
    fn only_signs_that_count_move_a_limit() {
        let none = Signs { touch: false, output: false, cpu: false };
        let only = |sign| match sign {
            Sign::Touch => Signs { touch: true, ..none },
            Sign::Output => Signs { output: true, ..none },
            Sign::Cpu => Signs { cpu: true, ..none },
        };
        let all = [Sign::Touch, Sign::Output, Sign::Cpu];
        for (counting, given) in all.into_iter().flat_map(|one| all.map(|other| (one, other))) {
            let both = Limits { timeout_ms: Some(10_000), idle_ms: Some(6_000), ..Limits::default() };
            let mut ending = held(Limits { idle_signs: only(counting), extend_signs: none, ..both });
            ending.saw(given, s(105));
            let counts = counting == given;
            assert_eq!(ending.next(), Some(s(if counts { 110 } else { 106 })), "{given:?} of {counting:?}");
            let mut ending = held(Limits { idle_ms: None, extend_signs: only(counting), ..both });
            ending.saw(given, s(105));
            let act = ending.step(s(110), true);
            assert_eq!(act, Some(if counts { Act::Announce } else { Act::Ask }), "{given:?} of {counting:?}");
        }
    }

    #[test]
    fn a_grant_moves_the_deadline_once_and_an_older_one_changes_nothing() {
        let mut ending = ending(Some(10), None);
        let table = [
            (s(5), 1, true, 115, 1),
            (s(5), 1, false, 115, 1),
            (s(20), 3, true, 130, 3),
            (s(5), 1, false, 130, 3),
        ];
        for (total, count, moved, at, extensions) in table {
            assert_eq!(ending.grant(total, count), moved, "{total:?}");
            assert_eq!((ending.deadline(), ending.extensions()), (Some(s(at)), extensions));
        }
        assert_eq!(ending.step(s(130), true), Some(Act::Ask));
        assert_eq!(ending.outcome(None, None), Outcome::TimedOut(Limit::Run));
    }

    #[test]
    fn a_grant_counts_among_the_extensions_goes_beyond_the_total_and_takes_nothing_away() {
        let mut number =
            held(Limits { timeout_ms: Some(10_000), max_extensions: Some(1), ..Limits::default() });
        number.grant(s(5), 1);
        number.saw(Sign::Touch, s(114));
        assert_eq!(number.step(s(115), true), Some(Act::Ask));
        assert_eq!(number.outcome(None, None), Outcome::TimedOut(Limit::Cap));
        let mut total =
            held(Limits { timeout_ms: Some(10_000), max_extension_ms: Some(2_000), ..Limits::default() });
        total.saw(Sign::Touch, s(109));
        total.grant(s(5), 1);
        assert_eq!((total.step(s(115), true), total.deadline()), (Some(Act::Announce), Some(s(117))));
        let mut early = ending(Some(10), None);
        early.saw(Sign::Touch, s(108));
        early.grant(s(1), 1);
        assert_eq!((early.step(s(111), true), early.deadline()), (Some(Act::Announce), Some(s(118))));
    }

    #[test]
    fn a_run_without_a_timeout_has_nothing_to_grant() {
        let mut ending = ending(None, None);
        assert!(!ending.grant(s(5), 1));
        assert_eq!((ending.deadline(), ending.extensions(), ending.next()), (None, 0, None));
    }

    #[test]
    fn a_fence_that_passes_ends_the_run_and_a_later_one_puts_that_off() {
        let mut ending = ending(Some(1_000), None);
        assert_eq!(ending.fence(s(110)), s(110));
        assert_eq!((ending.next(), ending.step(s(109), true)), (Some(s(110)), None));
        assert_eq!(ending.fence(s(120)), s(120));
        // Said late: it was overtaken.
        assert_eq!(ending.fence(s(115)), s(120));
        assert_eq!(ending.step(s(119), true), None);
        assert_eq!(ending.step(s(120), true), Some(Act::Ask));
        assert!(ending.was_fenced());
        assert_eq!(ending.outcome(None, Some(15)), Outcome::Interrupted(Cause::Agent));
        assert_eq!(ending.next(), Some(s(130)));
    }

    #[test]
    fn behind_the_fence_nobody_has_a_long_grace() {
        let mut long = held(Limits { grace_ms: 3_600_000, ..Limits::default() });
        long.fence(s(110));
        assert_eq!((long.step(s(110), true), long.next()), (Some(Act::Ask), Some(s(120))));
        // Whoever stopped it before, and whoever slept over the fence.
        let mut stopped = ending(None, None);
        stopped.end(me(), s(3_600), s(101));
        stopped.fence(s(110));
        assert_eq!((stopped.next(), stopped.step(s(120), true)), (Some(s(120)), Some(Act::Tell)));
        assert_eq!((stopped.outcome(None, None), stopped.was_fenced()), (me(), false));
        let mut slept = ending(None, None);
        slept.fence(s(110));
        assert_eq!(slept.step(s(500), true), Some(Act::Ask));
        assert_eq!(slept.step(s(500), true), Some(Act::Tell));
    }
}
