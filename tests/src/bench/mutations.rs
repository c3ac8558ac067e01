//! Durable changes: how many holds of random sessions are answered each second, against a bare server that puts a row by
//! random key and an event of the same length into one transaction.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::task::block_in_place;

use super::bare::Layout;
use super::bare::client::{BareClient, BareServer};
use super::controller::{Controller, Sizes, hold, sizes};
use super::fill::{Fill, fill};
use super::load::rate;
use super::measure::{Contest, Measured, Stopwatch, Unit, warm_rounds};
use super::table::{Bound, Goal, Row};
use super::{Scale, line, scatter};
use crate::client::Client;

const FEW: u64 = 10_000;
/// The write-ahead log may be so long, in MiB.
const LONGEST_LOG: f64 = 256.0;
/// Connections that calls are spread over.
const CONNECTIONS: usize = 4;

pub(crate) async fn rows(scale: &Scale) -> Result<Vec<Row>> {
    let mut small = Held::start(Fill { live: FEW, ..Fill::default() }, scale.window).await?;
    let mut rows = Vec::new();
    for (in_flight, layout, has_request_ids) in [
        (64, Layout::Random, false),
        (256, Layout::Random, false),
        (64, Layout::Random, true),
        (64, Layout::Same, false),
    ] {
        small.in_flight = in_flight;
        small.has_request_ids = has_request_ids;
        let server = BareServer::start(layout, FEW, small.sizes.record)?;
        let clients = (0..CONNECTIONS).map(|_| server.client()).collect();
        let mut against = Against { held: &mut small, clients };
        rows.push(
            line(goal(in_flight, layout, has_request_ids), warm_rounds(&mut against, Unit::PerSecond)).await,
        );
    }
    rows.push(growth(&mut small, scale).await?);
    let log = Measured::plain(small.logs, Unit::Mebibytes, "the longest in each sample, at 10k rows");
    let goal = Goal::new("G4", "the write-ahead log under this load", Bound::AtMost(LONGEST_LOG));
    rows.push(Row { goal, found: Ok(log) });
    Ok(rows)
}

fn goal(in_flight: usize, layout: Layout, has_request_ids: bool) -> Goal {
    let what = match (layout, has_request_ids) {
        (Layout::Same, _) => "against the same statements in the same layout",
        (Layout::Random, false) => "against bare durable unary",
        (Layout::Random, true) => {
            "with request ids (a third row: the kept answer), against bare durable unary"
        }
    };
    let bound = if layout == Layout::Same { Bound::Shown } else { Bound::AtLeast(0.7) };
    Goal::new("G4", format!("durable changes, {in_flight} in flight, {what}"), bound).stretch(0.85)
}

async fn growth(small: &mut Held, scale: &Scale) -> Result<Row> {
    let many = Fill { live: scale.live, gone: scale.rows - scale.live, holds: 0 };
    let mut large = Held::start(many, scale.window).await?;
    for held in [&mut *small, &mut large] {
        held.in_flight = 64;
        held.has_request_ids = false;
    }
    let measure =
        format!("durable changes at {} stored sessions ({} live), against {FEW}", scale.rows, scale.live);
    let goal = Goal::new("G4", measure, Bound::AtLeast(0.7));
    Ok(line(goal, warm_rounds(&mut Growth { small, large: &mut large }, Unit::PerSecond)).await)
}

/// A controller whose sessions are held again and again.
struct Held {
    controller: Controller,
    _directory: tempfile::TempDir,
    clients: Vec<Client>,
    ids: std::sync::Arc<Vec<String>>,
    sizes: Sizes,
    window: Duration,
    in_flight: usize,
    has_request_ids: bool,
    samples: u64,
    logs: Vec<f64>,
}

impl Held {
    async fn start(wanted: Fill, window: Duration) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("controller");
        let ids = block_in_place(|| fill(&data, wanted))?;
        let controller = Controller::start(&data).await?;
        let clients = (0..CONNECTIONS).map(|_| controller.client()).collect::<Result<Vec<_>>>()?;
        let sizes = settled_sizes(&clients[0], &ids[0], &data).await?;
        Ok(Self {
            controller,
            _directory: directory,
            clients,
            ids: ids.into(),
            sizes,
            window,
            in_flight: 64,
            has_request_ids: false,
            samples: 0,
            logs: vec![],
        })
    }

    async fn sample(&mut self) -> Result<f64> {
        self.samples += 1;
        let (clients, ids, sample) = (self.clients.clone(), self.ids.clone(), self.samples);
        let has_request_ids = self.has_request_ids;
        let call = move |number: u64| {
            let client = clients[usize::try_from(number).unwrap_or(0) % CONNECTIONS].clone();
            let ids = ids.clone();
            async move {
                let at = usize::try_from(scatter(number ^ sample << 40)).unwrap_or(0) % ids.len();
                let request = if has_request_ids { format!("{sample}-{number}") } else { String::new() };
                hold(&client, &ids[at], format!("hold {number:08}"), request).await.map(drop)
            }
        };
        let looking = async {
            let (watch, mut longest) = (Stopwatch::start(), 0);
            while watch.elapsed() < self.window {
                longest = longest.max(self.controller.log_bytes());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            longest
        };
        let (rate, longest) = futures::future::join(rate(self.in_flight, self.window, call), looking).await;
        #[expect(clippy::cast_precision_loss, reason = "for a person to read")]
        self.logs.push(longest as f64 / f64::from(1 << 20));
        rate
    }
}

/// As they are once a session was held.
async fn settled_sizes(client: &Client, session: &str, data: &Path) -> Result<Sizes> {
    hold(client, session, "hold 00000000".into(), String::new()).await?;
    sizes(client, session, data).await
}

struct Against<'a> {
    held: &'a mut Held,
    clients: Vec<BareClient>,
}

impl Contest for Against<'_> {
    async fn bare(&mut self) -> Result<f64> {
        let (clients, sizes) = (self.clients.clone(), self.held.sizes);
        let data = Bytes::from(vec![9; sizes.record]);
        let call = move |number: u64| {
            let client = clients[usize::try_from(number).unwrap_or(0) % CONNECTIONS].clone();
            let data = data.clone();
            async move { client.write(scatter(number) % FEW, data, sizes.answer).await }
        };
        rate(self.held.in_flight, self.held.window, call).await
    }

    async fn product(&mut self) -> Result<f64> {
        self.held.sample().await
    }
}

struct Growth<'a> {
    small: &'a mut Held,
    large: &'a mut Held,
}

impl Contest for Growth<'_> {
    async fn bare(&mut self) -> Result<f64> {
        self.small.sample().await
    }

    async fn product(&mut self) -> Result<f64> {
        self.large.sample().await
    }
}
