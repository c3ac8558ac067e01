//! Tunnels: streams for bytes that the controller asks for and the agent dials, each on a connection of its own, so that
//! a reader that stops holds up nobody else. What is read waits for whoever reads; nothing piles up.

mod answer;
mod inventory;
mod logs;
mod preview;
mod remains;
mod saved;

use std::sync::Arc;

use drover_daemon::tasks::Tasks;
use drover_proto::node_v1::tunnel_request::Message as Up;
use drover_proto::node_v1::{OpenTunnel, TunnelEnd, TunnelOpen, TunnelRequest};
use futures::{StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::converge::Converge;
use crate::inventory::Probe;
use crate::link::Controller;
use answer::Trouble;

/// Opens tunnels; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tunnels {
    converge: Converge,
    tasks: Tasks,
    probe: Probe,
    room: Arc<Semaphore>,
}

/// How many tunnels there may be at once.
const MOST: usize = 256;
/// Pieces on their way in one tunnel.
const QUEUE: usize = 4;

impl Tunnels {
    pub fn new(converge: Converge, tasks: Tasks) -> Self {
        let probe = Probe::new(converge.clone());
        Self { converge, tasks, probe, room: Arc::new(Semaphore::new(MOST)) }
    }

    /// Opens one and serves it, beside everything else.
    pub fn open(&self, controller: Controller, ask: OpenTunnel) {
        let (tunnels, tasks) = (self.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            let served = tunnels.serve(&controller, ask);
            tokio::select! { () = served => {}, () = tasks.cancelled() => {} }
        });
    }

    async fn serve(&self, controller: &Controller, ask: OpenTunnel) {
        let id = ask.tunnel_id.clone();
        let room = self.room.clone().try_acquire_owned();
        let mut client = match controller.client().await {
            Ok(client) => client,
            Err(error) => return tracing::warn!(tunnel = id, "cannot open a tunnel: {error}"),
        };
        let (out, pieces) = mpsc::channel(QUEUE);
        let open = message(Up::Open(TunnelOpen { tunnel_id: id.clone() }));
        let up = stream::iter([open]).chain(ReceiverStream::new(pieces));
        let answer = async {
            let result = match room {
                Ok(_) => self.answer(&ask, &out).await,
                Err(_) => Err(Trouble::Busy(MOST)),
            };
            let last = match result {
                Ok(()) => Up::End(TunnelEnd {}),
                Err(Trouble::NobodyListens) => return,
                Err(trouble) => Up::Error(trouble.told()),
            };
            // Nobody hears it if the tunnel is gone.
            drop(out.send(message(last)).await);
        };
        let listen = async {
            let down = client.tunnel(up).await?.into_inner();
            // The controller says nothing in a tunnel but that it is over.
            down.take(1).for_each(|_| async {}).await;
            Ok::<(), tonic::Status>(())
        };
        tokio::pin!(listen, answer);
        tokio::select! {
            closed = &mut listen => if let Err(status) = closed {
                tracing::warn!(tunnel = id, "the tunnel broke: {}", status.message());
            },
            // What was said is on its way: the stream ends when the controller has it.
            () = &mut answer => drop(listen.await),
        }
    }
}

fn message(message: Up) -> TunnelRequest {
    TunnelRequest { message: Some(message) }
}
