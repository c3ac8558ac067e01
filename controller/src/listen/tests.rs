//! The listener against clients that are silent, talk nonsense, come in crowds, or show bad certificates.

use std::path::Path;

use axum::Extension;
use axum::routing::get;
use drover_daemon::clock::Clock;
use drover_domain::id::InstallationId;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::pki::{Authority, SERVER_NAME};

const LONG: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(20);

struct World {
    directory: tempfile::TempDir,
    authority: Arc<Authority>,
    address: SocketAddr,
    tasks: Tasks,
    /// Lets `/slow` answer.
    go: Arc<Notify>,
    /// `/slow` was asked.
    asked: Arc<Notify>,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn authority(directory: &Path, clock: Clock) -> Arc<Authority> {
    Arc::new(Authority::open(directory, InstallationId::from_random([1; 10]), clock).unwrap())
}

async fn world(limits: Limits) -> World {
    let directory = tempfile::tempdir().unwrap();
    let (tasks, go, asked) = (Tasks::new(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let authority = authority(directory.path(), Clock::system());
    let tls = crate::tls::server(authority.clone(), vec![], &tasks).unwrap();
    let (wait, tell) = (go.clone(), asked.clone());
    let slow = move || async move {
        tell.notify_one();
        wait.notified().await;
        "done"
    };
    let who = |Extension(peer): Extension<Peer>| async move { format!("{:?}", peer.node) };
    let (_, health) = tonic_health::server::health_reporter();
    let calls = tonic::service::Routes::new(health).into_axum_router();
    let router = calls.route("/who", get(who)).route("/slow", get(slow));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(run(listener, tls, router, limits, tasks.clone()));
    World { directory, authority, address, tasks, go, asked }
}

impl World {
    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn tls(&self, identity: Option<Identity>) -> io::Result<ClientStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.der().to_vec())).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        };
        let socket = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(SERVER_NAME).unwrap(), socket).await
    }

    /// What `/who` says to somebody with this certificate.
    async fn who(&self, identity: Option<Identity>) -> io::Result<String> {
        let mut stream = self.tls(identity).await?;
        ask(&mut stream, "/who").await
    }
}

async fn ask(stream: &mut ClientStream<TcpStream>, path: &str) -> io::Result<String> {
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await?;
    Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned())
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it comes to an end")
}

/// The other side hung up, in whatever way.
async fn is_ended(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
}

/// A key with a certificate for node 7 from `authority`.
fn identity(authority: &Authority) -> (NodeId, Identity) {
    let (node, key) = (NodeId::from_random([7; 10]), KeyPair::generate().unwrap());
    let request = CertificateParams::new(Vec::<String>::new()).unwrap().serialize_request(&key).unwrap();
    let chain = authority.sign_node(request.der(), node).unwrap();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    (node, (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap()))
}

#[tokio::test]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let world = world(Limits { connections: 32, handshake: LONG, ..Limits::default() }).await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(world.tcp().await);
    }
    // These are through their handshake, and silent all the same.
    for _ in 0..40 {
        crowd.push(world.tls(None).await.unwrap().into_inner().0);
    }
    for _ in 0..5 {
        assert_eq!(soon(world.who(None)).await.unwrap(), "None");
    }
    // The first of the crowd made room.
    is_ended(&mut crowd[0]).await;
}

#[tokio::test]
async fn when_all_of_them_speak_a_newcomer_is_closed_and_may_come_again() {
    let world = world(Limits { connections: 1, handshake: LONG, ..Limits::default() }).await;
    let mut busy = world.tls(None).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    soon(world.asked.notified()).await;
    assert!(soon(world.tls(None)).await.is_err());
    world.go.notify_one();
    is_ended(&mut busy).await;
    // The place is free as soon as the other end has seen it too.
    let again = async {
        loop {
            if let Ok(answer) = world.who(None).await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(soon(again).await, "None");
}

#[tokio::test]
async fn who_says_nothing_or_half_a_preface_is_ended_at_the_deadline() {
    let world = world(Limits { handshake: Duration::from_millis(300), ..Limits::default() }).await;
    is_ended(&mut world.tcp().await).await;
    let mut shaken = world.tls(None).await.unwrap();
    is_ended(&mut shaken).await;
    let mut half = world.tls(None).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    is_ended(&mut half).await;
}

#[tokio::test]
async fn nonsense_instead_of_a_handshake_harms_nobody_else() {
    let world = world(Limits { handshake: LONG, ..Limits::default() }).await;
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"\x16\x03\x01\xff\xff", b""] {
        let mut socket = world.tcp().await;
        let _ = socket.write_all(nonsense).await;
        socket.shutdown().await.unwrap();
        is_ended(&mut socket).await;
    }
    assert_eq!(world.who(None).await.unwrap(), "None");
}

#[tokio::test]
async fn a_node_is_known_by_its_certificate_over_both_kinds_of_http() {
    let world = world(Limits::default()).await;
    let (node, identity) = identity(&world.authority);
    assert_eq!(world.who(Some(identity)).await.unwrap(), format!("{:?}", Some(node)));
    let tls = tonic::transport::ClientTlsConfig::new()
        .domain_name(SERVER_NAME)
        .ca_certificate(tonic::transport::Certificate::from_pem(world.authority.certificate()));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", world.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn certificates_that_are_foreign_expired_or_of_tomorrow_are_refused() {
    let world = world(Limits::default()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = authority(elsewhere.path(), Clock::system());
    let day = Duration::from_secs(24 * 3600);
    let now = Clock::system().wall_millis();
    let days = |count: i64| Clock::manual(now + count * i64::try_from(day.as_millis()).unwrap());
    let (past, future) =
        (authority(world.directory.path(), days(-2)), authority(world.directory.path(), days(2)));
    for (what, signer) in [("foreign", &foreign), ("expired", &past), ("early", &future)] {
        let (_, identity) = identity(signer);
        assert!(soon(world.who(Some(identity))).await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn at_the_end_what_was_begun_is_answered_and_what_hangs_is_cut() {
    let world = world(Limits { drain: Duration::from_secs(5), ..Limits::default() }).await;
    let mut stream = world.tls(None).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    soon(world.asked.notified()).await;
    world.tasks.cancel();
    world.go.notify_one();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    assert!(world.tasks.shutdown(SOON).await);

    let world = self::world(Limits { drain: Duration::from_millis(100), ..Limits::default() }).await;
    let mut stream = world.tls(None).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    soon(world.asked.notified()).await;
    assert!(world.tasks.shutdown(SOON).await);
    is_ended(&mut stream).await;
}
