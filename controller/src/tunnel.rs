//! Tunnels: streams for bytes that an agent opens when it is asked to. The controller joins the two ends, and a reader
//! that stops makes the node stop too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_domain::id::{NodeId, SessionId};
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message;
use drover_proto::node_v1::{OpenTunnel, TunnelRequest, TunnelResponse};
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status, Streaming};

use crate::error::Error;
use crate::links::Links;
use crate::plane::Plane;
use crate::random;

/// Tunnels that were asked for and not opened yet; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tunnels(Arc<Mutex<HashMap<String, Waiting>>>);

#[derive(Debug)]
struct Waiting {
    node: NodeId,
    opened: oneshot::Sender<Tunnel>,
}

/// The controller's end of an open tunnel. Closed when it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    up: Streaming<TunnelRequest>,
    /// The stream to the agent lives as long as this.
    _down: mpsc::Sender<Result<TunnelResponse, Status>>,
}

/// How long a node may take to open one.
const PATIENCE: Duration = Duration::from_secs(15);
const MOST_WAITING: usize = 1024;

impl Tunnels {
    /// Asks the node for what is wanted of the session; none: of the node itself.
    pub async fn open(
        &self,
        links: &Links,
        node: NodeId,
        session: Option<SessionId>,
        ask: Ask,
    ) -> Result<Tunnel, Error> {
        let id = random::hex(&random::bytes::<16>());
        let (opened, open) = oneshot::channel();
        {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|_, waiting| !waiting.opened.is_closed());
            if waiting.len() >= MOST_WAITING {
                let text = "too many streams are waiting for their nodes";
                return Err(Error::new(Code::ResourceExhausted, "BUSY", text, "try again in a moment")
                    .after(Duration::from_secs(1)));
            }
            waiting.insert(id.clone(), Waiting { node, opened });
        }
        let of = session.map(|session| session.to_string()).unwrap_or_default();
        let order = OpenTunnel { tunnel_id: id, session_id: of, ask: Some(ask) };
        let away = || {
            let hint = "droverctl node ls shows how it stands; what is on it stays there";
            Error::new(Code::Unavailable, "NODE_AWAY", "the node cannot be asked now", hint)
                .after(Duration::from_secs(5))
        };
        if !links.ask(node, order).await {
            return Err(away());
        }
        match tokio::time::timeout(PATIENCE, open).await {
            Ok(Ok(tunnel)) => Ok(tunnel),
            Ok(Err(_)) | Err(_) => Err(away()),
        }
    }

    /// A node opened a tunnel: it is handed to whoever waits for it.
    pub fn opened(&self, node: NodeId, id: &str, tunnel: Tunnel) -> Result<(), Error> {
        let found = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_its = waiting.get(id).is_some_and(|waiting| waiting.node == node);
            if is_its { waiting.remove(id) } else { None }
        };
        let unwanted =
            |_| Error::not_found("TUNNEL_UNKNOWN", "nobody waits for this tunnel", "it came too late");
        match found {
            Some(waiting) => waiting.opened.send(tunnel).map_err(unwanted),
            None => Err(unwanted(tunnel)),
        }
    }
}

impl Tunnel {
    pub fn new(up: Streaming<TunnelRequest>, down: mpsc::Sender<Result<TunnelResponse, Status>>) -> Self {
        Self { up, _down: down }
    }

    /// The next piece. `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<Message>, Status> {
        match self.up.message().await {
            Ok(Some(TunnelRequest { message: Some(Message::End(_)) })) => Ok(None),
            Ok(Some(TunnelRequest { message: Some(Message::Error(error)) })) => Err(refused(&error)),
            Ok(Some(TunnelRequest { message: Some(message) })) => Ok(Some(message)),
            Ok(Some(TunnelRequest { message: None })) => {
                Err(broken("it sent something that this controller does not know"))
            }
            Ok(None) => Err(broken("it closed it before the end")),
            Err(status) => Err(broken(status.message())),
        }
    }
}

/// Everything that a node says to this, and `most` pieces of it at most.
pub async fn said(plane: &Plane, node: NodeId, ask: Ask, most: usize) -> Result<Vec<Message>, Status> {
    let mut tunnel = plane.tunnels.open(&plane.links, node, None, ask).await?;
    let mut said = Vec::new();
    while let Some(message) = tunnel.next().await? {
        said.push(message);
        if said.len() > most {
            return Err(broken("it says more than it has to"));
        }
    }
    Ok(said)
}

fn refused(error: &drover_proto::node_v1::TunnelError) -> Status {
    let code = match Code::from_i32(error.code) {
        Code::Ok => Code::Unknown,
        code => code,
    };
    Error::new(code, "NODE_SAID", error.message.clone(), error.hint.clone()).into()
}

fn broken(why: &str) -> Status {
    let text = format!("the stream from the node broke: {why}");
    Error::new(Code::Unavailable, "NODE_AWAY", text, "ask again from the last position")
        .after(Duration::from_secs(1))
        .into()
}
