//! Tasks that end together: every task of a program is spawned here, sees one cancellation, and is waited for with
//! a deadline. Nothing else may spawn (`clippy.toml`), so that no task outlives its program's shutdown unseen.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A group of tasks with one end.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that ends with this one, or earlier by itself; the parent waits for its tasks too.
    pub fn child(&self) -> Self {
        Self { tracker: self.tracker.clone(), token: self.token.child_token() }
    }

    /// Starts a task that is waited for at the end.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Runs blocking work on a thread that is waited for at the end.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.tracker.spawn_blocking(work)
    }

    /// Tells the tasks to end; they see it in [`Tasks::cancelled`].
    pub fn cancel(&self) {
        self.token.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves once the group was told to end.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Cancels and waits. `false`: some tasks had not ended at the deadline.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_tasks_that_end_and_gives_up_on_those_that_do_not() {
        let tasks = Tasks::new();
        let seen = tasks.clone();
        tasks.spawn(async move { seen.cancelled().await });
        assert!(tasks.shutdown(Duration::from_secs(1)).await);

        let stubborn = Tasks::new();
        stubborn.spawn(std::future::pending::<()>());
        assert!(!stubborn.shutdown(Duration::from_secs(1)).await);
    }
}
