//! A collector of traces: takes spans by OTLP over gRPC, and keeps of each whose it is and where it belongs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use drover_daemon::tasks::Tasks;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// A span as far as a test looks at it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub service: String,
    pub name: String,
    /// In hexadecimal digits, as in a trace parent.
    pub trace: String,
    pub id: String,
    pub parent: String,
}

/// Ends with the runtime that it was started in.
#[derive(Clone, Debug)]
pub struct Collector {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let server = Server::builder().add_service(collector.clone());
        let served = server.serve_with_incoming(TcpListenerStream::new(listener));
        Tasks::new().spawn(served);
        collector
    }

    /// The spans of this trace that have arrived.
    pub fn of(&self, trace: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|span| span.trace == trace).cloned().collect()
    }
}

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tower::Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let export = Export(self.clone());
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(export, request).await) })
    }
}

struct Export(Collector);

impl UnaryService<ExportRequest> for Export {
    type Response = ExportResponse;
    type Future = std::future::Ready<Result<Response<ExportResponse>, Status>>;

    fn call(&mut self, request: Request<ExportRequest>) -> Self::Future {
        let arrived = request.into_inner().resource_spans.iter().flat_map(spans).collect::<Vec<_>>();
        self.0.seen.lock().unwrap().extend(arrived);
        std::future::ready(Ok(Response::new(ExportResponse {})))
    }
}

fn spans(from: &ResourceSpans) -> Vec<Seen> {
    let attributes = from.resource.iter().flat_map(|resource| &resource.attributes);
    let service = attributes.filter(|attribute| attribute.key == "service.name");
    let service = service.filter_map(|attribute| attribute.value.as_ref()).map(|value| value.text.clone());
    let service: String = service.collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let all = from.scope_spans.iter().flat_map(|scope| &scope.spans);
    all.map(|span| Seen {
        service: service.clone(),
        name: span.name.clone(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
    })
    .collect()
}

/// What is looked at of OTLP's messages.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
}
