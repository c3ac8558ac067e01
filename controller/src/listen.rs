//! The listener: connections are counted, must say something soon, and are served until they or the program end. tonic's
//! own accept loop spins when descriptors run out and keeps silent connections for ever; this one does neither.
//!
//! At the limit the connection that has been silent for longest makes room; if all of them speak, the newcomer is
//! closed at once and may come again.

mod first;
mod strangers;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use drover_daemon::tasks::Tasks;
use drover_domain::id::NodeId;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::process::{Resource, getrlimit};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::pki;
use first::{Begun, Protocol};
use strangers::{Place, Strangers};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// By its certificate, which was verified.
    pub node: Option<NodeId>,
}

/// What one listener puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once, if the process may open so many files.
    pub connections: usize,
    /// A connection must have finished its handshake and begun to speak HTTP by then.
    pub handshake: Duration,
    pub streams: u32,
    /// How long connections may go on once the program ends.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            handshake: Duration::from_secs(10),
            streams: 1024,
            drain: Duration::from_secs(5),
        }
    }
}

const HEADERS: u32 = 32 * 1024;
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Descriptors that connections must leave to the registry and to everything else.
const OTHER_FILES: u64 = 256;
/// How long the loop rests when nothing can be accepted, growing from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Accepts until the tasks are told to end.
pub async fn run(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    limits: Limits,
    tasks: Tasks,
) {
    let slots = Arc::new(Semaphore::new(affordable(limits.connections)));
    let strangers = Strangers::default();
    let door = Door { acceptor: TlsAcceptor::from(tls), router, limits, tasks, slots, strangers };
    let mut pause = PAUSE.0;
    let mut was_full = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = door.tasks.cancelled() => return,
        };
        match accepted {
            Ok((socket, address)) => {
                pause = PAUSE.0;
                let is_full = !door.admit(socket, address).await;
                if is_full && !was_full {
                    tracing::warn!(
                        limit = door.limits.connections,
                        "no room for more connections: new ones are closed"
                    );
                }
                was_full = is_full;
            }
            // That one left while it was accepted; the next one has not.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!("no connection can be accepted now: {error}");
                door.strangers.evict();
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                    () = door.tasks.cancelled() => return,
                }
            }
        }
    }
}

/// As many connections as are wanted, or as descriptors allow.
fn affordable(wanted: usize) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let most = usize::try_from(files.saturating_sub(OTHER_FILES).max(files / 2)).unwrap_or(usize::MAX);
    if most < wanted {
        tracing::info!(
            "at most {most} connections at once: this process may open {files} files (ulimit -n, LimitNOFILE=)"
        );
    }
    wanted.min(most)
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    acceptor: TlsAcceptor,
    router: Router,
    limits: Limits,
    tasks: Tasks,
    slots: Arc<Semaphore>,
    strangers: Strangers,
}

impl Door {
    /// `false`: there was no room.
    async fn admit(&self, socket: TcpStream, address: SocketAddr) -> bool {
        let Some(slot) = self.slot().await else { return false };
        let (door, place) = (self.clone(), self.strangers.enter());
        self.tasks.spawn(async move {
            door.serve(socket, address, place).await;
            drop(slot);
        });
        true
    }

    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Some(slot);
        }
        if !self.strangers.evict() {
            return None;
        }
        tokio::select! {
            slot = self.slots.clone().acquire_owned() => slot.ok(),
            () = self.tasks.cancelled() => None,
        }
    }

    async fn serve(self, socket: TcpStream, address: SocketAddr, mut place: Place) {
        // Small messages must not wait for each other.
        let _ = socket.set_nodelay(true);
        let begun = tokio::select! {
            begun = tokio::time::timeout(self.limits.handshake, self.begin(socket)) => begun,
            _ = &mut place.evicted => return tracing::debug!(%address, "it was silent, and others needed the room"),
            () = self.tasks.cancelled() => return,
        };
        match begun {
            Ok(Ok(begun)) if place.settle() => self.converse(begun, address).await,
            Ok(Ok(_)) => tracing::debug!(%address, "it spoke too late, others needed the room"),
            Ok(Err(error)) => tracing::debug!(%address, "the handshake failed: {error}"),
            Err(_) => tracing::debug!(%address, "the handshake took too long"),
        }
    }

    async fn begin(&self, socket: TcpStream) -> io::Result<Conversation> {
        let stream = self.acceptor.accept(socket).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let node = certificate.and_then(|certificate| pki::node_of(certificate));
        let (protocol, stream) = first::begin(stream).await?;
        Ok(Conversation { node, protocol, stream })
    }

    async fn converse(self, begun: Conversation, address: SocketAddr) {
        let peer = Peer { address, node: begun.node };
        let router = self.router;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let router = router.clone();
            async move {
                let answer = router.oneshot(request.map(Body::new)).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|never| match never {}))
            }
        });
        let builder = builder(begun.protocol, self.limits.streams);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(begun.stream), service));
        tokio::select! {
            ended = connection.as_mut() => return log_end(address, ended),
            () = self.tasks.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        if let Ok(ended) = tokio::time::timeout(self.limits.drain, connection).await {
            log_end(address, ended);
        }
    }
}

/// A connection on which HTTP begins.
struct Conversation {
    node: Option<NodeId>,
    protocol: Protocol,
    stream: Begun<TlsStream<TcpStream>>,
}

fn builder(protocol: Protocol, streams: u32) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10)).max_headers(100);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(streams)
        .max_header_list_size(HEADERS)
        .max_pending_accept_reset_streams(64)
        .adaptive_window(false)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    }
}

fn log_end<E: std::fmt::Display>(address: SocketAddr, ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%address, "the connection ended: {error}");
    }
}
