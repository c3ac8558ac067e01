//! What goes into a tunnel: the diff of a workspace, what its removal would find, a log, or saved work.

use bytes::Bytes;
use drover_domain::id::SessionId;
use drover_domain::session::{Fault, Removal};
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message as Up;
use drover_proto::node_v1::{OpenTunnel, TunnelError, TunnelRequest};
use thiserror::Error;
use tokio::sync::mpsc;
use tonic::Code;

use super::preview::preview;
use super::{Tunnels, logs, message};
use crate::git::failure::Failure;
use crate::ledger;
use crate::saga::workspace::Layout;
use crate::step::Stopped;
use crate::workspace::Site;
use crate::workspace::diff::Detail;

/// Why what was asked for cannot be had.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("nobody listens any more")]
    NobodyListens,
    #[error("this agent does not know what was asked")]
    NotUnderstood,
    #[error("'{0}' is no session's id")]
    BadSession(String),
    #[error("the session {0} is not on this node")]
    NotHere(SessionId),
    #[error("the session has no workspace yet")]
    NoWorkspace,
    #[error("'{0}' is not in the trash here")]
    NotSaved(String),
    #[error("the session has no run yet")]
    NoRun,
    #[error("{} tunnels are open, which is the most", .0)]
    Busy(usize),
    #[error("{}", .0.text)]
    Fault(Box<Fault>),
    #[error("the log cannot be read: {0}")]
    Log(String),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<Stopped> for Trouble {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Failed(fault) => fault.into(),
            Stopped::Parked => Self::NobodyListens,
            Stopped::Ledger(error) => Self::Ledger(error),
        }
    }
}

impl Trouble {
    pub(super) fn told(&self) -> TunnelError {
        let (code, reason, hint) = match self {
            Self::NobodyListens => (Code::Cancelled, "CANCELLED", ""),
            Self::NotUnderstood => (Code::Unimplemented, "NOT_UNDERSTOOD", "upgrade the agent on the node"),
            Self::BadSession(_) => (Code::InvalidArgument, "BAD_SESSION", ""),
            Self::NotHere(_) => (Code::NotFound, "SESSION_NOT_ON_NODE", "droverctl get shows where it is"),
            Self::NoWorkspace => (Code::FailedPrecondition, "NO_WORKSPACE", "wait until it is ready"),
            Self::NotSaved(_) => {
                (Code::NotFound, "TRASH_NOT_FOUND", "droverctl trash ls lists what there is")
            }
            Self::NoRun => (Code::NotFound, "NO_RUN", "start it: droverctl start"),
            Self::Busy(_) => (Code::ResourceExhausted, "TOO_MANY_TUNNELS", "try again in a moment"),
            Self::Fault(fault) => (Code::FailedPrecondition, "NODE_FAULT", fault.hint.as_ref()),
            Self::Log(_) => (Code::Unavailable, "LOG_UNREADABLE", "the agent's log has more"),
            Self::Ledger(_) => (Code::Unavailable, "LEDGER", "the agent's log has more"),
        };
        let (reason, hint) = (reason.to_owned(), hint.to_owned());
        TunnelError { code: code as i32, reason, message: self.to_string(), hint }
    }
}

/// Where the pieces go.
pub(super) type Out = mpsc::Sender<TunnelRequest>;

pub(super) async fn say(out: &Out, what: Up) -> Result<(), Trouble> {
    out.send(message(what)).await.map_err(|_| Trouble::NobodyListens)
}

impl Tunnels {
    pub(super) async fn answer(&self, ask: &OpenTunnel, out: &Out) -> Result<(), Trouble> {
        let bad = |_| Trouble::BadSession(ask.session_id.clone());
        let session = || ask.session_id.parse::<SessionId>().map_err(bad);
        match &ask.ask {
            Some(Ask::ReadLogs(ask)) => logs::send(&self.converge, session()?, ask, out).await,
            Some(Ask::ReadDiff(ask)) => {
                let detail = if ask.stat { Detail::Stat } else { Detail::Patch };
                self.diff(&self.site(session()?).await?, detail, out).await
            }
            Some(Ask::ReadWork(ask)) => {
                let removal = Removal { keep_branch: ask.keep_branch, force_branch: ask.force_branch };
                let site = self.site(session()?).await?;
                let workspaces = &self.converge.means().home.workspaces;
                let work = workspaces.look(&site, removal).await.map_err(|failure| fault(&failure))?;
                say(out, Up::Work(preview(&site, &work))).await
            }
            Some(Ask::MakeCheckpoint(_)) => self.checkpoint(session()?, out).await,
            Some(Ask::ReadTrash(ask)) => self.read_trash(ask, out).await,
            Some(Ask::RestoreTrash(ask)) => self.restore_trash(ask, out).await,
            Some(Ask::PurgeTrash(ask)) => self.purge_trash(ask).await,
            Some(Ask::ReadInventory(ask)) => self.read_inventory(ask, out).await,
            Some(Ask::Assess(ask)) => self.assess(ask, out).await,
            Some(Ask::Act(ask)) => self.act(ask, out).await,
            None => Err(Trouble::NotUnderstood),
        }
    }

    async fn diff(&self, site: &Site, detail: Detail, out: &Out) -> Result<(), Trouble> {
        let (pieces, mut made) = mpsc::channel::<Bytes>(super::QUEUE);
        let forward = async {
            while let Some(piece) = made.recv().await {
                say(out, Up::Diff(piece)).await?;
            }
            Ok::<(), Trouble>(())
        };
        let workspaces = &self.converge.means().home.workspaces;
        let make = async move {
            let result = workspaces.diff(site, detail, &pieces).await;
            drop(pieces);
            result.map_err(|failure| fault(&failure))
        };
        tokio::try_join!(make, forward).map(drop)
    }

    /// The session's workspace, as the ledger knows it.
    pub(super) async fn site(&self, session: SessionId) -> Result<Site, Trouble> {
        let assignment = self.converge.assignment(session).ok_or(Trouble::NotHere(session))?;
        let means = self.converge.means();
        let book = means.ledger.session(session).await?;
        let record = book.sagas.into_iter().find(|(key, _)| key.saga.as_ref() == "workspace");
        let layout = record.and_then(|(_, record)| serde_json::from_str::<Layout>(&record.data).ok());
        let layout = layout.ok_or(Trouble::NoWorkspace)?;
        layout.site(&means.home, &assignment)?.ok_or(Trouble::NoWorkspace)
    }
}

pub(super) fn fault(failure: &Failure) -> Trouble {
    failure.fault("look").into()
}
