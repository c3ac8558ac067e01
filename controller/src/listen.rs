//! The listener: connections are counted, must say something soon, and are served until they or the program end. tonic's
//! own accept loop spins when descriptors run out and keeps silent connections for ever; this one does neither.

use std::convert::Infallible;
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
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::pki;

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
    pub connections: usize,
    /// A connection must have finished its handshake by then.
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

/// Accepts until the tasks are told to end.
pub async fn run(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    limits: Limits,
    tasks: Tasks,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let permit = tokio::select! {
            permit = slots.clone().acquire_owned() => permit,
            () = tasks.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.cancelled() => return,
        };
        let (Ok(permit), accepted) = (permit, accepted) else { return };
        match accepted {
            Ok((socket, address)) => {
                let one = Connection {
                    acceptor: acceptor.clone(),
                    router: router.clone(),
                    limits,
                    tasks: tasks.clone(),
                };
                tasks.spawn(async move {
                    one.serve(socket, address).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, or a connection that ended while it was accepted: either passes.
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

struct Connection {
    acceptor: TlsAcceptor,
    router: Router,
    limits: Limits,
    tasks: Tasks,
}

impl Connection {
    async fn serve(self, socket: TcpStream, address: SocketAddr) {
        // Small messages must not wait for each other.
        let _ = socket.set_nodelay(true);
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.limits.handshake, self.acceptor.accept(socket)) => shaken,
            () = self.tasks.cancelled() => return,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%address, "the TLS handshake failed: {error}"),
            Err(_) => return tracing::debug!(%address, "the TLS handshake took too long"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = Peer { address, node: certificate.and_then(|certificate| pki::node_of(certificate)) };
        let router = self.router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let router = router.clone();
            async move {
                let answer = router.oneshot(request.map(Body::new)).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|never| match never {}))
            }
        });
        let builder = builder(self.limits.streams);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection.as_mut() => return log_end(address, ended),
            () = self.tasks.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        if let Ok(ended) = tokio::time::timeout(self.limits.drain, connection).await {
            log_end(address, ended);
        }
    }
}

fn builder(streams: u32) -> auto::Builder<TokioExecutor> {
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
    builder
}

fn log_end<E: std::fmt::Display>(address: SocketAddr, ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%address, "the connection ended: {error}");
    }
}
