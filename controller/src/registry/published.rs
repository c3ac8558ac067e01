//! What everybody may read: the fleet as of the last commit, and the last changes, so that a watcher finds out what it
//! missed without a look at the disk.

use std::sync::Arc;

use drover_domain::change::Change;
use drover_domain::fleet::Fleet;
use imbl::Vector;

/// The registry at one revision.
#[derive(Clone, Debug)]
pub struct Published {
    pub fleet: Fleet,
    pub recent: Recent,
}

/// The last changes, without gaps.
#[derive(Clone, Debug, Default)]
pub struct Recent(Vector<Arc<Change>>);

/// How many changes are kept in memory.
const KEPT: usize = 8192;

impl Published {
    pub(super) fn new(fleet: Fleet) -> Self {
        Self { fleet, recent: Recent::default() }
    }
}

impl Recent {
    pub(super) fn push(&mut self, change: Change) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Arc::new(change));
    }

    /// The changes after `revision`, if all of them are here. `now` is the revision of the fleet beside.
    pub fn after(&self, revision: u64, now: u64) -> Option<impl Iterator<Item = &Arc<Change>>> {
        let oldest = self.0.front().map_or(now + 1, |change| change.revision);
        let missed = usize::try_from((revision + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        (revision + 1 >= oldest).then(|| self.0.iter().skip(missed))
    }
}
