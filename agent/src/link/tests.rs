//! The link against a controller that is only a script, over real TLS: what is told arrives, is stored before it is
//! confirmed, is told again until it is acknowledged, and nothing on the node waits for it.

use std::fs;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;

use drover_domain::converge::{Assignment, LocalRun, Site, Target};
use drover_domain::id::{InstallationId, NodeId, SessionId};
use drover_domain::outcome::Outcome;
use drover_domain::session::Order;
use drover_proto::convert;
use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::link_response::Message as Down;
use drover_proto::node_v1::node_link_service_server::{NodeLinkService, NodeLinkServiceServer};
use drover_proto::node_v1::report::Observation;
use drover_proto::node_v1::tunnel_request::Message as Piece;
use drover_proto::node_v1::*;
use drover_proto::v1::enrollment_service_server::{EnrollmentService, EnrollmentServiceServer};
use drover_proto::v1::{EnrollRequest, EnrollResponse, RenewCertificateRequest, RenewCertificateResponse};
use futures::{Stream, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity as Shown, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::config::{Config, Secret};
use crate::converge::tests::{Agent, Machine, eventually, running};
use crate::facts::{self, Offer};
use crate::identity::Identity;
use crate::identity::join::{self, JoinError};

/// What the script saw.
#[derive(Debug, Default)]
struct Seen {
    hellos: Vec<Hello>,
    cookies_stored: usize,
    beats: u64,
    reports: Vec<Report>,
    pieces: Vec<Piece>,
    /// The link that is open.
    down: Option<mpsc::Sender<Result<LinkResponse, Status>>>,
}

#[derive(Clone, Debug)]
struct Script {
    seen: Arc<Mutex<Seen>>,
    acknowledges: bool,
    installation: InstallationId,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NodeLinkService for Script {
    type LinkStream = Answers<LinkResponse>;
    type TunnelStream = Answers<TunnelResponse>;

    async fn link(
        &self,
        request: Request<Streaming<LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (down, answers) = mpsc::channel(64);
        let (script, mut up) = (self.clone(), request.into_inner());
        #[expect(clippy::disallowed_methods, reason = "the script ends with its test's runtime")]
        tokio::spawn(async move {
            while let Some(Ok(LinkRequest { message: Some(message) })) = up.next().await {
                if let Some(answer) = script.hears(message, &down) {
                    let _ = down.send(Ok(LinkResponse { message: Some(answer) })).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn tunnel(
        &self,
        request: Request<Streaming<TunnelRequest>>,
    ) -> Result<Response<Self::TunnelStream>, Status> {
        let mut up = request.into_inner();
        let seen = self.seen.clone();
        #[expect(clippy::disallowed_methods, reason = "the script ends with its test's runtime")]
        tokio::spawn(async move {
            while let Some(Ok(TunnelRequest { message: Some(piece) })) = up.next().await {
                seen.lock().unwrap().pieces.push(piece);
            }
        });
        Ok(Response::new(Box::pin(futures::stream::pending())))
    }
}

impl Script {
    fn hears(&self, message: Up, down: &mpsc::Sender<Result<LinkResponse, Status>>) -> Option<Down> {
        let mut seen = self.seen.lock().unwrap();
        match message {
            Up::Hello(hello) => {
                seen.hellos.push(hello);
                seen.down = Some(down.clone());
                let short = prost_types::Duration { seconds: 0, nanos: 20_000_000 };
                Some(Down::Welcome(Welcome {
                    heartbeat: Some(short),
                    cookie: vec![u8::try_from(seen.hellos.len()).unwrap(); 32],
                    installation_id: self.installation.to_string(),
                    ..Welcome::default()
                }))
            }
            Up::Heartbeat(beat) => {
                seen.beats += 1;
                Some(Down::HeartbeatSeen(HeartbeatSeen { number: beat.number }))
            }
            Up::Reports(reports) => {
                let sequence = reports.reports.last().map(|report| report.sequence)?;
                seen.reports.extend(reports.reports);
                self.acknowledges.then_some(Down::ReportsAcknowledged(ReportsAcknowledged { sequence }))
            }
            Up::CookieStored(_) => {
                seen.cookies_stored += 1;
                None
            }
        }
    }

    fn says(&self, message: Down) {
        let down = self.seen.lock().unwrap().down.clone().unwrap();
        down.try_send(Ok(LinkResponse { message: Some(message) })).unwrap();
    }

    fn assigns(&self, assignment: &Assignment) {
        let upserts = vec![convert::assignment::to_wire(assignment)];
        self.says(Down::Assignments(Assignments { upserts, ..Assignments::default() }));
    }

    fn hangs_up(&self) {
        let down = self.seen.lock().unwrap().down.take().unwrap();
        down.try_send(Err(Status::unavailable("going away"))).unwrap();
    }

    fn saw<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }
}

/// An authority, the script's certificate and the agent's identity.
struct Papers {
    authority: String,
    server: (String, String),
    node: (String, String),
}

impl Papers {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = parameters.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(parameters, key);
        let sign = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let signed = CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &issuer).unwrap();
            (signed.pem(), key.serialize_pem())
        };
        Self { authority, server: sign(dial::SERVER_NAME), node: sign("node") }
    }

    fn identity(&self) -> Identity {
        Identity {
            node: NodeId::from_random([1; 10]),
            name: "a".into(),
            installation: InstallationId::from_random([2; 10]),
            key: self.node.1.clone(),
            chain: self.node.0.clone(),
            authority: self.authority.clone(),
            valid: (0, i64::MAX),
        }
    }
}

/// A controller that lets in whoever has the token.
struct Door {
    token: String,
    node: String,
    authority: String,
}

#[tonic::async_trait]
impl EnrollmentService for Door {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let request = request.into_inner();
        if request.token != self.token || request.csr.is_empty() {
            return Err(Status::permission_denied("the join token is not valid"));
        }
        Ok(Response::new(EnrollResponse {
            node_id: NodeId::from_random([1; 10]).to_string(),
            name: "door".into(),
            installation_id: InstallationId::from_random([2; 10]).to_string(),
            certificate_chain: self.node.clone(),
            authority: self.authority.clone(),
        }))
    }

    async fn renew_certificate(
        &self,
        _: Request<RenewCertificateRequest>,
    ) -> Result<Response<RenewCertificateResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[test]
fn an_agent_joins_the_controller_that_its_token_is_for_and_no_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (papers, dir) = (Papers::new(), tempfile::tempdir().unwrap());
    let der = x509_parser::pem::parse_x509_pem(papers.authority.as_bytes()).unwrap().1.contents;
    let hash = ring::digest::digest(&ring::digest::SHA256, &der);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!("tok_a.secret.{hash}");
    let (node, authority) = (papers.node.0.clone(), papers.authority.clone());
    let door = Door { token: token.clone(), node, authority };
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let chain = papers.server.0.clone() + &papers.authority;
        let tls = ServerTlsConfig::new().identity(Shown::from_pem(chain, &papers.server.1));
        let server =
            Server::builder().tls_config(tls).unwrap().add_service(EnrollmentServiceServer::new(door));
        Tasks::new().spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    });
    let facts = facts::gather(&Offer::default(), &"this".into());
    let join = |token: &str| {
        let mut config = Config::new(address.to_string(), dir.path(), "/bin/true".into());
        config.join_token = Some(Secret(token.to_owned()));
        runtime.block_on(join::join(&config, &facts, &Tasks::new()))
    };
    let other = format!("tok_a.secret.{}", "00".repeat(32));
    assert!(matches!(join(&other), Err(JoinError::OtherAuthority(_))));
    let guessed = token.replace("secret", "guess");
    assert!(matches!(join(&guessed), Err(JoinError::Refused(no)) if no.message().contains("not valid")));
    assert_eq!(Identity::load(dir.path()).unwrap(), None);
    let joined = join(&token).unwrap().unwrap();
    assert_eq!(joined.name, "door");
    assert_eq!(Identity::load(dir.path()).unwrap(), Some(joined));
}

