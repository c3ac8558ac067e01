//! Watchers: how long it takes until a change was seen by all of them, each on a connection of its own, and what it
//! costs them that ten others do not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use drover_daemon::tasks::Tasks;
use drover_proto::v1;
use drover_proto::v1::watch_sessions_response::Item;
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tonic::Streaming;

use super::bare::client::BareServer;
use super::bare::{Blob, Layout};
use super::controller::{Controller, hold, sizes};
use super::fill::{Fill, fill};
use super::load::times;
use super::measure::{Contest, Stopwatch, Unit, warm_rounds};
use super::table::{Bound, Goal, Row};
use super::{Scale, line};
use crate::client::Client;

/// Changes for one sample.
const CHANGES: usize = 5;
/// Sessions there are, in the second story: changes of all of them are more than a stalled reader's buffers hold.
const SESSIONS: u64 = 800;
const READERS: usize = 200;
const STALLED: usize = 10;

pub(crate) async fn rows(scale: &Scale) -> Result<Vec<Row>> {
    let count = scale.watchers;
    let few = Crowd::start(Fill { live: 1, ..Fill::default() }, count).await?;
    let answer = sizes(&few.client, &few.ids[0], &few.data()).await?;
    let bare = BareCrowd::start(count, usize::try_from(answer.answer)?).await?;
    let measure = format!("one change to {count} watchers on own connections, against bare");
    let goal = Goal::new("G8", measure, Bound::AtMost(1.5)).stretch(1.2);
    let all = line(goal, warm_rounds(&mut All { bare, few: &few }, Unit::Seconds)).await;
    drop(few);
    let crowd = Crowd::start(Fill { live: SESSIONS, ..Fill::default() }, READERS).await?;
    let measure = format!("one change to {READERS} watchers while {STALLED} do not read, against without");
    let goal = Goal::new("G8", measure, Bound::AtMost(1.2));
    let stalled = line(goal, warm_rounds(&mut Stalled { crowd }, Unit::Seconds)).await;
    Ok(vec![all, stalled])
}

/// Counts who has seen something.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<(AtomicUsize, Notify)>);

impl Seen {
    fn one(&self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.notify_one();
    }

    async fn all(&self, count: usize) -> Result<()> {
        let all = async {
            while self.0.0.load(Ordering::SeqCst) < count {
                self.0.1.notified().await;
            }
            self.0.0.store(0, Ordering::SeqCst);
        };
        let patience = std::time::Duration::from_secs(60);
        tokio::time::timeout(patience, all).await.context("not every watcher saw the change")
    }
}

/// A controller with watchers that read.
struct Crowd {
    controller: Controller,
    directory: tempfile::TempDir,
    client: Client,
    ids: Vec<String>,
    seen: Seen,
    count: usize,
    tasks: Tasks,
}

/// What a change is called that watchers count.
const COUNTED: &str = "counted";

impl Crowd {
    async fn start(wanted: Fill, count: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("controller");
        let ids = block_in_place(|| fill(&data, wanted))?;
        let controller = Controller::start(&data).await?;
        let (seen, tasks) = (Seen::default(), Tasks::new());
        for _ in 0..count {
            let mut stream = watching(&controller.client()?).await?;
            let (seen, ends) = (seen.clone(), tasks.clone());
            tasks.spawn(async move {
                loop {
                    let message = tokio::select! {
                        message = stream.message() => message,
                        () = ends.cancelled() => return,
                    };
                    let Ok(Some(message)) = message else { return };
                    if let Some(Item::Session(session)) = message.item
                        && session.hold.is_some_and(|hold| hold.reason == COUNTED)
                    {
                        seen.one();
                    }
                }
            });
        }
        let client = controller.client()?;
        Ok(Self { controller, directory, client, ids, seen, count, tasks })
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("controller")
    }

    async fn change(&self) -> Result<f64> {
        let watch = Stopwatch::start();
        for _ in 0..CHANGES {
            hold(&self.client, &self.ids[0], COUNTED.into(), String::new()).await?;
            self.seen.all(self.count).await?;
        }
        Ok(watch.seconds() / CHANGES as f64)
    }

    /// Changes everything, uncounted.
    async fn stir(&self) -> Result<()> {
        let (client, ids) = (self.client.clone(), Arc::new(self.ids[1..].to_vec()));
        let count = ids.len() as u64;
        let call = move |number: u64| {
            let (client, ids) = (client.clone(), ids.clone());
            async move {
                let id = &ids[usize::try_from(number)?];
                hold(&client, id, "stirred".into(), String::new()).await.map(drop)
            }
        };
        times(count, 16, call).await
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// A watch that has caught up.
async fn watching(client: &Client) -> Result<Streaming<v1::WatchSessionsResponse>> {
    let asked = v1::WatchSessionsRequest::default();
    let mut stream = client.sessions().watch_sessions(asked).await?.into_inner();
    loop {
        let message = stream.message().await?.context("it catches up")?;
        if matches!(message.item, Some(Item::CaughtUp(_))) {
            return Ok(stream);
        }
    }
}

struct BareCrowd {
    server: BareServer,
    seen: Seen,
    count: usize,
    event: Bytes,
    tasks: Tasks,
}

impl BareCrowd {
    async fn start(count: usize, event: usize) -> Result<Self> {
        let server = BareServer::start(Layout::Random, 1, event)?;
        let (seen, tasks) = (Seen::default(), Tasks::new());
        for _ in 0..count {
            let mut stream = server.client().watch().await?;
            let (seen, ends) = (seen.clone(), tasks.clone());
            tasks.spawn(async move {
                loop {
                    let message = tokio::select! {
                        message = stream.message() => message,
                        () = ends.cancelled() => return,
                    };
                    let Ok(Some(Blob { .. })) = message else { return };
                    seen.one();
                }
            });
        }
        Ok(Self { server, seen, count, event: vec![7; event].into(), tasks })
    }

    async fn change(&self) -> Result<f64> {
        let client = self.server.client();
        client.echo(1).await?;
        let watch = Stopwatch::start();
        for _ in 0..CHANGES {
            client.write(0, self.event.clone(), 1_000).await?;
            self.seen.all(self.count).await?;
        }
        Ok(watch.seconds() / CHANGES as f64)
    }
}

impl Drop for BareCrowd {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

struct All<'a> {
    bare: BareCrowd,
    few: &'a Crowd,
}

impl Contest for All<'_> {
    async fn bare(&mut self) -> Result<f64> {
        self.bare.change().await
    }

    async fn product(&mut self) -> Result<f64> {
        self.few.change().await
    }
}

struct Stalled {
    crowd: Crowd,
}

impl Contest for Stalled {
    async fn bare(&mut self) -> Result<f64> {
        self.crowd.stir().await?;
        self.crowd.change().await
    }

    async fn product(&mut self) -> Result<f64> {
        let mut stalled = Vec::new();
        for _ in 0..STALLED {
            stalled.push(watching(&self.crowd.controller.client()?).await?);
        }
        self.crowd.stir().await?;
        let seconds = self.crowd.change().await;
        drop(stalled);
        seconds
    }
}
