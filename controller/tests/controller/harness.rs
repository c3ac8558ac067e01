//! A controller on a free port, a client of it, and an agent that only speaks the wire.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use drover_controller::app::{self, Running};
use drover_controller::config::{Config, Flags};
use drover_daemon::clock::Clock;
use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::link_response::Message as Down;
use drover_proto::node_v1::node_link_service_client::NodeLinkServiceClient;
use drover_proto::node_v1::report::Observation;
use drover_proto::node_v1::tunnel_request::Message as Said;
use drover_proto::node_v1::{
    Assignment, Hello, LinkRequest, LinkResponse, OpenTunnel, Order, Report, Reports, TunnelEnd, TunnelOpen,
    TunnelRequest,
};
use drover_proto::v1;
use drover_proto::v1::enrollment_service_client::EnrollmentServiceClient;
use drover_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use drover_proto::v1::node_service_client::NodeServiceClient;
use drover_proto::v1::session_service_client::SessionServiceClient;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

pub type Authorized = InterceptedService<Channel, Bearer>;

#[derive(Clone)]
pub struct Bearer(pub String);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value = MetadataValue::try_from(format!("Bearer {}", self.0)).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub async fn controller(directory: &Path) -> Running {
    controller_with(directory, |_| {}).await
}

pub async fn controller_with(directory: &Path, change: impl FnOnce(&mut Config)) -> Running {
    try_controller(directory, change).await.unwrap()
}

pub async fn try_controller(
    directory: &Path,
    change: impl FnOnce(&mut Config),
) -> Result<Running, app::Error> {
    let flags = Flags { data_dir: Some(directory.display().to_string()), ..Flags::default() };
    let mut config = Config::load(None, flags).unwrap();
    change(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    app::start(config, listener, Clock::system()).await
}

pub fn tls(running: &Running) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .domain_name("drover-controller")
        .ca_certificate(Certificate::from_pem(&running.authority))
}

pub async fn channel(running: &Running, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("https://{}", running.address)).unwrap().tls_config(tls)?.connect().await
}

pub async fn sessions(running: &Running) -> SessionServiceClient<Authorized> {
    let channel = channel(running, tls(running)).await.unwrap();
    SessionServiceClient::with_interceptor(channel, Bearer(running.operator_token.clone()))
}

pub async fn nodes(running: &Running) -> NodeServiceClient<Authorized> {
    let channel = channel(running, tls(running)).await.unwrap();
    NodeServiceClient::with_interceptor(channel, Bearer(running.operator_token.clone()))
}

pub async fn maintenance(running: &Running) -> MaintenanceServiceClient<Authorized> {
    let channel = channel(running, tls(running)).await.unwrap();
    MaintenanceServiceClient::with_interceptor(channel, Bearer(running.operator_token.clone()))
}

pub fn create(name: &str) -> v1::CreateSessionRequest {
    v1::CreateSessionRequest {
        request_id: format!("create-{name}"),
        name: name.into(),
        spec: Some(v1::SessionSpec {
            repository: "https://example.org/a.git".into(),
            command: vec!["true".into()],
            ..v1::SessionSpec::default()
        }),
        ..v1::CreateSessionRequest::default()
    }
}

pub fn facts() -> v1::NodeFacts {
    v1::NodeFacts {
        machine: "m".into(),
        hostname: "box".into(),
        slots: 100,
        capabilities: vec!["runtime/process".into(), "workspace/worktree".into()],
        ..v1::NodeFacts::default()
    }
}

/// A key and a certificate that the controller signed for it.
pub async fn enroll(running: &Running) -> (v1::EnrollResponse, Identity) {
    let token = running.join_token(Duration::from_secs(60)).await.unwrap();
    try_enroll(running, token).await.unwrap()
}

pub async fn try_enroll(running: &Running, token: String) -> Result<(v1::EnrollResponse, Identity), Status> {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::new(Vec::<String>::new()).unwrap().serialize_request(&key).unwrap();
    let mut client = EnrollmentServiceClient::new(channel(running, tls(running)).await.unwrap());
    let ask = v1::EnrollRequest {
        token,
        csr: csr.der().to_vec(),
        facts: Some(facts()),
        ..v1::EnrollRequest::default()
    };
    let answer = client.enroll(ask).await?.into_inner();
    let identity = Identity::from_pem(&answer.certificate_chain, key.serialize_pem());
    Ok((answer, identity))
}

/// An agent that does nothing by itself.
pub struct Agent {
    pub up: mpsc::Sender<LinkRequest>,
    pub down: Streaming<LinkResponse>,
    pub cookie: Vec<u8>,
    sequence: u64,
    channel: Channel,
    /// What came while something else was waited for.
    unheard: VecDeque<Down>,
}

pub async fn link(running: &Running, identity: Identity, cookie: Vec<u8>) -> Result<Agent, Status> {
    link_as(running, identity, cookie, facts()).await
}

