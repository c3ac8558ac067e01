//! A client as a person has it: the address, the authority to trust, a token.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_proto::v1;
use drover_proto::v1::event_service_client::EventServiceClient;
use drover_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use drover_proto::v1::node_service_client::NodeServiceClient;
use drover_proto::v1::session_service_client::SessionServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::patience::eventually;

pub type Authorized = InterceptedService<Channel, Bearer>;

/// Adds the token to every call.
#[derive(Clone, Debug)]
pub struct Bearer(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Cheap to clone; all clones share one connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
}

impl Client {
    /// A connection that comes about with the first call, and again after it was lost.
    pub fn new(address: &str, authority: &str, token: &str) -> Self {
        let bearer = Bearer(format!("Bearer {token}").parse().unwrap());
        Self { channel: endpoint(address, authority, None).connect_lazy(), bearer }
    }

    /// The connection, for calls without the token.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn sessions(&self) -> SessionServiceClient<Authorized> {
        SessionServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn nodes(&self) -> NodeServiceClient<Authorized> {
        NodeServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn maintenance(&self) -> MaintenanceServiceClient<Authorized> {
        MaintenanceServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn events(&self) -> EventServiceClient<Authorized> {
        EventServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub async fn create(&self, asked: v1::CreateSessionRequest) -> Result<v1::Session, Status> {
        Ok(self.sessions().create_session(asked).await?.into_inner().session.unwrap())
    }

    /// Says that it is to be removed, which deletes its branch only if nothing is lost by it.
    pub async fn remove(&self, session: &str) -> Result<v1::Session, Status> {
        let ask = v1::DeleteSessionRequest {
            request_id: format!("remove-{session}"),
            session: session.into(),
            ..Default::default()
        };
        Ok(self.sessions().delete_session(ask).await?.into_inner().session.unwrap())
    }

    pub async fn stop(&self, session: &str) -> Result<v1::Session, Status> {
        let ask = v1::StopSessionRequest { session: session.into(), ..Default::default() };
        Ok(self.sessions().stop_session(ask).await?.into_inner().session.unwrap())
    }

    /// Every session that there is, also the removed ones.
    pub async fn all(&self) -> Result<Vec<v1::Session>, Status> {
        let mut ask = v1::ListSessionsRequest { all: true, page_size: 1000, ..Default::default() };
        let mut found = Vec::new();
        loop {
            let page = self.sessions().list_sessions(ask.clone()).await?.into_inner();
            found.extend(page.sessions);
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            ask.page_token = page.next_page_token;
        }
    }

    /// How often each kind of thing happened.
    pub async fn happened(&self) -> Result<BTreeMap<String, usize>, Status> {
        let mut ask = v1::ListEventsRequest { page_size: 1000, ..Default::default() };
        let mut counted = BTreeMap::new();
        loop {
            let page = self.events().list_events(ask.clone()).await?.into_inner();
            for event in page.events {
                *counted.entry(event.kind).or_default() += 1;
            }
            if page.next_page_token.is_empty() {
                return Ok(counted);
            }
            ask.page_token = page.next_page_token;
        }
    }

    pub async fn get(&self, session: &str) -> Result<v1::Session, Status> {
        let ask = v1::GetSessionRequest { session: session.into(), ..Default::default() };
        Ok(self.sessions().get_session(ask).await?.into_inner().session.unwrap())
    }

    /// Waits until the session stands so, whatever happens to the controller meanwhile.
    pub async fn until(&self, session: &str, state: v1::SessionState) -> v1::Session {
        eventually(&format!("session {session} is {}", state.as_str_name()), || async {
            match self.get(session).await {
                Ok(found) if found.state() == state => Some(found),
                Ok(found) if found.state() == v1::SessionState::Error && state != v1::SessionState::Error => {
                    panic!("session {session} met a fault: {:?}", found.fault)
                }
                Ok(_) | Err(_) => None,
            }
        })
        .await
    }

    /// Everything in a session's log, as text.
    pub async fn log(&self, session: &str) -> Result<String, Status> {
        let ask = v1::StreamLogsRequest { session: session.into(), ..Default::default() };
        let mut stream = self.sessions().stream_logs(ask).await?.into_inner();
        let mut text = Vec::new();
        while let Some(piece) = stream.message().await? {
            text.extend_from_slice(&piece.chunk.unwrap().data);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The names of the nodes that are reachable.
    pub async fn reachable(&self) -> Vec<String> {
        let ask = v1::ListNodesRequest { filter: "standing=reachable".into(), ..Default::default() };
        let answer = self.nodes().list_nodes(ask).await;
        answer
            .map(|answer| answer.into_inner().nodes.into_iter().map(|node| node.name).collect())
            .unwrap_or_default()
    }
}

/// The process of a session's run.
pub fn pid(session: &v1::Session) -> Option<u32> {
    match session.current_run.as_ref()?.handle.as_ref()?.handle.as_ref()? {
        v1::run_handle::Handle::Pid(pid) => Some(*pid),
        other => panic!("it is no process: {other:?}"),
    }
}

/// Where a controller is, whom to trust there, and what to show for oneself.
pub fn endpoint(address: &str, authority: &str, identity: Option<Identity>) -> Endpoint {
    let tls = ClientTlsConfig::new()
        .domain_name("drover-controller")
        .ca_certificate(Certificate::from_pem(authority));
    let tls = match identity {
        Some(identity) => tls.identity(identity),
        None => tls,
    };
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect_timeout(Duration::from_secs(10)).tcp_nodelay(true)
}

/// A session on a path of this machine that runs a shell script.
pub fn script(name: &str, repository: &std::path::Path, script: &str) -> v1::CreateSessionRequest {
    v1::CreateSessionRequest {
        request_id: format!("create-{name}"),
        name: name.into(),
        spec: Some(v1::SessionSpec {
            repository: repository.display().to_string(),
            machine: machine(),
            command: ["sh", "-c", script].map(str::to_owned).into(),
            ..v1::SessionSpec::default()
        }),
        ..v1::CreateSessionRequest::default()
    }
}

/// This machine's id, as an agent on it says it.
pub fn machine() -> String {
    drover_agent::facts::machine()
}