/// Starts a script and a link of `agent` to it.
fn linked(agent: &Agent, acknowledges: bool, installation: u8) -> (Script, watch::Receiver<Standing>) {
    let papers = Papers::new();
    let installation = InstallationId::from_random([installation; 10]);
    let script = Script { seen: Arc::default(), acknowledges, installation };
    let served = NodeLinkServiceServer::new(script.clone());
    let runtime = agent.runtime.as_ref().unwrap();
    let address: SocketAddr = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Shown::from_pem(&papers.server.0, &papers.server.1))
            .client_ca_root(Certificate::from_pem(&papers.authority));
        let server = Server::builder().tls_config(tls).unwrap().add_service(served);
        agent.converge.means().tasks.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    });
    let (standing, stands) = watch::channel(Standing::Away);
    let (_, identity) = watch::channel(Arc::new(papers.identity()));
    let tasks = agent.converge.means().tasks.clone();
    let link = Link {
        controller: Controller::new(&address.to_string(), identity),
        facts: Arc::new(facts::gather(&Offer::default(), &"this".into())),
        converge: agent.converge.clone(),
        tunnels: Tunnels::new(agent.converge.clone(), tasks.clone()),
        clock: Clock::system(),
        tasks: tasks.clone(),
        standing,
    };
    runtime.spawn(link.keep());
    (script, stands)
}

