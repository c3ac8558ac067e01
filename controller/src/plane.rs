//! What every handler and loop of the controller works with, in one value that is cheap to clone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_domain::actor::Actor;
use drover_domain::command::{Command, Wish};
use drover_domain::fleet::Answer;
use drover_domain::lease::Terms;
use drover_domain::node::Node;
use drover_domain::time::Timestamp;
use drover_proto::convert::node::Heard;

use crate::error::Error;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::pki::Authority;
use crate::registry::{Done, Published, Registry};
use crate::tunnel::Tunnels;
use crate::upkeep::{self, Looks};
use crate::watch::encoded::Shelf;

#[derive(Clone, Debug)]
pub struct Plane {
    pub registry: Registry,
    pub links: Links,
    pub tunnels: Tunnels,
    /// What watchers share.
    pub shelf: Shelf,
    pub terms: Terms,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: Metrics,
    pub authority: Arc<Authority>,
    /// How often nodes are looked at, and what follows.
    pub upkeep: upkeep::Terms,
    pub looks: Looks,
    /// Where copies of the registry go.
    pub data_dir: Arc<Path>,
}

impl Plane {
    /// Goes rounds that take no input: each is woken by a change, or after what the round before it said, and looks; a
    /// wake-up that gets lost costs one period.
    pub(crate) async fn rounds(self, round: impl AsyncFn(&Self) -> Duration) {
        let mut revision = self.registry.revision();
        loop {
            revision.borrow_and_update();
            let look_again = round(&self).await;
            tokio::select! {
                changed = revision.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(look_again) => {}
                () = self.tasks.cancelled() => return,
            }
        }
    }

    /// The registry as it is, and the time to render it at.
    pub fn view(&self) -> (Arc<Published>, Timestamp) {
        (self.registry.now(), self.registry.timestamp())
    }

    /// What is known of a node beside the fleet.
    pub fn heard(&self, node: &Node) -> Heard {
        self.links.heard_of(node.id, self.clock.boot())
    }

    /// Submits what the controller itself wishes. It asks no question twice: a refusal only means that things moved on.
    pub async fn wish(&self, wish: Wish) -> Result<Answer, Error> {
        let command = Command { actor: Actor::Controller, trace: None, wish };
        match self.registry.submit(command, None).await? {
            Done::Fresh(answer) => Ok(answer),
            Done::Repeated(_) => Ok(Answer::Gone),
        }
    }
}
