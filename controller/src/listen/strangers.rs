//! Connections that have not said anything yet. They may wait until their deadline while there is room; when there is
//! none the one that has been silent for longest goes first, so that silence never keeps somebody out who speaks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By age. Who is taken out sees its sender dropped.
    ends: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One connection's place among them, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    strangers: Strangers,
    pub(super) evicted: oneshot::Receiver<()>,
}

impl Strangers {
    pub(super) fn enter(&self) -> Place {
        let (end, evicted) = oneshot::channel();
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        waiting.ends.insert(number, end);
        Place { number, strangers: self.clone(), evicted }
    }

    /// Sends the oldest away. `false`: there is none.
    pub(super) fn evict(&self) -> bool {
        self.waiting().ends.pop_first().is_some()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It spoke. `false`: it was sent away before it did.
    pub(super) fn settle(self) -> bool {
        self.strangers.waiting().ends.remove(&self.number).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.waiting().ends.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_still_silent_goes_first() {
        let strangers = Strangers::default();
        let (gone, mut first, mut second) = (strangers.enter(), strangers.enter(), strangers.enter());
        drop(gone);
        assert!(strangers.evict());
        assert!(first.evicted.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert!(second.evicted.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert!(!first.settle());
        assert!(second.settle());
        assert!(!strangers.evict());
    }
}
