//! How long a git operation is tried again while something is in the way that may pass: somebody's lock as long as the
//! operation may take; the network a few times. Whoever waits says so, and in the end for whom or how often.

use std::path::Path;
use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_domain::retry::Backoff;

use super::failure::{Cause, Failure};
use super::holders;
use crate::chance;

/// Between looks whether a lock is free.
const LOCK: Backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_secs(2) };
/// Between attempts to reach a remote.
const NETWORK: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };
/// A remote that fails so often is not reached sooner by one more attempt: somebody should hear of it.
const ATTEMPTS: u32 = 4;
/// How often it is said that a lock is waited for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// One operation's.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    clock: &'a Clock,
    limit: Duration,
    began: Duration,
    /// A clock that stands still must not keep it for ever.
    paused: Duration,
    locks: u32,
    drops: u32,
    said: Option<Duration>,
}

impl<'a> Patience<'a> {
    pub(super) fn new(clock: &'a Clock, limit: Duration) -> Self {
        let began = clock.boot();
        Self { clock, limit, began, paused: Duration::ZERO, locks: 0, drops: 0, said: None }
    }

    /// How long the next attempt may take. A remote that was lost gets what is left; a git that waited for a lock is
    /// not stopped in the middle of its work for that.
    pub(super) fn left(&self) -> Duration {
        if self.drops == 0 { self.limit } else { self.limit.saturating_sub(self.spent()) }
    }

    /// Returns after a pause if another attempt is worth it, else with the failure as it is to be told.
    pub(super) async fn after(&mut self, failure: Failure) -> Result<(), Failure> {
        let pause = match &*failure.cause {
            Cause::LockHeld { path, holder } => {
                let pause = LOCK.delay(self.locks, chance::byte());
                self.locks += 1;
                if self.spent() + pause > self.limit {
                    let (path, known) = (path.clone(), holder.clone());
                    let holder = known.or_else(|| holders::of_git_lock(&path));
                    return Err(Failure { cause: Box::new(Cause::LockHeld { path, holder }), ..failure });
                }
                self.say(path);
                pause
            }
            Cause::Network(text) => {
                let pause = NETWORK.delay(self.drops, chance::byte());
                self.drops += 1;
                // An attempt with no time left would hide why the others failed.
                if self.drops >= ATTEMPTS || self.spent() + pause + self.limit / 4 > self.limit {
                    let told = format!("{text} ({})", self.tried());
                    return Err(Failure { cause: Box::new(Cause::Network(told)), ..failure });
                }
                let (place, attempt) = (failure.place.display(), self.drops);
                tracing::warn!(%place, attempt, "the remote cannot be reached, trying again: {text}");
                pause
            }
            Cause::TimedOut(_) if self.drops > 0 => {
                self.drops += 1;
                let told = format!("it gave no answer any more ({})", self.tried());
                return Err(Failure { cause: Box::new(Cause::Network(told)), ..failure });
            }
            _ => return Err(failure),
        };
        tokio::time::sleep(pause).await;
        self.paused += pause;
        Ok(())
    }

    fn spent(&self) -> Duration {
        self.clock.boot().saturating_sub(self.began).max(self.paused)
    }

    fn tried(&self) -> String {
        let times = if self.drops == 1 { "once".to_owned() } else { format!("{} times", self.drops) };
        format!("tried {times} in {} s", self.spent().as_secs())
    }

    /// Not at once: most locks are gone in a moment.
    fn say(&mut self, lock: &Path) {
        let spent = self.spent();
        if spent < self.said.map_or(SAY_EVERY / 10, |said| said + SAY_EVERY) {
            return;
        }
        self.said = Some(spent);
        let holder = holders::of_git_lock(lock).unwrap_or_else(|| "nobody that can be seen".into());
        tracing::warn!(lock = %lock.display(), "waiting for a git lock that is held by {holder}");
    }
}
