//! One link from its hello to its end. What is sent comes from two queues, so that a heartbeat never waits behind
//! reports; what is received is durable before it is acted upon.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use drover_domain::converge::{LocalRun, Site};
use drover_domain::id::{InstallationId, SessionId};
use drover_domain::lease::Terms;
use drover_domain::node::NodeFacts;
use drover_proto::convert::node::{LONGEST_NOTE, MOST_NOTES};
use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::link_response::Message as Down;
use drover_proto::node_v1::{
    Assignments, CookieStored, Heartbeat, Held, Hello, LinkRequest, LinkResponse, Welcome,
};
use futures::{StreamExt, stream};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::reports::Outbox;
use super::{DialError, Link, PROTOCOL_VERSION, Standing};
use crate::ledger::{self, Entry, Journal, Write};
use crate::pressure;
use crate::wire;

/// How long the controller may take to answer a hello.
const PATIENCE: Duration = Duration::from_secs(30);
/// Heartbeats whose answers are waited for: the lease is over long before there are so many.
const UNANSWERED: usize = 64;
/// Messages on their way up in each queue.
const QUEUE: usize = 8;

/// Why a link ended.
#[derive(Debug, Error)]
pub enum LinkError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the controller refused the link: {}", .0.message())]
    Refused(Status),
    #[error("the link broke: {}", .0.message())]
    Broken(Status),
    #[error("the controller closed the link")]
    Closed,
    #[error("the controller was silent for {:.0?}", .0)]
    Silent(Duration),
    #[error("the controller answered the hello with something else than a welcome")]
    NoWelcome,
    #[error("this agent belongs to {ours}, and the controller at this address is {theirs}")]
    OtherInstallation { ours: InstallationId, theirs: String },
    #[error("the ledger was older than what the controller knows")]
    OlderLedger,
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl LinkError {
    /// Whether the controller, or this agent, says that they do not belong together.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::OtherInstallation { .. } => true,
            Self::Dial(_)
            | Self::Broken(_)
            | Self::Closed
            | Self::Silent(_)
            | Self::NoWelcome
            | Self::OlderLedger
            | Self::Ledger(_) => false,
        }
    }

    fn of(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented => Self::Refused(status),
            _ => Self::Broken(status),
        }
    }
}

pub(super) struct Call<'a> {
    link: &'a Link,
    terms: Terms,
    /// Reports and answers; waits while the controller does not take them.
    work: mpsc::Sender<LinkRequest>,
    beats: mpsc::Sender<LinkRequest>,
    down: Streaming<LinkResponse>,
    outbox: Outbox,
}

impl<'a> Call<'a> {
    /// Dials, says hello and takes the welcome in.
    pub(super) async fn open(link: &'a Link) -> Result<Self, LinkError> {
        let ledger = &link.converge.means().ledger;
        let mut client = link.controller.client().await?;
        let (work, works) = mpsc::channel(QUEUE);
        let (beats, beating) = mpsc::channel(QUEUE);
        let notes = notes(ledger.notes());
        let facts = NodeFacts { notes, ..NodeFacts::clone(&link.facts) };
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            cookie: ledger.cookie().await?.unwrap_or_default().into(),
            facts: Some(wire::facts(&facts)),
            held: link.converge.held().iter().map(held).collect(),
            acknowledged: ledger.acknowledged().await?,
        };
        let first = LinkRequest { message: Some(Up::Hello(hello)) };
        let rest = stream::select(ReceiverStream::new(beating), ReceiverStream::new(works));
        let up = stream::iter([first]).chain(rest);
        let silent = |_| LinkError::Silent(PATIENCE);
        let call = timeout(PATIENCE, client.link(up)).await.map_err(silent)?;
        let mut down = call.map_err(LinkError::of)?.into_inner();
        let answer = timeout(PATIENCE, down.message()).await.map_err(silent)?.map_err(LinkError::of)?;
        let Some(LinkResponse { message: Some(Down::Welcome(welcome)) }) = answer else {
            return Err(LinkError::NoWelcome);
        };
        let terms = link.welcomed(&welcome, &work).await?;
        let outbox = Outbox::new(ledger.clone(), welcome.acknowledged);
        Ok(Self { link, terms, work, beats, down, outbox })
    }

    /// Serves the link until it ends.
    pub(super) async fn serve(self) -> LinkError {
        let Self { link, terms, work, beats, down, outbox } = self;
        link.standing.send_replace(Standing::Linked);
        tracing::info!(address = %link.controller.address(), "linked");
        let sent = Sent::default();
        tokio::select! {
            error = link.beat(terms, &beats, &sent) => error,
            error = outbox.send(&work) => error,
            error = link.listen(down, terms, &sent) => error,
        }
    }
}

