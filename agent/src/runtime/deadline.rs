//! How long a run may go on: what a person grants, how far signs of life moved its deadline, and until when the node may
//! run it. Its supervisor holds all of it and goes on without the agent; whoever wants to know asks it.

use std::future::pending;
use std::time::Duration;

use drover_domain::presence::Presence;
use drover_domain::time::Timestamp;
use thiserror::Error;
use tokio::time::timeout;

use super::look::Seen;
use super::talk::PATIENCE;
use super::{Key, PAUSE, Processes};
use crate::saga::Extended;
use crate::shim::protocol::{Answer, Request};

/// Why a supervisor did not do what it was asked.
#[derive(Debug, Error)]
pub enum AskError {
    #[error("the run is over")]
    Over,
    #[error("the run's supervisor does not answer")]
    Silent,
    #[error("the run's supervisor refuses: {0}")]
    Refused(String),
}

impl Processes {
    /// Moves the deadline by what was granted and is not known yet, of everything that was ever granted for this run.
    pub async fn extend(&self, key: Key, total: Duration, grants: u32) -> Result<Extended, AskError> {
        match self.ask(key, &Request::Grant { total_ms: millis(total), count: grants }).await? {
            Answer::Granted { deadline_wall_ms, extensions } => Ok(extended(deadline_wall_ms, extensions)),
            other => Err(AskError::Refused(format!("it answers {other:?}"))),
        }
    }

    /// Lets the run go on until then, on the clock that counts from boot; never less long than it was let before.
    pub async fn fence(&self, key: Key, until: Duration) -> Result<(), AskError> {
        match self.ask(key, &Request::Fence { boot_ms: millis(until) }).await? {
            Answer::Fenced { .. } => Ok(()),
            other => Err(AskError::Refused(format!("it answers {other:?}"))),
        }
    }

    /// The deadline, once it has been moved more often than is known. Of a run that has ended nothing more is heard.
    pub async fn extended(&self, key: Key, known: u32) -> Extended {
        loop {
            match self.look(key) {
                Presence::Present(Seen::Starting | Seen::Running(_)) => {
                    if let Some(news) = self.hear_of_extension(key, known).await {
                        return news;
                    }
                }
                Presence::Present(Seen::Ended(_)) => return pending().await,
                Presence::Present(Seen::Orphaned) | Presence::Absent | Presence::Unknown(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// First how it stands, then what is told. `None`: the supervisor hung up.
    async fn hear_of_extension(&self, key: Key, known: u32) -> Option<Extended> {
        let mut line = self.call(key).await?;
        for request in [Request::Wait, Request::Status] {
            line.say(&request).await?;
        }
        loop {
            let (deadline, extensions) = match line.hear().await? {
                Answer::Extended { deadline_wall_ms, extensions } => (Some(deadline_wall_ms), extensions),
                Answer::Status { deadline_wall_ms, extensions, .. } => (deadline_wall_ms, extensions),
                Answer::Ended => return None,
                _ => continue,
            };
            if extensions > known {
                return Some(extended(deadline, extensions));
            }
        }
    }

    async fn ask(&self, key: Key, request: &Request) -> Result<Answer, AskError> {
        let mut is_silent = false;
        loop {
            match timeout(PATIENCE, self.ask_once(key, request)).await {
                Ok(Some(Answer::Refused { why })) => return Err(AskError::Refused(why)),
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => match self.look(key) {
                    // It may have come to its socket only now.
                    Presence::Present(Seen::Starting | Seen::Running(_)) if !is_silent => {
                        tokio::time::sleep(PAUSE / 10).await;
                    }
                    Presence::Present(Seen::Starting | Seen::Running(_)) | Presence::Unknown(_) => {
                        return Err(AskError::Silent);
                    }
                    Presence::Present(Seen::Ended(_) | Seen::Orphaned) | Presence::Absent => {
                        return Err(AskError::Over);
                    }
                },
                Err(_) if is_silent => return Err(AskError::Silent),
                // Somebody may have stopped it.
                Err(_) => drop(self.wake(key)),
            }
            is_silent = true;
        }
    }

    async fn ask_once(&self, key: Key, request: &Request) -> Option<Answer> {
        self.call(key).await?.ask(request).await
    }
}

fn extended(deadline: Option<i64>, extensions: u32) -> Extended {
    Extended { deadline: deadline.map(Timestamp::from_millis), extensions }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
