//! A controller that says what a test told it to say, over real TLS: what the binary prints of it is then the same every
//! time. It keeps what it was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut};
use drover_proto::v1::watch_sessions_response::Item;
use drover_proto::v1::{
    Placement, Session, SessionSpec, SessionState, SessionWanted, WatchSessionsResponse, Workspace,
};
use prost::Message;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::runtime::Runtime;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, ServerStreamingService};
use tonic::service::Routes;
use tonic::transport::{Identity, Server as Transport, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::world::{Ran, World, text};

/// What it says to a call: messages, or a refusal.
type Answer = Result<Vec<Vec<u8>>, Status>;

#[derive(Default)]
struct Script {
    /// By the call's name. The last answer stays.
    answers: HashMap<String, Vec<Answer>>,
    heard: Vec<(String, Vec<u8>)>,
}

pub struct Server {
    script: Arc<Mutex<Script>>,
    address: String,
    ca: String,
    _runtime: Runtime,
}

impl Server {
    pub fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let identity = Identity::from_pem(cert.pem(), signing_key.serialize_pem());
        let script = Arc::new(Mutex::new(Script::default()));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let told = script.clone();
        let routes = Routes::from(axum::Router::new().fallback(move |request| says(told.clone(), request)));
        let serving = Transport::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_routes(routes)
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(async move { serving.await.unwrap() });
        Self { script, address, ca: cert.pem(), _runtime: runtime }
    }

    /// To be said to the next call of this name, and to all after it if there is nothing else.
    pub fn says(&self, call: &str, answer: &impl Message) -> &Self {
        self.add(call, Ok(vec![answer.encode_to_vec()]))
    }

    /// To be said as a stream.
    pub fn streams(&self, call: &str, answers: &[impl Message]) -> &Self {
        self.add(call, Ok(answers.iter().map(Message::encode_to_vec).collect()))
    }

    /// To be said as a refusal of this kind.
    pub fn refuses(&self, call: &str, (code, reason): (Code, &str), words: &str, hint: &str) -> &Self {
        let metadata = [("hint".to_owned(), hint.to_owned())];
        let details = ErrorDetails::with_error_info(reason, "drover.dev", metadata);
        self.add(call, Err(Status::with_error_details(code, words, details)))
    }

    fn add(&self, call: &str, answer: Answer) -> &Self {
        self.script.lock().unwrap().answers.entry(call.to_owned()).or_default().push(answer);
        self
    }

    /// What it was asked by calls of this name.
    pub fn heard<T: Message + Default>(&self, call: &str) -> Vec<T> {
        let script = self.script.lock().unwrap();
        let asked = script.heard.iter().filter(|(name, _)| name == call);
        asked.map(|(_, bytes)| T::decode(bytes.as_slice()).unwrap()).collect()
    }

    /// The binary with these arguments, as a client of this controller.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let world = World::new();
        let ca = world.write("ca.pem", &self.ca);
        let to = ["--server", &self.address, "--ca", text(&ca), "--token", "t"];
        let ran = world.run(&[&to, arguments].concat());
        Ran { stderr: ran.stderr.replace(&self.address, "ADDRESS"), ..ran }
    }

    /// Everything that a person would see, without points in time.
    pub fn shown(&self, arguments: &[&str]) -> String {
        without_times(&self.run(arguments).all())
    }
}

/// Every `2026-11-24T10:00:00Z` as `TIME`.
fn without_times(text: &str) -> String {
    let mut rest = text;
    let mut shown = String::new();
    while let Some(at) = rest.find('T') {
        let stamp = at.checked_sub(10).and_then(|from| rest.get(from..from + 20));
        match stamp.filter(|stamp| stamp.ends_with('Z') && stamp.starts_with("20")) {
            Some(_) => {
                shown.push_str(&rest[..at - 10]);
                shown.push_str("TIME");
                rest = &rest[at + 10..];
            }
            None => {
                shown.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
            }
        }
    }
    shown + rest
}

async fn says(
    script: Arc<Mutex<Script>>,
    request: axum::extract::Request,
) -> Result<axum::response::Response, Infallible> {
    let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let answer = Grpc::new(Bytes).server_streaming(Saying { script, call }, request).await;
    Ok(answer.map(axum::body::Body::new))
}

struct Saying {
    script: Arc<Mutex<Script>>,
    call: String,
}

type Said = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

impl ServerStreamingService<Vec<u8>> for Saying {
    type Response = Vec<u8>;
    type ResponseStream = Said;
    type Future = std::future::Ready<Result<Response<Said>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let mut script = self.script.lock().unwrap();
        script.heard.push((self.call.clone(), request.into_inner()));
        let answers = script.answers.entry(self.call.clone()).or_default();
        let answer = if answers.len() > 1 { Some(answers.remove(0)) } else { answers.first().cloned() };
        let unknown = || Err(Status::unimplemented(format!("the test says nothing to {}", self.call)));
        std::future::ready(answer.unwrap_or_else(unknown).map(|messages| {
            let stream: Said = Box::pin(tokio_stream::iter(messages.into_iter().map(Ok)));
            Response::new(stream)
        }))
    }
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; from.remaining()];
        from.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// A point in time by this machine's clock. A few seconds are added, so that its age in words stays the same for a while.
pub fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    let now = drover_daemon::clock::Clock::system().wall_millis() / 1000;
    Some(prost_types::Timestamp { seconds: now - seconds, nanos: 0 })
}

/// A session as the controller tells of it.
pub fn session(name: &str, state: SessionState, wanted: SessionWanted) -> Session {
    Session {
        id: "ses_abcdefgh23456777".into(),
        name: name.into(),
        project: "default".into(),
        owner: "operator".into(),
        create_time: ago(3630),
        state: state.into(),
        state_time: ago(630),
        wanted: wanted.into(),
        placement: Some(Placement { node: "node-a".into(), ..Default::default() }),
        spec: Some(SessionSpec {
            repository: "https://example.org/app.git".into(),
            base: "main".into(),
            command: vec!["my-agent".into(), "fix it".into()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The same with a workspace.
pub fn placed(name: &str, state: SessionState, wanted: SessionWanted) -> Session {
    let workspace =
        Workspace { path: "/w/fix".into(), branch: format!("drover/{name}"), base_commit: "c0ffee12".into() };
    Session { workspace: Some(workspace), ..session(name, state, wanted) }
}

/// A session as a watcher is told of it.
pub fn watched(session: Session) -> WatchSessionsResponse {
    WatchSessionsResponse { resume_position: "1-1".into(), item: Some(Item::Session(session)) }
}