/// When each heartbeat was sent that was not answered yet, on the boot clock.
#[derive(Debug, Default)]
struct Sent(Mutex<VecDeque<(u64, Duration)>>);

impl Sent {
    fn add(&self, number: u64, at: Duration) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() == UNANSWERED {
            sent.pop_front();
        }
        sent.push_back((number, at));
    }

    /// When this one was sent; those before it need no answer any more.
    fn take(&self, number: u64) -> Option<Duration> {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((oldest, at)) = sent.pop_front() {
            if oldest == number {
                return Some(at);
            }
        }
        None
    }
}

impl Link {
    /// The new cookie is durable before the controller hears so.
    async fn welcomed(
        &self,
        welcome: &Welcome,
        work: &mpsc::Sender<LinkRequest>,
    ) -> Result<Terms, LinkError> {
        let ours = self.converge.means().home.installation;
        if welcome.installation_id != ours.to_string() {
            return Err(LinkError::OtherInstallation { ours, theirs: welcome.installation_id.clone() });
        }
        let is_older = self.judge_ledger(welcome.acknowledged).await?;
        let writes = vec![
            Write::Cookie(welcome.cookie.clone().into()),
            Write::Acknowledged(welcome.acknowledged),
            Write::ReportAfter(welcome.acknowledged),
        ];
        self.converge.means().ledger.commit(writes).await?;
        let stored = LinkRequest { message: Some(Up::CookieStored(CookieStored {})) };
        work.send(stored).await.map_err(|_| LinkError::Closed)?;
        if is_older { Err(LinkError::OlderLedger) } else { Ok(wire::terms(welcome)) }
    }

    /// Whether the ledger is older than what this node has said already. Then what it says is not believed: it is
    /// linked anew, so that everything that is assigned comes again and is looked for.
    async fn judge_ledger(&self, acknowledged: u64) -> Result<bool, ledger::Error> {
        let ledger = &self.converge.means().ledger;
        let reported = *ledger.reported().borrow();
        if acknowledged <= reported {
            return Ok(false);
        }
        let what = format!("the controller knows {acknowledged} reports of this node, its ledger {reported}");
        if reported == 0 && self.converge.held().is_empty() {
            ledger.note(format!("the ledger was lost ({what}); sessions are found again by what is here"));
        } else {
            let copy = ledger.distrust().await?.display().to_string();
            ledger.note(format!(
                "the ledger is an older one ({what}); it is kept as {copy}, and what is here is looked for again"
            ));
        }
        Ok(true)
    }

