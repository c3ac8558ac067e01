//! One link from its hello to its end. Assignments are state: what a node should hold is compared with what it was told,
//! and the difference is sent. Reports are acknowledged only when their effect is durable.

use std::collections::HashMap;
use std::sync::Arc;

use drover_domain::actor::Actor;
use drover_domain::command::{Command, Wish};
use drover_domain::converge::Assignment;
use drover_domain::fleet::Answer;
use drover_domain::id::{NodeId, SessionId};
use drover_domain::node::Standing;
use drover_domain::session::State;
use drover_proto::convert::time::length;
use drover_proto::convert::{assignment, node, report};
use drover_proto::node_v1;
use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::link_response::Message as Down;
use drover_proto::node_v1::{
    Assignments, HeartbeatSeen, Hello, LinkRequest, LinkResponse, Report, ReportsAcknowledged, Welcome,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::PROTOCOL_VERSION;
use crate::error::Error;
use crate::links::Connected;
use crate::plane::Plane;
use crate::random;
use crate::registry::{Done, Published};

pub(super) struct Conversation {
    plane: Plane,
    node: NodeId,
    connected: Connected,
    down: mpsc::Sender<Result<LinkResponse, Status>>,
    reports: mpsc::Sender<Vec<Report>>,
    /// What the node was told last, by session.
    told: HashMap<SessionId, Assignment>,
    /// The revision that `told` is of.
    seen: u64,
}

/// How large a message of assignments becomes before another one is begun: a quarter of what the agent takes, as one
/// assignment alone may be half a mebibyte.
const MESSAGE: usize = 1024 * 1024;
/// Batches of reports on their way to the writer; the agent keeps the rest.
const BATCHES: usize = 64;

impl Conversation {
    /// Takes the agent for who its certificate says it is, if its cookie says so too, and tells it everything.
    pub(super) async fn begin(
        plane: Plane,
        node: NodeId,
        hello: Hello,
        down: mpsc::Sender<Result<LinkResponse, Status>>,
    ) -> Result<Self, Error> {
        let facts = node::facts_from("facts", &hello.facts.unwrap_or_default())?;
        let incarnation = facts.incarnation.clone();
        if plane.links.has_rival(node, &incarnation, plane.clock.boot(), plane.terms.heartbeat * 2) {
            return Err(rival(&plane, node));
        }
        let cookie = random::bytes::<32>();
        let shown = (!hello.cookie.is_empty()).then(|| random::hash(&hello.cookie));
        let witness = Box::new(node::witness_from(&hello.held, hello.acknowledged));
        let wish = Wish::Link { node, facts: Box::new(facts), shown, next: random::hash(&cookie), witness };
        let command = Command { actor: Actor::Node(node), trace: None, wish };
        let Done::Fresh(Answer::Node(known)) = plane.registry.submit(command, None).await? else {
            return Err(Error::new(Code::Internal, "INTERNAL", "the link was not answered", ""));
        };
        let connected = plane.links.connect(node, &incarnation, plane.clock.boot());
        let (reports, batches) = mpsc::channel(BATCHES);
        let reporter = Reporter { plane: plane.clone(), node, down: down.clone() };
        let ends = connected.ends.clone();
        plane.tasks.spawn(async move {
            reporter.run(batches).await;
            ends.cancel();
        });
        let welcome = welcome(&plane, &known.name.to_string(), cookie, known.acknowledged);
        let mut begun = Self { plane, node, connected, down, reports, told: HashMap::new(), seen: 0 };
        begun.send(Down::Welcome(welcome)).await;
        let held: Vec<SessionId> =
            hello.held.iter().filter_map(|held| held.session_id.parse().ok()).collect();
        let published = begun.plane.registry.now();
        let retired = begun.retired(&published, &held).await?;
        begun.tell_all(&published, retired).await;
        Ok(begun)
    }

    /// Holds the link until one side ends it.
    pub(super) async fn hold(mut self, mut up: Streaming<LinkRequest>) {
        let mut revision = self.plane.registry.revision();
        let shutdown = self.plane.tasks.token();
        let why = loop {
            let went = tokio::select! {
                message = up.message() => match message {
                    Ok(Some(LinkRequest { message })) => self.heard(message).await,
                    Ok(None) => break None,
                    Err(_) => break None,
                },
                Some(open) = self.connected.opens.recv() => self.send(Down::OpenTunnel(open)).await,
                changed = revision.changed() => match changed {
                    Ok(()) => {
                        revision.borrow_and_update();
                        self.sync().await
                    }
                    Err(_) => break Some(gone("the controller is shutting down")),
                },
                () = self.connected.ends.cancelled() => break Some(gone("another link took the place of this one, or the node was revoked")),
                () = shutdown.cancelled() => break Some(gone("the controller is shutting down")),
            };
            if !went {
                break None;
            }
        };
        if let Some(why) = why {
            // An agent that left already does not need to hear it.
            let _ = self.down.try_send(Err(why));
        }
    }

    /// `false`: nobody listens any more.
    async fn send(&self, message: Down) -> bool {
        self.down.send(Ok(LinkResponse { message: Some(message) })).await.is_ok()
    }

    async fn heard(&mut self, message: Option<Up>) -> bool {
        let now = self.plane.clock.boot();
        match message {
            Some(Up::Heartbeat(beat)) => {
                self.plane.links.heard(self.node, now, beat.load);
                self.send(Down::HeartbeatSeen(HeartbeatSeen { number: beat.number })).await
            }
            Some(Up::Reports(batch)) => {
                self.plane.links.heard(self.node, now, None);
                self.reports.send(batch.reports).await.is_ok()
            }
            Some(Up::CookieStored(_)) | None => true,
            // A second hello is a mistake of the agent's; its link begins anew.
            Some(Up::Hello(_)) => false,
        }
    }

    async fn sync(&mut self) -> bool {
        let published = self.plane.registry.now();
        let fleet = &published.fleet;
        if fleet.node(self.node).is_none_or(|node| node.standing == Standing::Revoked) {
            self.connected.ends.cancel();
            return true;
        }
        let Some(changes) = published.recent.after(self.seen, fleet.revision()) else {
            let told: Vec<_> = self.told.keys().copied().collect();
            let retired = match self.retired(&published, &told).await {
                Ok(retired) => retired,
                Err(_) => return false,
            };
            return self.tell_all(&published, retired).await;
        };
        let mut news = Assignments::default();
        for change in changes {
            let Some(session) = change.after.session() else { continue };
            let is_over = matches!(session.state, State::Cleaned { .. });
            if is_over && self.told.remove(&session.id).is_some() {
                news.retired.push(session.id.to_string());
            } else if session.state.placement().is_some_and(|placement| placement.node == self.node) {
                // The newest state counts, not the one of this change.
                let now = fleet.session(session.id).and_then(|session| fleet.assignment(session));
                if let Some(now) = now.filter(|now| self.told.get(&session.id) != Some(now)) {
                    news.upserts.push(assignment::to_wire(&now));
                    self.told.insert(session.id, now);
                }
            }
        }
        self.seen = fleet.revision();
        (news.upserts.is_empty() && news.retired.is_empty()) || self.assign(news).await
    }

    async fn tell_all(&mut self, published: &Published, retired: Vec<String>) -> bool {
        let placed = published.fleet.placed_on(self.node);
        self.told =
            placed.filter_map(|session| Some((session.id, published.fleet.assignment(session)?))).collect();
        self.seen = published.fleet.revision();
        let upserts = self.told.values().map(assignment::to_wire).collect();
        self.assign(Assignments { upserts, retired, complete: true, others: vec![] }).await
    }

    /// Sends assignments in messages that the agent takes; the last one says of which there were others.
    async fn assign(&self, mut all: Assignments) -> bool {
        let mut others = Vec::new();
        let (mut piece, mut size) = (Vec::new(), 0);
        for one in std::mem::take(&mut all.upserts) {
            let length = one.encoded_len();
            if size + length > MESSAGE && !piece.is_empty() {
                others.extend(piece.iter().map(|one: &node_v1::Assignment| one.session_id.clone()));
                let upserts = std::mem::take(&mut piece);
                if !self.send(Down::Assignments(Assignments { upserts, ..Assignments::default() })).await {
                    return false;
                }
                size = 0;
            }
            size += length;
            piece.push(one);
        }
        let others = if all.complete { others } else { vec![] };
        self.send(Down::Assignments(Assignments { upserts: piece, others, ..all })).await
    }

    /// Those that are over for certain: cleaned, or moved elsewhere. What the registry does not know is not among them.
    async fn retired(&self, published: &Arc<Published>, held: &[SessionId]) -> Result<Vec<String>, Error> {
        let mut retired = Vec::new();
        for id in held {
            let is_cleaned = match published.fleet.session(*id) {
                Some(session) => matches!(session.state, State::Cleaned { .. }),
                None => {
                    let (history, id) = (self.plane.registry.history().clone(), *id);
                    let read = self.plane.tasks.spawn_blocking(move || history.session(id)).await;
                    let read = read.map_err(|error| Error::internal("reading the registry", &error))??;
                    read.is_some_and(|session| matches!(session.state, State::Cleaned { .. }))
                }
            };
            if is_cleaned {
                retired.push(id.to_string());
            }
        }
        Ok(retired)
    }
}

/// Brings a node's reports to the writer, in order, and tells the node how far they are durable.
struct Reporter {
    plane: Plane,
    node: NodeId,
    down: mpsc::Sender<Result<LinkResponse, Status>>,
}

impl Reporter {
    async fn run(self, mut batches: mpsc::Receiver<Vec<Report>>) {
        while let Some(batch) = batches.recv().await {
            if let Err(error) = self.bring(batch).await {
                tracing::warn!(node = %self.node, "reports were not taken: {}", error.text);
                let _ = self.down.send(Err(error.into())).await;
                return;
            }
        }
    }

    async fn bring(&self, batch: Vec<Report>) -> Result<(), Error> {
        let Some(last) = batch.last().map(|report| report.sequence) else { return Ok(()) };
        let mut on_their_way = Vec::with_capacity(batch.len());
        for wire in batch {
            let report = match report::from_wire(self.node, &wire) {
                Ok(report) => report,
                Err(invalid) => {
                    tracing::warn!(node = %self.node, sequence = wire.sequence, "a report cannot be understood and is left out: {invalid}");
                    continue;
                }
            };
            let command =
                Command { actor: Actor::Node(self.node), trace: None, wish: Wish::Report(Box::new(report)) };
            on_their_way.push(self.plane.registry.report_soon(command).await?);
        }
        for answer in on_their_way {
            answer.await.map_err(|_| Error::from(crate::registry::Error::Closed))??;
        }
        let acknowledged = Down::ReportsAcknowledged(ReportsAcknowledged { sequence: last });
        // An agent that left hears it at its next link.
        let _ = self.down.send(Ok(LinkResponse { message: Some(acknowledged) })).await;
        Ok(())
    }
}

fn welcome(plane: &Plane, name: &str, cookie: [u8; 32], acknowledged: u64) -> Welcome {
    let published = plane.registry.now();
    Welcome {
        protocol_version: PROTOCOL_VERSION,
        generation: published.fleet.generation(),
        heartbeat: Some(length(plane.terms.heartbeat)),
        lease: Some(length(plane.terms.lease)),
        lost_after: Some(length(plane.terms.lost_after)),
        cookie: cookie.to_vec(),
        acknowledged,
        installation_id: published.fleet.installation().to_string(),
        node: name.to_owned(),
    }
}

fn rival(plane: &Plane, node: NodeId) -> Error {
    let name =
        plane.registry.now().fleet.node(node).map_or_else(|| node.to_string(), |node| node.name.to_string());
    let text = format!(
        "another agent with the identity of node '{name}' is linked: one of the two runs from a copy"
    );
    let hint =
        "if the other one is gone, this one is let in as soon as its link is closed; if not, stop the copy";
    Error::new(Code::Unavailable, "NODE_LINKED", text, hint).after(plane.terms.heartbeat)
}

fn gone(text: &str) -> Status {
    Error::new(Code::Unavailable, "LINK_ENDED", text, "dial again").into()
}
