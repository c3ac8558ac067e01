//! The connection to a controller: TLS that trusts one authority, the token and the trace on every call, and calls
//! that are repeated while the controller is away. Repeating is safe because every change carries a request id.

mod connect;
pub mod logs;
pub mod requests;
mod status;
pub mod trace;
pub mod watch;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use drover_domain::retry::Backoff;
use drover_proto::v1::access_service_client::AccessServiceClient;
use drover_proto::v1::event_service_client::EventServiceClient;
use drover_proto::v1::maintenance_service_client::MaintenanceServiceClient;
use drover_proto::v1::node_service_client::NodeServiceClient;
use drover_proto::v1::session_service_client::SessionServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::chance;
use crate::context::Target;
use crate::error::{Exit, Failure};

pub type Service = InterceptedService<Channel, Badge>;

/// A stream of answers.
pub type Incoming<T> = tonic::Streaming<T>;

/// What a call comes to before it is a failure to the person.
pub type Answer<T> = Result<Response<T>, Status>;

/// How long an answer that is not a stream may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The same if a node has to read or write many files first.
pub const NODE_WORK: Duration = Duration::from_secs(600);

/// Between the attempts of one call.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };
const ATTEMPTS: u32 = 6;

/// A connection that is there, and who speaks on it.
#[derive(Clone)]
pub struct Client {
    api: Api,
    place: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The services; a copy costs nothing.
#[derive(Clone)]
pub struct Api {
    pub sessions: SessionServiceClient<Service>,
    pub nodes: NodeServiceClient<Service>,
    pub maintenance: MaintenanceServiceClient<Service>,
    pub events: EventServiceClient<Service>,
    pub access: AccessServiceClient<Service>,
}

/// What goes with every call: who asks, and which trace it belongs to.
#[derive(Clone)]
pub struct Badge {
    token: MetadataValue<Ascii>,
}

impl Interceptor for Badge {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.token.clone());
        trace::mark(request.metadata_mut());
        Ok(request)
    }
}

impl Client {
    /// Connects, trying again for a moment if nobody listens: a controller may be just starting.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        let place = target.place();
        let token = format!("Bearer {}", target.token).parse::<MetadataValue<Ascii>>();
        let mut token = token.map_err(|_| {
            Failure::new(Exit::Usage, "the token has characters that no token has").at(&place)
        })?;
        token.set_sensitive(true);
        let channel = connect::channel(target).await.map_err(|failure| failure.at(&place))?;
        let service = InterceptedService::new(channel, Badge { token });
        let api = Api {
            sessions: SessionServiceClient::new(service.clone()),
            nodes: NodeServiceClient::new(service.clone()),
            maintenance: MaintenanceServiceClient::new(service.clone()),
            events: EventServiceClient::new(service.clone()),
            access: AccessServiceClient::new(service),
        };
        Ok(Self { api, place })
    }

    /// One answer. While the controller is unavailable the call is repeated, with the same request id.
    pub async fn call<Q, A, F, Fut>(&self, request: Q, call: F) -> Result<A, Failure>
    where
        Q: Clone,
        F: Fn(Api, Request<Q>) -> Fut,
        Fut: Future<Output = Answer<A>>,
    {
        self.call_within(DEADLINE, request, call).await
    }

    /// The same with another deadline.
    pub async fn call_within<Q, A, F, Fut>(
        &self,
        deadline: Duration,
        request: Q,
        call: F,
    ) -> Result<A, Failure>
    where
        Q: Clone,
        F: Fn(Api, Request<Q>) -> Fut,
        Fut: Future<Output = Answer<A>>,
    {
        self.attempts(request, Some(deadline), call).await
    }

    /// The beginning of a stream of answers; the stream itself has no deadline.
    pub async fn open<Q, A, F, Fut>(&self, request: Q, call: F) -> Result<Incoming<A>, Failure>
    where
        Q: Clone,
        F: Fn(Api, Request<Q>) -> Fut,
        Fut: Future<Output = Answer<Incoming<A>>>,
    {
        self.attempts(request, None, call).await
    }

    /// A status as the failure that a person is told.
    pub fn failure(&self, status: &Status) -> Failure {
        status::failure(status).at(&self.place)
    }

    async fn attempts<Q, A, F, Fut>(
        &self,
        request: Q,
        deadline: Option<Duration>,
        call: F,
    ) -> Result<A, Failure>
    where
        Q: Clone,
        F: Fn(Api, Request<Q>) -> Fut,
        Fut: Future<Output = Answer<A>>,
    {
        let mut attempt = 0;
        loop {
            let mut message = Request::new(request.clone());
            if let Some(deadline) = deadline {
                message.set_timeout(deadline);
            }
            let status = match call(self.api.clone(), message).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            attempt += 1;
            if !status::is_passing(&status) || attempt == ATTEMPTS {
                return Err(self.failure(&status));
            }
            let wait = status::retry_delay(&status).unwrap_or_else(|| BACKOFF.delay(attempt, chance::byte()));
            tokio::time::sleep(wait.min(BACKOFF.longest)).await;
        }
    }
}
