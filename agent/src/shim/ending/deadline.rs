//! The time a run has: when it is over, what moves that, and how far. Pure; it is told the time since boot.
//!
//! The deadline moves only when it comes: a run that gave a sign of life less than a timeout ago goes on until a timeout
//! after it, so often and so far as its limits say. A person's grant moves it at once, and is held up by nothing.

use std::time::Duration;

use drover_domain::outcome::Limit;

use crate::shim::record::Limits;

#[derive(Debug)]
pub(super) struct Deadline {
    timeout: Duration,
    at: Duration,
    /// Signs move it no further; none: wherever they do.
    furthest: Option<Duration>,
    most: Option<u32>,
    /// How often signs moved it.
    moved: u32,
    /// Everything that was ever granted, and in how many grants.
    granted: (Duration, u32),
}

/// What it means that the deadline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Moved,
    Over(Limit),
}

impl Deadline {
    pub(super) fn new(timeout: Duration, limits: &Limits, now: Duration) -> Self {
        let at = now.saturating_add(timeout);
        Self {
            timeout,
            at,
            furthest: limits.max_extension().map(|most| at.saturating_add(most)),
            most: limits.max_extensions,
            moved: 0,
            granted: (Duration::ZERO, 0),
        }
    }

    pub(super) fn at(&self) -> Duration {
        self.at
    }

    /// How often it was moved, by whomever.
    pub(super) fn extensions(&self) -> u32 {
        self.moved.saturating_add(self.granted.1)
    }

    /// It has come, and this is the last sign of life that counts. A sign that is as old as the timeout moves nothing: the
    /// deadline stands where the one before put it, or was not looked at for as long.
    pub(super) fn come(&mut self, sign: Option<Duration>, now: Duration) -> Due {
        let wanted = sign.map(|sign| sign.saturating_add(self.timeout)).filter(|wanted| *wanted > now);
        let Some(wanted) = wanted else { return Due::Over(Limit::Run) };
        let is_used_up = self.most.is_some_and(|most| most <= self.extensions());
        if is_used_up || self.furthest.is_some_and(|furthest| furthest <= now) {
            return Due::Over(Limit::Cap);
        }
        self.at = self.furthest.map_or(wanted, |furthest| furthest.min(wanted));
        self.moved += 1;
        Due::Moved
    }

    /// So much was granted in all, in so many grants; what is known of it changes nothing. Whether it moved.
    pub(super) fn grant(&mut self, total: Duration, count: u32) -> bool {
        let (known, grants) = self.granted;
        let more = total.saturating_sub(known);
        self.granted = (known + more, grants.max(count));
        self.at = self.at.saturating_add(more);
        self.furthest = self.furthest.map(|furthest| furthest.saturating_add(more));
        (known, grants) != self.granted
    }
}
