//! Stamps and lengths. A `Timestamp` is for display and for waits that may be off by a clock's jump; leases are
//! measured by whoever holds the boot clock and come here as durations.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970, on the clock of whoever made it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    /// `self + length`, at most the last stamp there is.
    pub fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(length.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long `earlier` was before `self`; zero if it was not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends_instead_of_wrapping() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last.after(Duration::from_secs(1)), last);
        assert_eq!(Timestamp::from_millis(5).since(last), Duration::ZERO);
        assert_eq!(
            Timestamp::from_millis(3_000).since(Timestamp::from_millis(1_000)),
            Duration::from_secs(2)
        );
    }
}