fn kinds(reports: &[Report]) -> Vec<&'static str> {
    let kind = |report: &Report| match report.observation.as_ref().unwrap() {
        Observation::Progress(_) => "progress",
        Observation::WorkspaceReady(_) => "ready",
        Observation::RunStarted(_) => "started",
        Observation::RunEnded(_) => "ended",
        Observation::RunExtended(_) => "extended",
        Observation::Checkpointed(_) => "checkpointed",
        Observation::Removed(_) => "removed",
        Observation::Faulted(_) => "faulted",
    };
    reports.iter().map(kind).collect()
}

#[test]
fn what_is_assigned_comes_about_is_reported_and_acknowledged() {
    let machine = Machine::new();
    let agent = machine.start();
    let (script, stands) = linked(&agent, true, 2);
    eventually("welcomed", || script.saw(|seen| seen.cookies_stored == 1));
    eventually("linked", || *stands.borrow() == Standing::Linked);
    script.assigns(&machine.assignment(1, running(1)));
    eventually("running", || script.saw(|seen| kinds(&seen.reports) == ["ready", "started"]));
    machine.runs.end(1, Outcome::Failed(3));
    eventually("ended", || script.saw(|seen| kinds(&seen.reports) == ["ready", "started", "ended"]));
    let ended = script.saw(|seen| seen.reports[2].clone());
    assert!(
        matches!(ended.observation, Some(Observation::RunEnded(run)) if run.exit_code == Some(3) && run.ordinal == 1)
    );
    let ledger = agent.converge.means().ledger.clone();
    let runtime = agent.runtime.as_ref().unwrap();
    eventually("acknowledged", || runtime.block_on(ledger.reports(0, 9)).unwrap().is_empty());
}

#[test]
fn what_was_not_acknowledged_is_told_again_and_the_new_cookie_is_shown() {
    let machine = Machine::new();
    let agent = machine.start();
    let (script, _) = linked(&agent, false, 2);
    eventually("welcomed", || script.saw(|seen| seen.cookies_stored == 1));
    script.assigns(&machine.assignment(1, Target::Ready { stop: None }));
    eventually("told", || script.saw(|seen| kinds(&seen.reports) == ["ready"]));
    script.hangs_up();
    // Meanwhile everything goes on.
    agent.assign(&machine.assignment(2, Target::Ready { stop: None }));
    eventually("goes on", || agent.local(2).site == Site::Made);
    eventually("told again", || script.saw(|seen| kinds(&seen.reports) == ["ready", "ready", "ready"]));
    let (sequences, cookie, held) = script.saw(|seen| {
        let sequences: Vec<u64> = seen.reports.iter().map(|report| report.sequence).collect();
        (sequences, seen.hellos[1].cookie.clone(), seen.hellos[1].held.len())
    });
    assert_eq!(sequences, [1, 1, 2]);
    assert_eq!(cookie, [1; 32]);
    assert!(held >= 1);
}

