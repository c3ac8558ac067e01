//! A controller on a free port, a client of it, and an agent that only speaks the wire.

use std::path::Path;
use std::time::Duration;

use drover_controller::app::{self, Running};
use drover_controller::config::{Config, Flags};
use drover_daemon::clock::Clock;
use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::link_response::Message as Down;
use drover_proto::node_v1::node_link_service_client::NodeLinkServiceClient;
use drover_proto::node_v1::{Hello, LinkRequest, LinkResponse, Report, Reports};
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
    let hello = Hello { protocol_version: 1, cookie, facts: Some(facts), held: vec![] };
    up.send(LinkRequest { message: Some(Up::Hello(hello)) }).await.unwrap();
    let mut down =
        NodeLinkServiceClient::new(channel).link(ReceiverStream::new(requests)).await?.into_inner();
    let Some(Down::Welcome(welcome)) = down.message().await?.and_then(|first| first.message) else {
        panic!("the first word is a welcome");
    };
    Ok(Agent { up, down, cookie: welcome.cookie, sequence: welcome.acknowledged })
}

impl Agent {
    pub async fn next(&mut self) -> Down {
        let next = tokio::time::timeout(Duration::from_secs(20), self.down.message())
            .await
            .expect("something comes");
        next.unwrap().unwrap().message.unwrap()
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
            if let Down::ReportsAcknowledged(durable) = self.next().await {
                assert_eq!(durable.sequence, self.sequence);
                return;
            }
        }
    }
}
