//! Lease arithmetic: what silence means. Only durations come in; each side measures them on its own boot clock.

use std::time::Duration;

/// The terms of a lease, as the controller hands them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub heartbeat: Duration,
    /// Silence longer than this: unreachable.
    pub lease: Duration,
    /// Silence longer than this: lost, its sessions orphaned.
    pub lost_after: Duration,
}

/// What silence makes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    Heard,
    Unreachable,
    Lost,
}

impl Terms {
    pub const DEFAULT: Self = Self {
        heartbeat: Duration::from_secs(10),
        lease: Duration::from_secs(30),
        lost_after: Duration::from_secs(120),
    };

    /// What a silence of this length means.
    pub fn silence(&self, length: Duration) -> Silence {
        if length > self.lost_after {
            Silence::Lost
        } else if length > self.lease {
            Silence::Unreachable
        } else {
            Silence::Heard
        }
    }

    /// A restarted controller loses no node before this has passed since its start.
    pub fn restart_grace(&self) -> Duration {
        self.lease + Duration::from_secs(300)
    }

    /// Like [`Terms::silence`], for a controller that has been up for `up`: before the grace nobody is lost.
    pub fn silence_since_start(&self, length: Duration, up: Duration) -> Silence {
        match self.silence(length) {
            Silence::Lost if up < self.restart_grace() => Silence::Unreachable,
            other => other,
        }
    }

    /// When an agent that hears nothing must begin to stop its `reschedule` sessions, so that they are gone before
    /// the controller may place them elsewhere: counted from the sending of the last beat that was answered.
    /// `None`: these terms leave no room for a stop, so no session may be rescheduled under them.
    pub fn stop_deadline(&self, stop: Duration) -> Option<Duration> {
        let margin = self.heartbeat;
        self.lost_after.checked_sub(stop + margin).filter(|deadline| *deadline > self.heartbeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: Terms = Terms::DEFAULT;

    #[test]
    fn silence_has_two_thresholds_and_a_grace_after_the_start() {
        let seconds = Duration::from_secs;
        let table = [
            (30, 9_999, Silence::Heard),
            (31, 9_999, Silence::Unreachable),
            (120, 9_999, Silence::Unreachable),
            (121, 9_999, Silence::Lost),
            (121, 10, Silence::Unreachable),
            (400, 329, Silence::Unreachable),
            (400, 330, Silence::Lost),
        ];
        for (silent, up, expected) in table {
            assert_eq!(T.silence_since_start(seconds(silent), seconds(up)), expected, "{silent} {up}");
        }
    }

    proptest! {
        #[test]
        fn an_agent_has_stopped_before_the_controller_may_place_anew(lost in 1_u64..1_000, beat in 1_u64..60, stop in 0_u64..60) {
            let terms = Terms { heartbeat: Duration::from_secs(beat), lease: Duration::from_secs(lost / 2), lost_after: Duration::from_secs(lost) };
            if let Some(deadline) = terms.stop_deadline(Duration::from_secs(stop)) {
                prop_assert!(deadline + Duration::from_secs(stop) < terms.lost_after);
            }
        }
    }
}
