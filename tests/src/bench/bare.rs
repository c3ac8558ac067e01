//! The bare server that the controller is measured against: the same TLS and HTTP/2, one durable writer, and nothing
//! else. It is this program again, as a process of its own, and ends when whoever started it closes its standard input.

pub(crate) mod client;
mod writer;

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use drover_controller::pki::Authority;
use drover_controller::{random, tls};
use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_domain::id::InstallationId;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

pub use client::once;
use writer::Writer;

/// Everything that is said with a bare server.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(crate) struct Blob {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// Which row.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// How many bytes to answer.
    #[prost(uint32, tag = "3")]
    pub answer: u32,
}

/// How its rows are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// By random keys, as one does without thinking of it.
    Random,
    /// As the registry does it, with its statements.
    Same,
}

/// What a bare server is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct BareArgs {
    #[arg(long)]
    pub data: PathBuf,
    #[arg(long, value_enum)]
    pub layout: Layout,
    /// How many rows there are before anybody comes.
    #[arg(long)]
    pub rows: u64,
    /// How long a row's record is.
    #[arg(long)]
    pub record: usize,
}

/// Serves until standard input ends. Says its address on standard output.
pub async fn serve(args: BareArgs) -> Result<()> {
    let tasks = Tasks::new();
    drover_daemon::atomic::private_directory(&args.data)?;
    let authority =
        Authority::open(&args.data, InstallationId::from_random(random::bytes()), Clock::system())?;
    let tls = tls::server(Arc::new(authority), vec![], &tasks)?;
    let writer = Writer::start(&args)?;
    let (news, _) = broadcast::channel(256);
    let bare = Bare { writer, news, zeros: vec![0; 1 << 20].into() };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let connections = connections(listener, TlsAcceptor::from(tls));
    let server = Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(1024)
        .add_service(bare)
        .serve_with_incoming(connections);
    let ends = async {
        let mut nothing = Vec::new();
        let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
    };
    tokio::select! {
        served = server => served?,
        () = ends => {}
    }
    Ok(())
}

fn connections(
    listener: TcpListener,
    acceptor: TlsAcceptor,
) -> impl Stream<Item = std::io::Result<TlsStream<TcpStream>>> {
    let accept = move |socket: std::io::Result<TcpStream>| {
        let acceptor = acceptor.clone();
        async move {
            let socket = socket.ok()?;
            socket.set_nodelay(true).ok()?;
            acceptor.accept(socket).await.ok().map(Ok)
        }
    };
    TcpListenerStream::new(listener).map(accept).buffer_unordered(256).filter_map(std::future::ready)
}

#[derive(Clone, Debug)]
struct Bare {
    writer: Writer,
    news: broadcast::Sender<Blob>,
    zeros: Bytes,
}

impl NamedService for Bare {
    const NAME: &'static str = "bare.Bare";
}

impl Bare {
    fn answer(&self, size: u32) -> Result<Response<Blob>, Status> {
        let size = usize::try_from(size).unwrap_or(0).min(self.zeros.len());
        Ok(Response::new(Blob { data: self.zeros.slice(..size), ..Blob::default() }))
    }

    async fn write(self, asked: Request<Blob>) -> Result<Response<Blob>, Status> {
        let asked = asked.into_inner();
        let answer = asked.answer;
        self.writer.write(asked.clone()).await?;
        // Nobody may be watching.
        let _ = self.news.send(asked);
        self.answer(answer)
    }

    fn watch(&self) -> impl Stream<Item = Result<Blob, Status>> + Send + use<> {
        let first = futures::stream::once(std::future::ready(Ok(Blob::default())));
        let news = BroadcastStream::new(self.news.subscribe());
        first.chain(news.map(|news| news.map_err(|_| Status::aborted("too slow"))))
    }

    async fn route(self, request: http::Request<Body>) -> http::Response<Body> {
        let mut grpc = Grpc::new(ProstCodec::<Blob, Blob>::default());
        match request.uri().path() {
            client::ECHO => {
                let echo = service_fn(move |asked: Request<Blob>| {
                    std::future::ready(self.answer(asked.get_ref().answer))
                });
                grpc.unary(echo, request).await
            }
            client::WRITE => {
                let write = service_fn(move |asked| self.clone().write(asked));
                grpc.unary(write, request).await
            }
            client::WATCH => {
                let watch =
                    service_fn(move |_: Request<Blob>| std::future::ready(Ok(Response::new(self.watch()))));
                grpc.server_streaming(watch, request).await
            }
            client::TALK => {
                let talk = service_fn(|up: Request<Streaming<Blob>>| {
                    std::future::ready(Ok(Response::new(up.into_inner())))
                });
                grpc.streaming(talk, request).await
            }
            _ => Status::unimplemented("there is nothing else").into_http(),
        }
    }
}

impl tower::Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.clone().route(request).map(Ok).boxed()
    }
}
