//! Waiting for something to become true, with a deadline that only a failure meets.

use std::future::Future;
use std::time::Duration;

/// How long anything may take on a slow machine.
pub const LONG: Duration = Duration::from_secs(120);

/// Asks again and again until there is an answer.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let wait = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    match tokio::time::timeout(LONG, wait).await {
        Ok(answer) => answer,
        Err(_) => panic!("it did not come to this: {what}"),
    }
}
