//! The agents' side of the API: the link, on which assignments go down and reports come up, and the tunnels.

mod conversation;

use std::pin::Pin;
use std::time::Duration;

use drover_domain::id::NodeId;
use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::node_link_service_server::NodeLinkService;
use drover_proto::node_v1::tunnel_request::Message as TunnelUp;
use drover_proto::node_v1::{Hello, LinkRequest, LinkResponse, TunnelRequest, TunnelResponse};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::access::node_of;
use crate::error::Error;
use crate::plane::Plane;
use crate::tunnel::Tunnel;

/// The protocol that this controller speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// How long an agent may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct LinkHandler(pub Plane);

type Down<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NodeLinkService for LinkHandler {
    type LinkStream = Down<LinkResponse>;
    type TunnelStream = Down<TunnelResponse>;

    async fn link(
        &self,
        request: Request<Streaming<LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let node = node_of(&request)?;
        let mut up = request.into_inner();
        let hello = hello(&mut up).await?;
        let (down, stream) = mpsc::channel(64);
        let begun = conversation::Conversation::begin(self.0.clone(), node, hello, down).await;
        let conversation = begun.inspect_err(|error| {
            if matches!(error.reason, "NODE_LINKED" | "NODE_COPIED_OR_ROLLED_BACK" | "REGISTRY_OLDER") {
                tracing::warn!(%node, "{}", error.text);
                self.0.links.refused(node, self.0.clock.boot(), &error.text, &error.hint);
            }
        })?;
        self.0.tasks.spawn(conversation.hold(up));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn tunnel(
        &self,
        request: Request<Streaming<TunnelRequest>>,
    ) -> Result<Response<Self::TunnelStream>, Status> {
        let node: NodeId = node_of(&request)?;
        let mut up = request.into_inner();
        let first = tokio::time::timeout(PATIENCE, up.message()).await.map_err(|_| silent())??;
        let Some(TunnelRequest { message: Some(TunnelUp::Open(open)) }) = first else {
            return Err(Error::invalid("message", "the first must be open").into());
        };
        let (down, stream) = mpsc::channel(4);
        self.0.tunnels.opened(node, &open.tunnel_id, Tunnel::new(up, down))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

async fn hello(up: &mut Streaming<LinkRequest>) -> Result<Hello, Status> {
    let first = tokio::time::timeout(PATIENCE, up.message()).await.map_err(|_| silent())??;
    let Some(LinkRequest { message: Some(Up::Hello(hello)) }) = first else {
        return Err(Error::invalid("message", "the first must be hello").into());
    };
    if hello.protocol_version != PROTOCOL_VERSION {
        let text = format!(
            "this controller speaks version {PROTOCOL_VERSION} of the link, the agent {}",
            hello.protocol_version
        );
        let hint = "bring agent and controller to versions that are at most one apart";
        return Err(Error::new(Code::FailedPrecondition, "PROTOCOL_VERSION", text, hint).into());
    }
    Ok(hello)
}

fn silent() -> Status {
    Error::new(Code::DeadlineExceeded, "SILENT", "the first message did not come", "").into()
}
