//! Workspaces: from the call until the run is seen on a watch in a checked-out worktree, and from the call to remove it
//! until that is acknowledged, against git's own commands. Nothing is deleted until everything was made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use drover_proto::v1;
use drover_proto::v1::watch_sessions_response::Item;
use tokio::task::block_in_place;
use tonic::Streaming;

use super::measure::{Contest, Measured, Stopwatch, Unit, rounds};
use super::table::{Bound, Goal, Row};
use super::{Scale, line};
use crate::client::{Client, pid, script};
use crate::installation::Installation;
use crate::patience::{LONG, settled};
use crate::repository::{Repository, git};

const SMALL: usize = 2_000;

/// The lines of making worktrees, and of removing them.
pub(crate) async fn rows(scale: &Scale, is_made: bool, is_removed: bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut yard = Yard::start().await?;
    let sizes = if is_made { vec![(SMALL, 0.9, None), (scale.files, 0.8, Some(0.5))] } else { vec![] };
    let mut made = Vec::new();
    for (files, most, stretch) in sizes {
        let measure =
            format!("create → running seen on a watch, {files} files, against git worktree add --detach");
        let goal = Goal { stretch, ..Goal::new("G1", measure, Bound::AtMost(most)) };
        let mut plot = Plot::new(files)?;
        rows.push(line(goal, rounds(&mut Making { yard: &mut yard, plot: &mut plot }, Unit::Seconds)).await);
        made.push(plot);
    }
    if is_removed {
        let fitting = made.iter().position(|plot| plot.files == scale.removed);
        let mut plot = fitting.map_or_else(|| Plot::new(scale.removed), |at| Ok(made.swap_remove(at)))?;
        let mut making = Making { yard: &mut yard, plot: &mut plot };
        if making.plot.sessions.is_empty() {
            tracing::info!("G14: making what is to be removed");
            rounds(&mut making, Unit::Seconds).await?;
        }
        rows.extend(removed(&mut yard, &mut plot, scale.removed).await?);
    }
    yard.end().await?;
    Ok(rows)
}

async fn removed(yard: &mut Yard, plot: &mut Plot, files: usize) -> Result<Vec<Row>> {
    for session in &plot.sessions {
        yard.stop(session).await?;
    }
    let mut removing = Removing { yard, plot, cleaned: vec![] };
    let measure = format!("delete acknowledged, {files} files, against git worktree remove");
    let goal = Goal::new("G14", measure, Bound::AtMost(0.05));
    let acknowledged = line(goal, rounds(&mut removing, Unit::Seconds)).await;
    let cleaned = Measured::plain(removing.cleaned, Unit::Seconds, "from the call on");
    let goal = Goal::new("G14", "the same until the session is seen cleaned", Bound::Shown);
    Ok(vec![acknowledged, Row { goal, found: Ok(cleaned) }])
}

/// A whole Drover with one node, and a watch on all of it.
pub(crate) struct Yard {
    installation: Installation,
    pub client: Client,
    watch: Streaming<v1::WatchSessionsResponse>,
}

impl Yard {
    async fn start() -> Result<Self> {
        Self::start_in(tempfile::tempdir()?).await
    }

    /// On a registry that is in this directory already, maybe.
    pub(crate) async fn start_in(directory: tempfile::TempDir) -> Result<Self> {
        let installation = Installation::start_in(directory, 1, 1_000).await;
        let client = installation.client();
        let asked = v1::WatchSessionsRequest::default();
        let mut watch = client.sessions().watch_sessions(asked).await?.into_inner();
        while !matches!(next(&mut watch).await?, Some(Item::CaughtUp(_))) {}
        Ok(Self { installation, client, watch })
    }

    /// Asks for a session, and waits until the watch shows it to be `so`. Says how long that took from the call on.
    pub(crate) async fn create(
        &mut self,
        asked: v1::CreateSessionRequest,
        so: impl Fn(&v1::Session) -> bool,
    ) -> Result<(f64, v1::Session)> {
        let watch = Stopwatch::start();
        let made = self.client.sessions().create_session(asked).await?.into_inner();
        let id = made.session.context("the session is answered")?.id;
        let session = self.seen(&id, so).await?;
        Ok((watch.seconds(), session))
    }

    pub(crate) async fn seen(&mut self, id: &str, so: impl Fn(&v1::Session) -> bool) -> Result<v1::Session> {
        let seen = async {
            loop {
                if let Some(Item::Session(session)) = next(&mut self.watch).await?
                    && session.id == id
                {
                    anyhow::ensure!(
                        session.state() != v1::SessionState::Error,
                        "the session met a fault: {:?}",
                        session.fault
                    );
                    if so(&session) {
                        return Ok(session);
                    }
                }
            }
        };
        tokio::time::timeout(LONG, seen).await.context("the watch did not show it")?
    }

    /// A session that was cleaned is not among the watched any more.
    async fn seen_cleaned(&mut self, id: &str) -> Result<()> {
        let gone = Item::Removed(id.to_owned());
        let seen = async {
            while next(&mut self.watch).await?.as_ref() != Some(&gone) {}
            Ok(())
        };
        tokio::time::timeout(LONG, seen).await.context("the watch did not show it go")?
    }

    /// Ends a session's run.
    pub(crate) async fn stop(&mut self, session: &str) -> Result<()> {
        let asked = v1::StopSessionRequest { session: session.into(), ..Default::default() };
        self.client.sessions().stop_session(asked).await?;
        self.seen(session, |session| session.state() == v1::SessionState::Ready).await.map(drop)
    }