#[test]
fn what_came_in_an_earlier_message_is_not_taken_for_unknown() {
    let machine = Machine::new();
    let agent = machine.start();
    let (script, _) = linked(&agent, true, 2);
    eventually("welcomed", || script.saw(|seen| seen.cookies_stored == 1));
    let id = |number| SessionId::from_random([number; 10]);
    let is_assigned = |number| agent.converge.assignment(id(number)).is_some();
    script.assigns(&machine.assignment(1, Target::Ready { stop: None }));
    script.assigns(&machine.assignment(2, Target::Ready { stop: None }));
    eventually("both came", || is_assigned(1) && is_assigned(2));
    let upserts = vec![convert::assignment::to_wire(&machine.assignment(3, Target::Ready { stop: None }))];
    let others = vec![id(1).to_string()];
    script.says(Down::Assignments(Assignments { upserts, others, complete: true, retired: vec![] }));
    eventually("the second is unknown there", || !is_assigned(2));
    assert!(is_assigned(1) && is_assigned(3));
}

#[test]
fn heartbeats_go_on_while_work_hangs() {
    let machine = Machine::new();
    let agent = machine.start();
    machine.runs.hang();
    let (script, _) = linked(&agent, true, 2);
    eventually("welcomed", || script.saw(|seen| seen.cookies_stored == 1));
    script.assigns(&machine.assignment(1, running(1)));
    eventually("begun", || matches!(agent.local(1).site, Site::Made));
    let beats = script.saw(|seen| seen.beats);
    eventually("they go on", || script.saw(|seen| seen.beats > beats + 5));
    assert_eq!(agent.local(1).run, LocalRun::None);
}

#[test]
fn a_controller_of_another_installation_is_refused() {
    let machine = Machine::new();
    let agent = machine.start();
    let (script, stands) = linked(&agent, true, 3);
    eventually(
        "refused",
        || matches!(&*stands.borrow(), Standing::Refused(why) if why.contains("belongs to")),
    );
    assert_eq!(script.saw(|seen| seen.cookies_stored), 0);
}

#[test]
fn a_tunnel_brings_the_difference_and_what_a_removal_would_find() {
    let machine = Machine::new();
    let agent = machine.start();
    let (script, _) = linked(&agent, true, 2);
    eventually("welcomed", || script.saw(|seen| seen.cookies_stored == 1));
    script.assigns(&machine.assignment(1, Target::Ready { stop: None }));
    eventually("ready", || agent.local(1).site == Site::Made);
    fs::write(machine.worktree(1).join("new.txt"), "hello\n").unwrap();
    let ask = |session: u8, ask| {
        let session_id = SessionId::from_random([session; 10]).to_string();
        script.says(Down::OpenTunnel(OpenTunnel { tunnel_id: "t1".into(), session_id, ask: Some(ask) }));
    };
    ask(1, open_tunnel::Ask::ReadDiff(ReadDiff { stat: false }));
    eventually("the diff", || script.saw(|seen| matches!(seen.pieces.last(), Some(Piece::End(_)))));
    let pieces = script.saw(|seen| seen.pieces.clone());
    assert!(matches!(&pieces[0], Piece::Open(open) if open.tunnel_id == "t1"));
    assert!(
        matches!(&pieces[1], Piece::Diff(text) if String::from_utf8_lossy(text).contains("+hello")),
        "{pieces:?}"
    );
    ask(1, open_tunnel::Ask::ReadWork(ReadWork::default()));
    eventually("the work", || {
        script
            .saw(|seen| seen.pieces.iter().any(|piece| matches!(piece, Piece::Work(work) if work.saves_work)))
    });
    ask(9, open_tunnel::Ask::ReadDiff(ReadDiff { stat: false }));
    eventually("a clear no", || {
        script.saw(|seen| {
            seen.pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Error(no) if no.reason == "SESSION_NOT_ON_NODE"))
        })
    });
}

#[test]
fn what_a_restarted_agent_still_has_to_tell_it_tells() {
    let machine = Machine::new();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, running(1)));
    eventually("live", || matches!(agent.local(1).run, LocalRun::Live(Order { ordinal: 1, .. })));
    agent.dies();
    let agent = machine.start();
    let (script, _) = linked(&agent, true, 2);
    eventually("told", || script.saw(|seen| kinds(&seen.reports) == ["ready", "started"]));
    let held = script.saw(|seen| seen.hellos[0].held.clone());
    assert!(held.len() == 1 && held[0].has_workspace && !held[0].run_id.is_empty());
}
