//! Reads: what they cost the server, how they fare while the writer is saturated, and a page of a long list.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::block_in_place;

use super::bare::Layout;
use super::bare::client::{BareClient, BareServer};
use super::controller::{Controller, hold, page, sizes};
use super::fill::{Fill, fill};
use super::load::{Load, on_processors, rate, times};
use super::measure::{Contest, Unit, warm_rounds};
use super::table::{Bound, Goal, Row};
use super::{Scale, line, scatter};
use crate::client::Client;

const FEW: u64 = 10_000;
const IN_FLIGHT: usize = 64;
/// Time on processors is told in hundredths of a second: so many calls make a hundredth a small part.
const CALLS: u64 = 20_000;
const PAGES: u64 = 300;
const PAGE: i32 = 500;

pub(crate) async fn rows(scale: &Scale) -> Result<Vec<Row>> {
    let small = Shelf::start(Fill { live: FEW, ..Fill::default() }).await?;
    let many = Fill { live: scale.live, gone: scale.rows - scale.live, holds: 0 };
    let large = Shelf::start(many).await?;
    let sizes = sizes(&small.client, &small.ids[0], &small.directory.path().join("controller")).await?;
    let server = BareServer::start(Layout::Random, 1, 1)?;
    let mut echo = Echo { shelf: &small, client: server.client(), server: &server, answer: sizes.answer };
    let goal =
        Goal::new("G5", "GetSession: server's CPU, against bare echo of as many bytes", Bound::AtMost(1.5));
    let cpu = line(goal, warm_rounds(&mut echo, Unit::Seconds)).await;
    let measure = format!(
        "a page of {PAGE}: server's CPU at {} stored sessions ({} live), against {FEW}",
        scale.rows, scale.live
    );
    let goal = Goal::new("G5", measure, Bound::AtMost(1.5));
    let pages = line(goal, warm_rounds(&mut Pages { small: &small, large: &large }, Unit::Seconds)).await;
    // Last, because it changes what the others read.
    let goal = Goal::new(
        "G5",
        "rate of GetSession while the writer is saturated, against alone",
        Bound::AtLeast(0.45),
    );
    let mut crowd = Crowd { shelf: &small, writing: small.controller.client()?, window: scale.window };
    let crowded = line(goal, warm_rounds(&mut crowd, Unit::PerSecond)).await;
    Ok(vec![cpu, pages, crowded])
}

/// A controller with sessions to read.
struct Shelf {
    controller: Controller,
    directory: tempfile::TempDir,
    client: Client,
    ids: Arc<Vec<String>>,
}

impl Shelf {
    async fn start(wanted: Fill) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("controller");
        let ids = Arc::new(block_in_place(|| fill(&data, wanted))?);
        let controller = Controller::start(&data).await?;
        let client = controller.client()?;
        Ok(Self { controller, directory, client, ids })
    }

    /// A call that reads a session.
    fn get(&self) -> impl Fn(u64) -> futures::future::BoxFuture<'static, Result<()>> + Clone + Send + use<> {
        let (client, ids) = (self.client.clone(), self.ids.clone());
        move |number| {
            let (client, ids) = (client.clone(), ids.clone());
            Box::pin(async move {
                let at = usize::try_from(scatter(number)).unwrap_or(0) % ids.len();
                client.get(&ids[at]).await?;
                Ok(())
            })
        }
    }

    /// Time on the server's processors for one page.
    async fn page(&self) -> Result<f64> {
        let client = self.client.clone();
        let call = move |_| {
            let client = client.clone();
            async move {
                let sessions = page(&client, PAGE).await?;
                anyhow::ensure!(sessions.len() == usize::try_from(PAGE)?, "the page is not full");
                Ok(())
            }
        };
        let before = on_processors(self.controller.pid())?;
        times(PAGES, 4, call).await?;
        Ok(each(before, on_processors(self.controller.pid())?, PAGES))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
fn each(before: Duration, after: Duration, calls: u64) -> f64 {
    after.saturating_sub(before).as_secs_f64() / calls as f64
}

struct Echo<'a> {
    shelf: &'a Shelf,
    server: &'a BareServer,
    client: BareClient,
    answer: u32,
}

impl Contest for Echo<'_> {
    async fn bare(&mut self) -> Result<f64> {
        let (client, answer) = (self.client.clone(), self.answer);
        let call = move |_| {
            let client = client.clone();
            async move { client.echo(answer).await }
        };
        let before = on_processors(self.server.pid())?;
        times(CALLS, IN_FLIGHT, call).await?;
        Ok(each(before, on_processors(self.server.pid())?, CALLS))
    }

    async fn product(&mut self) -> Result<f64> {
        let before = on_processors(self.shelf.controller.pid())?;
        times(CALLS, IN_FLIGHT, self.shelf.get()).await?;
        Ok(each(before, on_processors(self.shelf.controller.pid())?, CALLS))
    }
}

struct Crowd<'a> {
    shelf: &'a Shelf,
    writing: Client,
    window: Duration,
}

impl Contest for Crowd<'_> {
    async fn bare(&mut self) -> Result<f64> {
        rate(IN_FLIGHT, self.window, self.shelf.get()).await
    }

    async fn product(&mut self) -> Result<f64> {
        let (client, ids) = (self.writing.clone(), self.shelf.ids.clone());
        let writes = Load::start(IN_FLIGHT, move |number| {
            let (client, ids) = (client.clone(), ids.clone());
            async move {
                let at = usize::try_from(scatter(number)).unwrap_or(0) % ids.len();
                hold(&client, &ids[at], format!("hold {number:08}"), String::new()).await.map(drop)
            }
        });
        let reads = rate(IN_FLIGHT, self.window, self.shelf.get()).await;
        writes.end().await?;
        reads
    }
}

struct Pages<'a> {
    small: &'a Shelf,
    large: &'a Shelf,
}

impl Contest for Pages<'_> {
    async fn bare(&mut self) -> Result<f64> {
        self.small.page().await
    }

    async fn product(&mut self) -> Result<f64> {
        self.large.page().await
    }
}
