//! Following a log until its run has ended and all of it is read. Nothing is read ahead of who asks.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Chunk;
use super::read::{Error, Reader};

/// Gives a log's chunks as they come.
pub struct Follow {
    source: Source,
    ready: VecDeque<Chunk>,
    has_ended: Box<dyn Fn() -> bool + Send + Sync>,
    pause: Duration,
}

#[derive(Debug)]
enum Source {
    Idle(Reader),
    /// Kept here, so that nothing is lost if whoever waits stops waiting.
    Reading {
        batch: JoinHandle<(Reader, Result<VecDeque<Chunk>, Error>)>,
        has_ended: bool,
    },
    /// The runtime went down in the middle.
    Gone,
}

/// What is read at once.
const BATCH: usize = 512 * 1024;
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(200);

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Follow {
    /// `has_ended` says whether anything may still be written.
    pub fn new(reader: Reader, has_ended: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            source: Source::Idle(reader),
            ready: VecDeque::new(),
            has_ended: Box::new(has_ended),
            pause: SHORTEST,
        }
    }

    /// The next chunk, when there is one. `None`: the run has ended, and this was all. May be dropped while it waits.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                self.pause = SHORTEST;
                return Ok(Some(chunk));
            }
            match std::mem::replace(&mut self.source, Source::Gone) {
                Source::Idle(mut reader) => {
                    // First whether it ended, then what there is: what came before the end is never missed.
                    let has_ended = (self.has_ended)();
                    let batch = tokio::task::spawn_blocking(move || {
                        let batch = fill(&mut reader);
                        (reader, batch)
                    });
                    self.source = Source::Reading { batch, has_ended };
                }
                Source::Reading { batch, has_ended } => {
                    self.source = Source::Reading { batch, has_ended };
                    if self.finish_reading().await? {
                        return Ok(None);
                    }
                }
                Source::Gone => return Ok(None),
            }
        }
    }

    /// Whether that was the end.
    async fn finish_reading(&mut self) -> Result<bool, Error> {
        let Source::Reading { batch, has_ended } = &mut self.source else { return Ok(true) };
        let (has_ended, read) = (*has_ended, batch.await);
        let Ok((reader, batch)) = read else { return Ok(true) };
        self.source = Source::Idle(reader);
        self.ready = batch?;
        if self.ready.is_empty() && !has_ended {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST);
        }
        Ok(self.ready.is_empty() && has_ended)
    }
}

fn fill(reader: &mut Reader) -> Result<VecDeque<Chunk>, Error> {
    let (mut batch, mut size) = (VecDeque::new(), 0);
    while size < BATCH {
        let Some(chunk) = reader.next_chunk()? else { break };
        size += chunk.data.len();
        batch.push_back(chunk);
    }
    Ok(batch)
}
