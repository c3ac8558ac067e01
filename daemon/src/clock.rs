//! The one clock. Code that needs the time takes a `Clock`; tests hand in one that they move themselves.
//!
//! Wall time is for display and for stamps; every length of time is measured on the boot clock, which runs on while
//! the machine sleeps and is never set back.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A source of wall and boot time; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    wall_millis: AtomicI64,
    boot_millis: AtomicU64,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(wall_millis: i64) -> Self {
        Self(Source::Manual(Arc::new(Manual {
            wall_millis: AtomicI64::new(wall_millis),
            boot_millis: AtomicU64::new(0),
        })))
    }

    /// Milliseconds since 1970, for stamps.
    pub fn wall_millis(&self) -> i64 {
        match &self.0 {
            Source::System => {
                let now = clock_gettime(ClockId::Realtime);
                now.tv_sec * 1000 + now.tv_nsec / 1_000_000
            }
            Source::Manual(manual) => manual.wall_millis.load(Ordering::SeqCst),
        }
    }

    /// Time since boot, sleep included; only differences mean anything.
    pub fn boot(&self) -> Duration {
        match &self.0 {
            Source::System => {
                let now = clock_gettime(ClockId::Boottime);
                Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
            }
            Source::Manual(manual) => Duration::from_millis(manual.boot_millis.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward. The system clock cannot be moved: the call does nothing to it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            manual.boot_millis.fetch_add(millis, Ordering::SeqCst);
            manual.wall_millis.fetch_add(i64::try_from(millis).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(1_000);
        let other = clock.clone();
        assert_eq!((clock.wall_millis(), clock.boot()), (1_000, Duration::ZERO));
        clock.advance(Duration::from_secs(2));
        assert_eq!((other.wall_millis(), other.boot()), (3_000, Duration::from_secs(2)));
    }

    #[test]
    fn the_boot_clock_never_runs_backwards() {
        let clock = Clock::system();
        let first = clock.boot();
        assert!(clock.boot() >= first);
        assert!(clock.wall_millis() > 1_700_000_000_000);
    }
}
