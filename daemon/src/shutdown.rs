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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_does_not_wait() {
        let shutdown = Shutdown::default();
        let mut listening = std::pin::pin!(shutdown.clone().on_signals());
        // Listened to from the first poll on; until then the signal would end the test.
        assert!(is_pending(listening.as_mut()).await);
        kill_process(getpid(), Signal::TERM).unwrap();
        tokio::select! {
            _ = listening.as_mut() => panic!("one signal is not the end"),
            () = shutdown.gracefully.cancelled() => {}
        }
        assert!(!shutdown.now.is_cancelled());
        kill_process(getpid(), Signal::INT).unwrap();
        listening.await.unwrap();
        assert!(shutdown.now.is_cancelled());
    }

    async fn is_pending(listening: std::pin::Pin<&mut impl Future<Output = std::io::Result<()>>>) -> bool {
        tokio::select! {
            biased;
            _ = listening => false,
            () = std::future::ready(()) => true,
        }
    }
}
