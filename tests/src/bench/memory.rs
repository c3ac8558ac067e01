//! What is kept in the controller's memory for an agent's connection, for a further stream on a connection, and for a
//! stored session. Every sample is of a fresh process: what was freed before must not hide what is taken.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::link_response::Message as Down;
use drover_proto::node_v1::node_link_service_client::NodeLinkServiceClient;
use drover_proto::node_v1::{Hello, LinkRequest};
use drover_proto::v1;
use drover_proto::v1::enrollment_service_client::EnrollmentServiceClient;
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Identity;

use super::bare::client::{BareServer, signing_request};
use super::bare::{Blob, Layout};
use super::controller::Controller;
use super::fill::{Fill, fill};
use super::load::kibibytes;
use super::measure::{Contest, Measured, ROUNDS, Unit, rounds};
use super::table::{Bound, Goal, Row};
use super::{Scale, line};
use crate::client::endpoint;

const AGENTS: usize = 200;
const CONNECTIONS: usize = 8;
const STREAMS: usize = 100;

pub(crate) async fn rows(scale: &Scale) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("controller");
    drover_daemon::atomic::private_directory(&data)?;
    let agents = enroll(&data).await?;
    let goal =
        Goal::new("G7", "memory for an agent's connection with its link, against bare", Bound::AtMost(2.0));
    let mut links = Links { data: &data, agents };
    let linked = line(goal, rounds(&mut links, Unit::Kibibytes)).await;
    let goal =
        Goal::new("G7", "memory for a further stream on a connection, against bare", Bound::AtMost(2.0));
    let streams = line(goal, rounds(&mut Streams { data: &data }, Unit::Kibibytes)).await;
    let goal = Goal::new("G7", "memory for a stored session, after a start", Bound::AtMost(2.0));
    let stored = line(goal, stored(scale.killed)).await;
    Ok(vec![linked, streams, stored])
}

/// Memory that is a process's own, in KiB.
async fn settled(pid: u32) -> Result<f64> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    kibibytes(pid, "status", "RssAnon:")
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
async fn stored(sessions: u64) -> Result<Measured> {
    let directory = tempfile::tempdir()?;
    let (none, many) = (directory.path().join("none"), directory.path().join("many"));
    block_in_place(|| fill(&none, Fill::default()))?;
    block_in_place(|| fill(&many, Fill { live: sessions, ..Fill::default() }))?;
    let mut each = Vec::new();
    for _ in 0..ROUNDS {
        let (empty, full) = (of_a_start(&none).await?, of_a_start(&many).await?);
        each.push((full - empty) / sessions as f64);
    }
    let figures = format!("{sessions} sessions with specs of 600 bytes");
    Ok(Measured::plain(each, Unit::Kibibytes, figures))
}

async fn of_a_start(data: &Path) -> Result<f64> {
    let controller = Controller::start(data).await?;
    settled(controller.pid()).await
}

/// A node that links from here.
struct Agent {
    identity: (String, String),
    cookie: Vec<u8>,
}

fn facts() -> v1::NodeFacts {
    v1::NodeFacts {
        machine: "m".into(),
        hostname: "box".into(),
        slots: 8,
        capabilities: vec!["runtime/process".into(), "workspace/worktree".into()],
        ..v1::NodeFacts::default()
    }
}

async fn enroll(data: &Path) -> Result<Vec<Agent>> {
    let controller = Controller::start(data).await?;
    let client = controller.client()?;
    let mut agents = Vec::new();
    for _ in 0..AGENTS {
        let token = client.nodes().create_join_token(v1::CreateJoinTokenRequest::default()).await?;
        let (key, csr) = signing_request()?;
        let asked = v1::EnrollRequest {
            token: token.into_inner().secret,
            csr,
            facts: Some(facts()),
            ..v1::EnrollRequest::default()
        };
        let answer = EnrollmentServiceClient::new(client.channel()).enroll(asked).await?.into_inner();
        agents.push(Agent { identity: (answer.certificate_chain, key), cookie: vec![] });
    }
    Ok(agents)
}

struct Links<'a> {
    data: &'a Path,
    agents: Vec<Agent>,
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
impl Contest for Links<'_> {
    async fn bare(&mut self) -> Result<f64> {
        let server = BareServer::start(Layout::Random, 1, 1)?;
        server.node_client()?.echo(1).await?;
        let before = settled(server.pid()).await?;
        let mut held = Vec::new();
        for _ in 0..AGENTS {
            let (up, requests) = mpsc::channel(4);
            up.send(Blob::default()).await?;
            let mut down = server.node_client()?.talk(ReceiverStream::new(requests)).await?;
            down.message().await?.context("it is given back")?;
            held.push((up, down));
        }
        Ok((settled(server.pid()).await? - before) / AGENTS as f64)
    }

    async fn product(&mut self) -> Result<f64> {
        let controller = Controller::start(self.data).await?;
        let before = settled(controller.pid()).await?;
        let mut held = Vec::new();
        for agent in &mut self.agents {
            held.push(link(&controller, agent).await?);
        }
        Ok((settled(controller.pid()).await? - before) / AGENTS as f64)
    }
}

type Linked = (mpsc::Sender<LinkRequest>, tonic::Streaming<drover_proto::node_v1::LinkResponse>);

async fn link(controller: &Controller, agent: &mut Agent) -> Result<Linked> {
    let identity = Identity::from_pem(&agent.identity.0, &agent.identity.1);
    let channel = endpoint(&controller.address(), &controller.authority()?, Some(identity)).connect_lazy();
    let (up, requests) = mpsc::channel(4);
    let hello =
        Hello { protocol_version: 1, cookie: agent.cookie.clone(), facts: Some(facts()), ..Hello::default() };
    up.send(LinkRequest { message: Some(Up::Hello(hello)) }).await?;
    let mut down =
        NodeLinkServiceClient::new(channel).link(ReceiverStream::new(requests)).await?.into_inner();
    let first = down.message().await?.context("it answers")?.message;
    let Some(Down::Welcome(welcome)) = first else { anyhow::bail!("the first word is no welcome") };
    agent.cookie = welcome.cookie;
    Ok((up, down))
}

struct Streams<'a> {
    data: &'a Path,
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
impl Contest for Streams<'_> {
    async fn bare(&mut self) -> Result<f64> {
        let server = BareServer::start(Layout::Random, 1, 1)?;
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| server.client()).collect();
        let mut held = Vec::new();
        for client in &clients {
            held.push(client.watch().await?);
        }
        let before = settled(server.pid()).await?;
        for client in &clients {
            for _ in 0..STREAMS {
                held.push(client.watch().await?);
            }
        }
        Ok((settled(server.pid()).await? - before) / (CONNECTIONS * STREAMS) as f64)
    }

    async fn product(&mut self) -> Result<f64> {
        let controller = Controller::start(self.data).await?;
        let clients = (0..CONNECTIONS).map(|_| controller.client()).collect::<Result<Vec<_>>>()?;
        let mut held = Vec::new();
        for client in &clients {
            held.push(watch(client).await?);
        }
        let before = settled(controller.pid()).await?;
        for client in &clients {
            for _ in 0..STREAMS {
                held.push(watch(client).await?);
            }
        }
        Ok((settled(controller.pid()).await? - before) / (CONNECTIONS * STREAMS) as f64)
    }
}

async fn watch(client: &crate::client::Client) -> Result<tonic::Streaming<v1::WatchSessionsResponse>> {
    let mut stream =
        client.sessions().watch_sessions(v1::WatchSessionsRequest::default()).await?.into_inner();
    stream.message().await?.context("it catches up")?;
    Ok(stream)
}
