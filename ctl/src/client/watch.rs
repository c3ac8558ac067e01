//! A watch over sessions that goes on over broken connections: it resumes where it was, and lists again where the
//! controller cannot. It gives up once nothing was heard for a while.

use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_domain::retry::Backoff;
use drover_proto::v1::watch_sessions_response::Item;
use drover_proto::v1::{Session, WatchSessionsRequest, WatchSessionsResponse};
use tonic::{Code, Status};

use super::{Client, Incoming};
use crate::chance;
use crate::error::Failure;

/// How long a watch tries to come back.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a watcher is told.
#[derive(Debug)]
pub enum Seen {
    Session(Box<Session>),
    /// The id of a session that is no more to be shown.
    Removed(String),
    /// All that was there at the beginning was told.
    CaughtUp,
}

#[derive(Debug)]
pub struct Watch {
    client: Client,
    request: WatchSessionsRequest,
    stream: Option<Incoming<WatchSessionsResponse>>,
    clock: Clock,
    heard: Duration,
    attempt: u32,
}

impl Watch {
    pub fn new(client: &Client, request: WatchSessionsRequest, clock: &Clock) -> Self {
        let (client, clock) = (client.clone(), clock.clone());
        Self { client, request, stream: None, heard: clock.boot(), clock, attempt: 0 }
    }

    /// Over one session.
    pub fn session(client: &Client, id: &str, clock: &Clock) -> Self {
        Self::new(client, WatchSessionsRequest { session: id.to_owned(), ..Default::default() }, clock)
    }

    /// The next thing to know. Safe to drop and to ask again.
    pub async fn next(&mut self) -> Result<Seen, Failure> {
        loop {
            let told = match &mut self.stream {
                Some(stream) => stream.message().await,
                None => match self.open().await {
                    Ok(()) => continue,
                    Err(status) => Err(status),
                },
            };
            match told {
                Ok(Some(told)) => {
                    if let Some(seen) = self.hear(told) {
                        return Ok(seen);
                    }
                }
                Ok(None) => self.lose(Status::unavailable("the controller ended the watch")).await?,
                Err(status) => self.lose(status).await?,
            }
        }
    }

    async fn open(&mut self) -> Result<(), Status> {
        let request = tonic::Request::new(self.request.clone());
        let stream = self.client.api.sessions.clone().watch_sessions(request).await?;
        self.stream = Some(stream.into_inner());
        Ok(())
    }

    fn hear(&mut self, told: WatchSessionsResponse) -> Option<Seen> {
        self.heard = self.clock.boot();
        self.attempt = 0;
        self.request.resume_position = told.resume_position;
        match told.item? {
            Item::Session(session) => Some(Seen::Session(Box::new(session))),
            Item::Removed(id) => Some(Seen::Removed(id)),
            Item::CaughtUp(_) => Some(Seen::CaughtUp),
            Item::Bookmark(_) => None,
        }
    }

    /// The stream is broken: wait a little, or give up.
    async fn lose(&mut self, status: Status) -> Result<(), Failure> {
        self.stream = None;
        match status.code() {
            Code::OutOfRange if !self.request.resume_position.is_empty() => {
                self.request.resume_position.clear();
                return Ok(());
            }
            code if !is_passing(code) || self.clock.boot().saturating_sub(self.heard) > PATIENCE => {
                return Err(self.client.failure(&status));
            }
            _ => {}
        }
        let wait = Backoff::RECONNECT.delay(self.attempt.min(4), chance::byte());
        self.attempt += 1;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Whether a broken stream may come back by itself. A connection that was cut shows as `Unknown` or `Internal`.
pub fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::ResourceExhausted
    )
}
