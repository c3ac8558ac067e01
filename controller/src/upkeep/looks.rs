//! The last two looks at each node, in memory: absent is what was absent in both. Whoever needs a newer one takes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_domain::finding::{Finding, Key};
use drover_domain::id::NodeId;
use drover_domain::inventory::Inventory;
use tonic::Status;

use super::ask;
use crate::plane::Plane;

/// Cheap to clone; all clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Looks(Arc<Mutex<HashMap<NodeId, Seen>>>);

/// What was seen of a node.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub current: Option<Arc<Inventory>>,
    pub before: Option<Arc<Inventory>>,
    /// When, on the boot clock.
    pub taken: Option<Duration>,
    /// When everything was looked at anew.
    pub full: Option<Duration>,
    /// When a look was last tried.
    pub tried: Option<Duration>,
    /// Why the last try brought nothing.
    pub trouble: Option<Arc<str>>,
    /// Which of the node's links it was looked at over, first.
    pub line: Option<u64>,
    /// Somebody is looking now, round by round.
    pub is_looking: bool,
    /// What was found at the last round, and told.
    pub told: BTreeMap<Key, Finding>,
    /// What was tried by itself and did not go away: how often, and when last, on the boot clock.
    pub attempts: BTreeMap<Key, (u32, Duration)>,
}

/// Between the two looks of somebody who wants to know now.
const PAUSE: Duration = Duration::from_millis(500);

impl Looks {
    pub fn of(&self, node: NodeId) -> Seen {
        self.lock().get(&node).cloned().unwrap_or_default()
    }

    /// Looks at the node now.
    pub async fn take(&self, plane: &Plane, node: NodeId, full: bool) -> Result<(), Status> {
        let known = self.of(node).current;
        let now = plane.clock.boot();
        let taken = ask::inventory(plane, node, known.as_deref(), full).await;
        let mut all = self.lock();
        let seen = all.entry(node).or_default();
        seen.tried = Some(now);
        match taken {
            Ok(inventory) => {
                // Another look may have come in between: what it saw is not older than what this one began with.
                seen.before = seen.current.replace(Arc::new(inventory));
                seen.taken = Some(now);
                seen.trouble = None;
                if full {
                    seen.full = Some(now);
                }
                Ok(())
            }
            Err(status) => {
                seen.trouble = Some(status.message().into());
                Err(status)
            }
        }
    }

    /// Two full looks, one after the other.
    pub async fn take_twice(&self, plane: &Plane, node: NodeId) -> Result<(), Status> {
        self.take(plane, node, true).await?;
        tokio::time::sleep(PAUSE).await;
        self.take(plane, node, true).await
    }

    /// Changes what is kept of the node.
    pub(super) fn with<T>(&self, node: NodeId, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(self.lock().entry(node).or_default())
    }

    pub(super) fn forget(&self, is_gone: impl Fn(NodeId) -> bool) {
        self.lock().retain(|node, _| !is_gone(*node));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
