//! When to try again: exponential backoff with full jitter, capped. Chance is an argument.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// Between restarts of a run that failed.
    pub const RESTART: Self = Self { first: Duration::from_secs(1), longest: Duration::from_secs(300) };
    /// Between attempts to reach the controller.
    pub const RECONNECT: Self = Self { first: Duration::from_millis(200), longest: Duration::from_secs(10) };

    /// The longest wait before attempt `attempt` (the first is 0): doubles up to the cap.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).filter(|factor| *factor > 0).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// The wait with jitter: `chance` of 0..=255 picks from the upper half of the ceiling.
    pub fn delay(&self, attempt: u32, chance: u8) -> Duration {
        let ceiling = self.ceiling(attempt);
        ceiling / 2 + (ceiling / 2).mul_f64(f64::from(chance) / 255.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_stays_between_half_its_ceiling_and_the_cap(attempt: u32, chance: u8) {
            let delay = Backoff::RESTART.delay(attempt, chance);
            prop_assert!(delay <= Backoff::RESTART.longest);
            prop_assert!(delay >= Backoff::RESTART.ceiling(attempt) / 2);
            prop_assert!(Backoff::RESTART.ceiling(attempt) <= Backoff::RESTART.ceiling(attempt.saturating_add(1)));
        }
    }
}
