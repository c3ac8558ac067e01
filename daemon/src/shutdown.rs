//! How a program ends: the first SIGTERM or SIGINT asks it to, the second one does not wait.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled: end in order (`gracefully`), end at once (`now`).
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    pub gracefully: CancellationToken,
    pub now: CancellationToken,
}

impl Shutdown {
    /// Listens to the process's signals for as long as the runtime lives.
    pub async fn on_signals(self) -> std::io::Result<()> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        for token in [&self.gracefully, &self.now] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        }
        Ok(())
    }
}
