//! Talking to a supervisor on its socket.

use std::time::Duration;

use drover_domain::presence::Presence;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{END, Key, Processes};
use crate::shim::protocol::{self, Answer, Request, VERSION};

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The exit file is there.
    Ended,
    Stuck(Vec<u32>),
    /// It hung up, or is not there: look again.
    Nothing,
    /// It is there and does not answer.
    Silent,
}

/// For an answer that needs no work.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Line {
    stream: BufReader<UnixStream>,
}

impl Processes {
    /// Waits until the supervisor says that it ended.
    pub(super) async fn wait(&self, key: Key) -> Said {
        let Some(mut line) = self.call(key).await else { return Said::Nothing };
        if line.ask(&Request::Wait).await.is_none() {
            return Said::Nothing;
        }
        match line.until_the_end().await {
            // Being stuck is not the end.
            Said::Stuck(pids) => {
                tracing::warn!(run = %key.order.run, ?pids, "killed processes do not end");
                line.until_the_end().await
            }
            said => said,
        }
    }

    pub(super) async fn tell_to_stop(&self, key: Key, by: &str, grace: Duration) -> Said {
        let Ok(line) = timeout(PATIENCE, self.call(key)).await else { return Said::Silent };
        let Some(mut line) = line else { return Said::Nothing };
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let stop = Request::Stop { by: by.to_owned(), grace_ms };
        for request in [Request::Wait, stop] {
            match timeout(PATIENCE, line.ask(&request)).await {
                Ok(Some(Answer::Stuck { pids })) => return Said::Stuck(pids),
                Ok(Some(Answer::Ended)) => return Said::Ended,
                Ok(Some(_)) => {}
                Ok(None) => return Said::Nothing,
                Err(_) => return Said::Silent,
            }
        }
        timeout(grace + END, line.until_the_end()).await.unwrap_or(Said::Silent)
    }

    /// Lets a supervisor go on that somebody stopped. Returns its pid, if it is there.
    pub(super) fn wake(&self, key: Key) -> Option<u32> {
        let supervisor = self.directory(key).supervisor().ok().flatten()?;
        match supervisor.process.signal(&self.0.boot, Signal::CONT) {
            Presence::Present(()) => Some(supervisor.process.pid),
            Presence::Absent | Presence::Unknown(_) => None,
        }
    }

    pub(super) async fn call(&self, key: Key) -> Option<Line> {
        let stream = UnixStream::connect(self.socket(key)).await.ok()?;
        let mut line = Line { stream: BufReader::new(stream) };
        match line.ask(&Request::Hello { version: VERSION }).await? {
            Answer::Hello { version, run } if version == VERSION && run == key.order.run.to_string() => {
                Some(line)
            }
            other => {
                tracing::warn!(run = %key.order.run, ?other, "another supervisor than expected");
                None
            }
        }
    }
}

impl Line {
    pub(super) async fn ask(&mut self, request: &Request) -> Option<Answer> {
        self.say(request).await?;
        self.hear().await
    }

    pub(super) async fn say(&mut self, request: &Request) -> Option<()> {
        self.stream.write_all(&protocol::line(request)).await.ok()
    }

    /// `None`: it hung up, or says what nobody understands.
    pub(super) async fn hear(&mut self) -> Option<Answer> {
        let mut line = Vec::new();
        (&mut self.stream).take(protocol::LONGEST as u64).read_until(b'\n', &mut line).await.ok()?;
        serde_json::from_slice(&line).ok()
    }

    async fn until_the_end(&mut self) -> Said {
        loop {
            match self.hear().await {
                Some(Answer::Ended) => return Said::Ended,
                Some(Answer::Stuck { pids }) => return Said::Stuck(pids),
                Some(_) => {}
                None => return Said::Nothing,
            }
        }
    }
}
