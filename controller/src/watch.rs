//! Following the registry: what is there, a marker, then what changes. A follower holds a revision and is woken; it
//! never queues changes of its own. One that does not read is ended with the position to resume from.

pub mod encoded;
pub mod events;
pub mod nodes;
pub mod sessions;

use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use drover_domain::change::Change;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::error::Error;
use crate::plane::Plane;
use crate::registry::Published;

/// What is buffered for one watcher.
const BUFFER: usize = 256;
/// How long a watcher may leave its buffer full.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so long without news the position is told, so that it does not grow old.
const BOOKMARK: Duration = Duration::from_secs(60);

/// Where a watch is: opaque to clients, and good only for the registry that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub generation: u64,
    pub revision: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}", self.generation, self.revision)
    }
}

impl FromStr for Position {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = |text: &str| u64::from_str_radix(text, 16).ok();
        let parts = text
            .split_once('-')
            .and_then(|(generation, revision)| Some((parse(generation)?, parse(revision)?)));
        let (generation, revision) =
            parts.ok_or_else(|| out_of_range("the position is not one that this controller gave"))?;
        Ok(Self { generation, revision })
    }
}

pub fn out_of_range(why: &str) -> Error {
    Error::new(Code::OutOfRange, "POSITION_GONE", why, "list again, and watch from there")
}

/// How a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With everything as it is.
    Anew,
    /// With what changed after this revision.
    After(u64),
}

/// Reads a resume position. It must be of this registry, and not of its future.
pub fn begin(published: &Published, resume: &str) -> Result<Begin, Error> {
    if resume.is_empty() {
        return Ok(Begin::Anew);
    }
    let position: Position = resume.parse()?;
    let fleet = &published.fleet;
    if position.generation != fleet.generation() || position.revision > fleet.revision() {
        return Err(out_of_range("the position is of another registry, or of one that was restored since"));
    }
    Ok(Begin::After(position.revision))
}

/// What a follower finds when it looks.
#[derive(Debug)]
pub enum News {
    /// Every change since, in order.
    Changes(Vec<Arc<Change>>),
    /// So many that memory does not hold them: look at the state instead, or at the log.
    Missed,
    /// Nothing, for a while.
    Quiet,
}

/// Follows the registry from a revision on.
#[derive(Debug)]
pub struct Follower {
    plane: Plane,
    revision: watch::Receiver<u64>,
    pub seen: u64,
}

impl Follower {
    pub fn new(plane: Plane, seen: u64) -> Self {
        let revision = plane.registry.revision();
        Self { plane, revision, seen }
    }

    /// Waits for news. `None`: the controller is shutting down.
    pub async fn next(&mut self) -> Option<(Arc<Published>, News)> {
        loop {
            self.revision.borrow_and_update();
            let published = self.plane.registry.now();
            let now = published.fleet.revision();
            if now > self.seen {
                let changes = published.recent.after(self.seen, now);
                let news = changes.map_or(News::Missed, |changes| News::Changes(changes.cloned().collect()));
                return Some((published, news));
            }
            tokio::select! {
                changed = self.revision.changed() => changed.ok()?,
                () = tokio::time::sleep(BOOKMARK) => return Some((published, News::Quiet)),
                () = self.plane.tasks.cancelled() => return None,
            }
        }
    }
}

/// A watcher's end of its stream.
#[derive(Debug)]
pub struct Sink<T> {
    /// Boxed, because a channel makes room for 32 at once, and most watchers of a quiet fleet are sent few.
    items: mpsc::Sender<Box<T>>,
    end: Arc<OnceLock<Status>>,
    _permit: OwnedSemaphorePermit,
}

impl<T> Sink<T> {
    /// `false`: the watcher left, or does not read.
    pub async fn send(&self, item: T) -> bool {
        match self.items.send_timeout(Box::new(item), PATIENCE).await {
            Ok(()) => true,
            Err(mpsc::error::SendTimeoutError::Closed(_)) => false,
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                let text = "this watcher did not read what was sent to it";
                let slow =
                    Error::new(Code::Aborted, "TOO_SLOW", text, "watch again from the last resume position");
                self.end(slow);
                false
            }
        }
    }

    /// What the stream ends with, after what is in it.
    pub fn end(&self, error: Error) {
        // The first reason is the reason.
        let _ = self.end.set(error.into());
    }
}