pub async fn link_as(
    running: &Running,
    identity: Identity,
    cookie: Vec<u8>,
    facts: v1::NodeFacts,
) -> Result<Agent, Status> {
    let channel = channel(running, tls(running).identity(identity)).await.unwrap();
    let (up, requests) = mpsc::channel(16);
    let hello = Hello { protocol_version: 1, cookie, facts: Some(facts), ..Hello::default() };
    up.send(LinkRequest { message: Some(Up::Hello(hello)) }).await.unwrap();
    let mut down =
        NodeLinkServiceClient::new(channel.clone()).link(ReceiverStream::new(requests)).await?.into_inner();
    let Some(Down::Welcome(welcome)) = down.message().await?.and_then(|first| first.message) else {
        panic!("the first word is a welcome");
    };
    Ok(Agent {
        up,
        down,
        cookie: welcome.cookie,
        sequence: welcome.acknowledged,
        channel,
        unheard: VecDeque::new(),
    })
}

/// Makes a call while an agent answers what the controller asks of it meanwhile.
pub async fn beside<T>(call: impl Future<Output = T>, answering: impl Future<Output = Infallible>) -> T {
    tokio::select! {
        done = call => done,
        never = answering => match never {},
    }
}

/// The workspace that every session has here.
pub fn workspace() -> v1::Workspace {
    v1::Workspace { path: "/w".into(), branch: "drover/a".into(), base_commit: "c0ffee".into() }
}

/// A run that was ordered, as it began.
pub fn begun(order: &Order) -> v1::Run {
    v1::Run {
        id: order.run_id.clone(),
        ordinal: order.ordinal,
        start_time: Some(prost_types::Timestamp { seconds: 100, nanos: 0 }),
        handle: Some(v1::RunHandle { handle: Some(v1::run_handle::Handle::Pid(42)) }),
        ..v1::Run::default()
    }
}

/// The same, as it ended.
pub fn ended(order: &Order, outcome: v1::RunOutcome, detail: &str) -> v1::Run {
    v1::Run {
        end_time: Some(prost_types::Timestamp { seconds: 130, nanos: 0 }),
        outcome: outcome.into(),
        detail: detail.into(),
        ..begun(order)
    }
}

impl Agent {
    pub async fn next(&mut self) -> Down {
        match self.unheard.pop_front() {
            Some(earlier) => earlier,
            None => self.newest().await,
        }
    }

    async fn newest(&mut self) -> Down {
        let next = tokio::time::timeout(Duration::from_secs(20), self.down.message())
            .await
            .expect("something comes");
        next.unwrap().unwrap().message.unwrap()
    }

    /// The next assignment of this session that is like this.
    pub async fn told(&mut self, session: &str, is_it: impl Fn(&Assignment) -> bool) -> Assignment {
        loop {
            let told = self.assignment(session).await;
            if is_it(&told) {
                return told;
            }
        }
    }

    /// Reports that the workspace is there and that the run has begun, with this deadline.
    pub async fn begin(&mut self, told: &Assignment, order: &Order, deadline: Option<i64>) {
        self.report(told, Observation::WorkspaceReady(workspace())).await;
        let deadline = deadline.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
        self.report(told, Observation::RunStarted(v1::Run { deadline, ..begun(order) })).await;
    }

    /// Opens every tunnel that the controller asks for, and says in it what the script has for it.
    pub async fn answering(&mut self, script: impl Fn(&OpenTunnel) -> Vec<Said>) -> Infallible {
        loop {
            let asked = match self.down.message().await.unwrap().unwrap().message.unwrap() {
                Down::OpenTunnel(asked) => asked,
                other => {
                    self.unheard.push_back(other);
                    continue;
                }
            };
            let open = Said::Open(TunnelOpen { tunnel_id: asked.tunnel_id.clone() });
            let end = Said::End(TunnelEnd {});
            let said = std::iter::once(open).chain(script(&asked)).chain([end]);
            let requests: Vec<_> = said.map(|said| TunnelRequest { message: Some(said) }).collect();
            let stream = tokio_stream::iter(requests);
            let tunnel = NodeLinkServiceClient::new(self.channel.clone()).tunnel(stream).await;
            // The controller closes it once it has heard enough.
            let mut tunnel = tunnel.unwrap().into_inner();
            while let Ok(Some(_)) = tunnel.message().await {}
        }
    }

    /// The next assignment of this session.
    pub async fn assignment(&mut self, session: &str) -> drover_proto::node_v1::Assignment {
        loop {
            if let Down::Assignments(news) = self.next().await
                && let Some(found) =
                    news.upserts.into_iter().find(|assignment| assignment.session_id == session)
            {
                return found;
            }
        }
    }

    /// Reports, and waits until that is durable.
    pub async fn report(
        &mut self,
        about: &drover_proto::node_v1::Assignment,
        seen: drover_proto::node_v1::report::Observation,
    ) {
        self.sequence += 1;
        let report = Report {
            sequence: self.sequence,
            session_id: about.session_id.clone(),
            generation: about.generation,
            epoch: about.epoch,
            observation: Some(seen),
        };
        let message = Up::Reports(Reports { reports: vec![report] });
        self.up.send(LinkRequest { message: Some(message) }).await.unwrap();
        loop {
            match self.newest().await {
                Down::ReportsAcknowledged(durable) => {
                    assert_eq!(durable.sequence, self.sequence);
                    return;
                }
                other => self.unheard.push_back(other),
            }
        }
    }
}
