//! What a session costs beyond its workspace: from the call until the end of its run is seen, on a repository of one
//! file. There is no kind of session without a workspace, so the baseline makes a worktree too.

use std::process::Command;

use anyhow::Result;
use bytes::Bytes;
use drover_proto::v1;
use tokio::task::block_in_place;

use super::bare::Layout;
use super::bare::client::{BareClient, BareServer};
use super::fill::{Fill, fill};
use super::measure::{Contest, Stopwatch, Unit, warm_rounds};
use super::table::{Bound, Goal, Row};
use super::worktree::Yard;
use super::{Scale, line};
use crate::client::script;
use crate::repository::{Repository, git};

/// How many are made for one sample.
const EACH: usize = 5;
const FEW: u64 = 1_000;

pub(crate) async fn rows(scale: &Scale) -> Result<Vec<Row>> {
    let many = scale.live.min(100_000);
    let (mut small, mut large) = (Works::start(FEW).await?, Works::start(many).await?);
    let server = BareServer::start(Layout::Random, FEW, 400)?;
    let goal = Goal::new(
        "G3",
        "create → end of /bin/true seen, one file, against bare durable call + git worktree add + spawn",
        Bound::AtMost(4.0),
    );
    let mut cost = Cost {
        works: &mut small,
        bare: server.client(),
        _server: &server,
        // Its own, so that neither's worktrees are in the other's way.
        repository: Repository::with_files(1),
        trees: tempfile::tempdir()?,
        made: 0,
    };
    let cost = line(goal.stretch(2.5), warm_rounds(&mut cost, Unit::Seconds)).await;
    let measure = format!("the same with {many} sessions stored, against {FEW}");
    let goal = Goal::new("G3", measure, Bound::AtMost(1.2));
    let growth = Growth { small: &mut small, large: &mut large };
    let growth = line(goal, warm_rounds(&mut { growth }, Unit::Seconds)).await;
    small.yard.end().await?;
    large.yard.end().await?;
    Ok(vec![cost, growth])
}

/// A Drover with so many sessions, and a repository to make more on.
struct Works {
    yard: Yard,
    repository: Repository,
    made: usize,
}

impl Works {
    async fn start(stored: u64) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        block_in_place(|| {
            fill(&directory.path().join("controller"), Fill { live: stored, ..Fill::default() })
        })?;
        let yard = Yard::start_in(directory).await?;
        Ok(Self { yard, repository: Repository::with_files(1), made: 0 })
    }

    async fn make(&mut self) -> Result<f64> {
        let mut seconds = 0.0;
        for _ in 0..EACH {
            self.made += 1;
            let mut asked = script(&format!("true-{}", self.made), &self.repository.path, "");
            if let Some(spec) = &mut asked.spec {
                spec.command = vec!["/bin/true".into()];
            }
            let ended = |session: &v1::Session| session.last_run.is_some();
            seconds += self.yard.create(asked, ended).await?.0;
        }
        Ok(seconds / EACH as f64)
    }
}

struct Cost<'a> {
    works: &'a mut Works,
    bare: BareClient,
    _server: &'a BareServer,
    repository: Repository,
    trees: tempfile::TempDir,
    made: u64,
}

impl Contest for Cost<'_> {
    async fn bare(&mut self) -> Result<f64> {
        let watch = Stopwatch::start();
        for _ in 0..EACH {
            self.made += 1;
            let tree = self.trees.path().join(self.made.to_string()).display().to_string();
            self.bare.write(self.made, Bytes::from(vec![7; 400]), 1_000).await?;
            block_in_place(|| {
                git(&self.repository.path, &["worktree", "add", "--quiet", "--detach", &tree]);
                Command::new("/bin/true").status()
            })?;
        }
        Ok(watch.seconds() / EACH as f64)
    }

    async fn product(&mut self) -> Result<f64> {
        self.works.make().await
    }
}

struct Growth<'a> {
    small: &'a mut Works,
    large: &'a mut Works,
}

impl Contest for Growth<'_> {
    async fn bare(&mut self) -> Result<f64> {
        self.small.make().await
    }

    async fn product(&mut self) -> Result<f64> {
        self.large.make().await
    }
}