    /// Ends every run that is left.
    pub(crate) async fn end(mut self) -> Result<()> {
        let asked = v1::ListSessionsRequest { filter: "state=running".into(), ..Default::default() };
        let running = self.client.sessions().list_sessions(asked).await?.into_inner().sessions;
        for session in running {
            self.stop(&session.id).await?;
        }
        Ok(())
    }

    /// Kills the agent and starts it again; says how long that takes until it answers for every run.
    pub(crate) async fn adopt(&mut self) -> Result<f64> {
        let asked =
            v1::ListSessionsRequest { filter: "state=running".into(), page_size: 1000, ..Default::default() };
        let running = self.client.sessions().list_sessions(asked).await?.into_inner().sessions;
        let watch = Stopwatch::start();
        self.installation.kill_and_start_agent(0);
        let client = &self.client;
        let answered = running.iter().map(|session| settled("the agent answers", || client.log(&session.id)));
        futures::future::join_all(answered).await;
        let seconds = watch.seconds();
        for was in &running {
            let is = self.client.get(&was.id).await?;
            anyhow::ensure!(pid(&is) == pid(was), "{} has the same process", was.name);
        }
        Ok(seconds)
    }

    pub(crate) fn agent(&self) -> Result<u32> {
        let agent = self.installation.agents.first().and_then(Option::as_ref);
        Ok(agent.context("there is one agent")?.pid())
    }

    /// Where workspaces wait to be deleted in the background.
    fn is_deleting(&self) -> bool {
        let worktrees = self.installation.path("agent-0").join("worktrees");
        let listing = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        let all = listing(&worktrees).chain(listing(&worktrees.join("default")));
        all.into_iter().any(|item| item.file_name().to_string_lossy().starts_with(".trash-"))
    }
}

async fn next(watch: &mut Streaming<v1::WatchSessionsResponse>) -> Result<Option<Item>> {
    Ok(watch.message().await?.context("the watch ended")?.item)
}

/// A repository, and what was made of it.
struct Plot {
    repository: Repository,
    files: usize,
    trees: tempfile::TempDir,
    bare: Vec<PathBuf>,
    sessions: Vec<String>,
}

impl Plot {
    fn new(files: usize) -> Result<Self> {
        let repository = block_in_place(|| Repository::with_files(files));
        Ok(Self { repository, files, trees: tempfile::tempdir()?, bare: vec![], sessions: vec![] })
    }

    fn last_file(&self) -> PathBuf {
        let last = self.files - 1;
        PathBuf::from(format!("d{}/f{last}.txt", last / 100))
    }
}

struct Making<'a> {
    yard: &'a mut Yard,
    plot: &'a mut Plot,
}

impl Contest for Making<'_> {
    async fn bare(&mut self) -> Result<f64> {
        let tree = self.plot.trees.path().join(self.plot.bare.len().to_string());
        let seconds = block_in_place(|| {
            settle();
            let watch = Stopwatch::start();
            git(
                &self.plot.repository.path,
                &["worktree", "add", "--quiet", "--detach", &tree.display().to_string()],
            );
            watch.seconds()
        });
        anyhow::ensure!(tree.join(self.plot.last_file()).is_file(), "git made no worktree");
        self.plot.bare.push(tree);
        Ok(seconds)
    }

    async fn product(&mut self) -> Result<f64> {
        block_in_place(settle);
        let name = format!("made-{}-{}", self.plot.files, self.plot.sessions.len());
        let asked = script(&name, &self.plot.repository.path, "exec sleep 100000");
        let running = |session: &v1::Session| session.state() == v1::SessionState::Running;
        let (seconds, session) = self.yard.create(asked, running).await?;
        let path = PathBuf::from(session.workspace.context("it has a workspace")?.path);
        anyhow::ensure!(path.join(self.plot.last_file()).is_file(), "it runs without its files");
        self.plot.sessions.push(session.id);
        Ok(seconds)
    }
}

struct Removing<'a> {
    yard: &'a mut Yard,
    plot: &'a mut Plot,
    /// How long it took until each was seen cleaned.
    cleaned: Vec<f64>,
}

impl Contest for Removing<'_> {
    async fn bare(&mut self) -> Result<f64> {
        let tree = self.plot.bare.pop().context("there are twice as many bare ones")?;
        Ok(block_in_place(|| {
            settle();
            let watch = Stopwatch::start();
            git(&self.plot.repository.path, &["worktree", "remove", &tree.display().to_string()]);
            watch.seconds()
        }))
    }

    async fn product(&mut self) -> Result<f64> {
        block_in_place(settle);
        let session = self.plot.sessions.pop().context("there is one for each round")?;
        let asked = v1::DeleteSessionRequest { session: session.clone(), ..Default::default() };
        let watch = Stopwatch::start();
        self.yard.client.sessions().delete_session(asked).await?;
        let seconds = watch.seconds();
        self.yard.seen_cleaned(&session).await?;
        self.cleaned.push(watch.seconds());
        // What goes on in the background must not be at the next one's cost.
        while self.yard.is_deleting() {
            anyhow::ensure!(watch.seconds() < 120.0, "it is not deleted in the background");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(seconds)
    }
}

/// What was written before is on the disk before the next sample is taken.
fn settle() {
    rustix::fs::sync();
}