/// Watchers of the whole controller at once.
const MOST_WATCHERS: usize = 10_000;
static WATCHERS: OnceLock<Arc<Semaphore>> = OnceLock::new();

/// A stream and the end to fill it by.
pub fn stream<T: Send + 'static>() -> Result<(Sink<T>, impl Stream<Item = Result<T, Status>> + Send), Error> {
    let watchers = WATCHERS.get_or_init(|| Arc::new(Semaphore::new(MOST_WATCHERS))).clone();
    let permit = watchers.try_acquire_owned().map_err(|_| {
        Error::new(
            Code::ResourceExhausted,
            "TOO_MANY_WATCHERS",
            "too many streams are open",
            "try again later",
        )
        .after(Duration::from_secs(5))
    })?;
    let (items, received) = mpsc::channel::<Box<T>>(BUFFER);
    let end = Arc::new(OnceLock::new());
    let last = end.clone();
    let tail = futures::stream::once(async move { last.get().cloned() });
    let tail = tail.filter_map(|end| std::future::ready(end.map(Err)));
    Ok((
        Sink { items, end, _permit: permit },
        ReceiverStream::new(received).map(|item| Ok(*item)).chain(tail),
    ))
}

/// What a watcher is told; `I` is a thing as it is.
#[derive(Clone, Debug)]
pub enum Told<I> {
    Item(I),
    /// The id of something that is not to be shown any more.
    Removed(String),
    CaughtUp,
    Bookmark,
}

/// What is watched: how it looks as a whole, what a change tells, and how it goes on over a gap.
#[tonic::async_trait]
pub trait Subject: Send + Sync + 'static {
    type Item: Send;
    type Message: Send + 'static;

    fn initial<'a>(
        &'a mut self,
        published: &'a Published,
    ) -> Box<dyn Iterator<Item = Told<Self::Item>> + Send + 'a>;

    fn changed(&mut self, published: &Published, changes: &[Arc<Change>]) -> Vec<Told<Self::Item>>;

    /// Memory does not hold what happened after `seen`.
    async fn missed(&mut self, published: &Published, seen: u64) -> Result<Vec<Told<Self::Item>>, Error>;

    fn message(resume_position: String, told: Told<Self::Item>) -> Self::Message;
}

/// Follows `subject` until the watcher leaves, is too slow, or the controller shuts down.
pub async fn run<S: Subject>(plane: Plane, mut subject: S, sink: Sink<S::Message>, begin: Begin) {
    let published = plane.registry.now();
    let position =
        |revision: u64| Position { generation: published.fleet.generation(), revision }.to_string();
    let mut follower = Follower::new(plane.clone(), published.fleet.revision());
    match begin {
        Begin::After(revision) => follower.seen = revision,
        Begin::Anew => {
            // Who leaves before the marker has to begin anew: these are in no order that a revision could tell.
            for told in subject.initial(&published) {
                if !sink.send(S::message(String::new(), told)).await {
                    return;
                }
            }
        }
    }
    if !sink.send(S::message(position(follower.seen), Told::CaughtUp)).await {
        return;
    }
    while let Some((published, news)) = follower.next().await {
        let now = published.fleet.revision();
        let news = match news {
            News::Changes(changes) => Ok(subject.changed(&published, &changes)),
            News::Missed => subject.missed(&published, follower.seen).await,
            News::Quiet => Ok(vec![Told::Bookmark]),
        };
        let told = match news {
            Ok(told) => told,
            Err(error) => return sink.end(error),
        };
        let last = told.len().saturating_sub(1);
        for (at, told) in told.into_iter().enumerate() {
            // Resuming in the middle of a round repeats it; nothing is lost.
            let revision = if at == last { now } else { follower.seen };
            if !sink.send(S::message(position(revision), told)).await {
                return;
            }
        }
        follower.seen = now;
    }
    sink.end(shutting_down());
}

/// What a watch ends with when the controller does.
pub fn shutting_down() -> Error {
    Error::new(
        Code::Unavailable,
        "SHUTTING_DOWN",
        "the controller is shutting down",
        "watch again from the last resume position",
    )
    .after(Duration::from_secs(1))
}
