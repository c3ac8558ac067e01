//! The link: one stream to the controller, dialled by the agent and dialled again whenever it is lost. Assignments come
//! down it, reports and heartbeats go up. Nothing on the node waits for it: with the controller away everything goes on.

mod call;
mod dial;
mod reports;

use std::sync::Arc;
use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_domain::node::NodeFacts;
use drover_domain::retry::Backoff;
use tokio::sync::watch;

use crate::chance;
use crate::converge::Converge;
use crate::tunnel::Tunnels;

pub use call::LinkError;
pub use dial::{Controller, DialError};
pub(crate) use dial::{SERVER_NAME, dial_unknown};

/// The protocol that this agent speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// What a link works with; cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    pub controller: Controller,
    pub facts: Arc<NodeFacts>,
    pub converge: Converge,
    pub tunnels: Tunnels,
    pub clock: Clock,
    pub tasks: Tasks,
    /// Whether the controller hears this node.
    pub standing: watch::Sender<Standing>,
}

/// How the link stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Away,
    Linked,
    /// The controller answers, and does not want this agent.
    Refused(String),
}

/// A link that lasted this long was a good one: the next attempt starts with a short wait again.
const LASTING: Duration = Duration::from_secs(30);
/// Between attempts with a controller that refuses: asking more often changes nothing.
const REFUSED: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(60) };

impl Link {
    /// Keeps a link until the tasks are told to end.
    pub async fn keep(self) {
        let mut attempt = 0;
        loop {
            let begun = self.clock.boot();
            let error = tokio::select! {
                () = self.tasks.cancelled() => return,
                error = self.once() => error,
            };
            if self.clock.boot().saturating_sub(begun) > LASTING {
                attempt = 0;
            }
            let refused = error.is_refusal();
            let backoff = if refused { REFUSED } else { Backoff::RECONNECT };
            let wait = backoff.delay(attempt, chance::byte());
            attempt = attempt.saturating_add(1);
            if refused {
                tracing::error!(address = %self.controller.address(), "{error}; asking again in {wait:.1?}");
                self.standing.send_replace(Standing::Refused(error.to_string()));
            } else {
                tracing::warn!(address = %self.controller.address(), "{error}; dialling again in {wait:.1?}");
                self.standing.send_replace(Standing::Away);
            }
            tokio::select! {
                () = self.tasks.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn once(&self) -> LinkError {
        match call::Call::open(self).await {
            Ok(call) => call.serve().await,
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests;