    /// Says that the agent lives. Waits for nothing but the time: a beat that finds the queue full is left out.
    async fn beat(&self, terms: Terms, beats: &mpsc::Sender<LinkRequest>, sent: &Sent) -> LinkError {
        let mut number = 0;
        loop {
            number += 1;
            let load = self.load().await;
            let beat = LinkRequest { message: Some(Up::Heartbeat(Heartbeat { number, load: Some(load) })) };
            sent.add(number, self.clock.boot());
            match beats.try_send(beat) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::warn!("the controller takes no heartbeats")
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return LinkError::Closed,
            }
            tokio::time::sleep(terms.heartbeat).await;
        }
    }

    /// How pressed the machine is. A file system that hangs must not stop the heart: then the figures are left out.
    async fn load(&self) -> drover_proto::v1::NodeLoad {
        let worktrees = self.converge.means().home.worktrees.clone();
        let read = self.tasks.spawn_blocking(move || pressure::read(&worktrees));
        let reading = match timeout(Duration::from_secs(1), read).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(_)) | Err(_) => pressure::Reading::default(),
        };
        let alive = |(_, entry): &&(SessionId, Entry)| {
            matches!(entry.local.run, LocalRun::Starting(_) | LocalRun::Live(_))
        };
        wire::load(&reading, self.converge.held().iter().filter(alive).count())
    }

    async fn listen(&self, mut down: Streaming<LinkResponse>, terms: Terms, sent: &Sent) -> LinkError {
        loop {
            // Every beat is answered, so that a silence as long as the lease means that nobody is there.
            let message = match timeout(terms.lease, down.message()).await {
                Err(_) => return LinkError::Silent(terms.lease),
                Ok(Err(status)) => return LinkError::of(status),
                Ok(Ok(None)) => return LinkError::Closed,
                Ok(Ok(Some(LinkResponse { message }))) => message,
            };
            let result = match message {
                Some(Down::Assignments(assignments)) => self.assigned(assignments).await,
                Some(Down::ReportsAcknowledged(durable)) => {
                    let ledger = &self.converge.means().ledger;
                    ledger.commit(vec![Write::Acknowledged(durable.sequence)]).await
                }
                Some(Down::OpenTunnel(ask)) => {
                    self.tunnels.open(self.controller.clone(), ask);
                    Ok(())
                }
                Some(Down::HeartbeatSeen(seen)) => {
                    if let Some(at) = sent.take(seen.number) {
                        // Not before a later one is missing may the controller place elsewhere what runs here.
                        let until = |stop| terms.stop_deadline(stop).map(|lasts| at + lasts);
                        self.converge.renew_fences(until).await;
                    }
                    Ok(())
                }
                Some(Down::Welcome(_)) | None => Ok(()),
            };
            if let Err(error) = result {
                return error.into();
            }
        }
    }

    async fn assigned(&self, assignments: Assignments) -> Result<(), ledger::Error> {
        let mut known = std::collections::BTreeSet::new();
        let mut arrived = Vec::with_capacity(assignments.upserts.len());
        for one in assignments.upserts {
            // Also one that cannot be read says that the controller knows the session.
            known.extend(one.session_id.parse::<SessionId>().ok());
            match wire::arrived(one) {
                Ok(one) => arrived.push(one),
                Err(error) => {
                    tracing::error!("an assignment cannot be read, so nothing is done for it: {error}")
                }
            }
        }
        known.extend(assignments.others.iter().filter_map(|id| id.parse::<SessionId>().ok()));
        let retired: Vec<SessionId> = assignments.retired.iter().filter_map(|id| id.parse().ok()).collect();
        known.extend(&retired);
        self.converge.assign(arrived).await?;
        self.converge.retire(retired);
        if assignments.complete { self.converge.keep_others(&known).await } else { Ok(()) }
    }
}

/// As the controller takes them: the last ones, each on a line of its own and not too long.
fn notes(notes: Vec<String>) -> Vec<Box<str>> {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let short = |note: &String| note.chars().map(printable).take(LONGEST_NOTE / 4).collect::<String>().into();
    notes.iter().rev().take(MOST_NOTES).map(short).collect()
}

fn held((session, entry): &(SessionId, Entry)) -> Held {
    let local = &entry.local;
    let (run, ordinal) = match local.run {
        LocalRun::Starting(order) | LocalRun::Live(order) => (order.run.to_string(), order.ordinal),
        LocalRun::Ended(order) => (String::new(), order.ordinal),
        LocalRun::None => (String::new(), 0),
    };
    Held {
        session_id: session.to_string(),
        generation: local.fence.generation,
        epoch: local.fence.epoch,
        has_workspace: matches!(local.site, Site::Made),
        run_id: run,
        ordinal,
    }
}
