//! A run's log as it is written, over broken connections: it goes on after the last piece that was seen.

use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_domain::retry::Backoff;
use drover_proto::v1::{LogChunk, StreamLogsRequest, StreamLogsResponse};
use tonic::Status;

use super::{Client, Incoming, watch};
use crate::chance;
use crate::error::Failure;

/// How long a log tries to come back.
const PATIENCE: Duration = Duration::from_secs(120);
/// One that stayed open this long was a good one.
const STEADY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Logs {
    client: Client,
    request: StreamLogsRequest,
    stream: Option<Incoming<StreamLogsResponse>>,
    clock: Clock,
    /// Since when it is gone, if it is.
    lost: Option<Duration>,
    opened: Duration,
    attempt: u32,
}

impl Logs {
    pub fn new(client: &Client, request: StreamLogsRequest, clock: &Clock) -> Self {
        let (client, clock) = (client.clone(), clock.clone());
        Self { client, request, stream: None, lost: None, opened: clock.boot(), clock, attempt: 0 }
    }

    /// The next piece; none: the log is complete. Safe to drop and to ask again.
    pub async fn next(&mut self) -> Result<Option<LogChunk>, Failure> {
        loop {
            let told = match &mut self.stream {
                Some(stream) => stream.message().await,
                None => match self.open().await {
                    Ok(()) => continue,
                    Err(status) => Err(status),
                },
            };
            match told {
                Ok(None) => return Ok(None),
                Ok(Some(StreamLogsResponse { chunk: Some(chunk) })) => {
                    (self.lost, self.attempt) = (None, 0);
                    if chunk.next.is_some() {
                        self.request.after.clone_from(&chunk.next);
                        // From there on; not so many lines before the end once more.
                        self.request.tail = None;
                    }
                    return Ok(Some(chunk));
                }
                Ok(Some(StreamLogsResponse { chunk: None })) => {}
                Err(status) => self.lose(&status).await?,
            }
        }
    }

    async fn open(&mut self) -> Result<(), Status> {
        let request = tonic::Request::new(self.request.clone());
        let stream = self.client.api.sessions.clone().stream_logs(request).await?;
        self.stream = Some(stream.into_inner());
        self.opened = self.clock.boot();
        Ok(())
    }

    async fn lose(&mut self, status: &Status) -> Result<(), Failure> {
        let now = self.clock.boot();
        if self.stream.take().is_some() && now.saturating_sub(self.opened) > STEADY {
            // It was there until now, however quiet the run is.
            (self.lost, self.attempt) = (None, 0);
        }
        let lost = *self.lost.get_or_insert(now);
        let is_patient = self.request.follow && now.saturating_sub(lost) <= PATIENCE;
        // Who only wants what there is asks once more at most, and does not wait for a node that is away.
        if !watch::is_passing(status.code()) || !(is_patient || self.attempt < 1) {
            return Err(self.client.failure(status));
        }
        let wait = Backoff::RECONNECT.delay(self.attempt.min(4), chance::byte());
        self.attempt += 1;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
