//! Waiting for something to become true, with a deadline that only a failure meets.

use std::future::Future;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

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

/// Makes a call again as long as its outcome is unknown, as whoever has a request id may. A refusal is a failure.
pub async fn settled<T, F>(what: &str, mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Status>>,
{
    eventually(what, || {
        let called = call();
        async {
            match called.await {
                Ok(answer) => Some(answer),
                Err(status) if is_unknown(&status) => None,
                Err(status) => panic!("{what}: {status:?}"),
            }
        }
    })
    .await
}

/// Whether the call may or may not have had its effect: the controller said so, or did not come to say anything.
fn is_unknown(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.get_details_error_info().is_none()
}
