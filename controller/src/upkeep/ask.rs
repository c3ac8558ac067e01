//! What is asked of a node by tunnel: what is there, what remains hold, and to do something about them.

use std::time::Duration;

use drover_domain::finding::{Cure, Remains};
use drover_domain::id::NodeId;
use drover_domain::inventory::Inventory;
use drover_domain::plan::{Assessment, Branch};
use drover_proto::convert::inventory::{take, told};
use drover_proto::convert::plan::remains_to_wire;
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message;
use drover_proto::node_v1::{self, act};
use drover_proto::v1;
use tonic::{Code, Status};

use crate::error::Error;
use crate::plane::Plane;
use crate::tunnel;

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(60);
/// How long looking closely at what remains may take.
const CLOSELY: Duration = Duration::from_secs(300);
/// How long a deed may take: it may save a large workspace.
const DEED: Duration = Duration::from_secs(1800);
/// More than this no node says.
const MOST_PIECES: usize = 100_000;

/// What is on the node, added to what is known of it.
pub(super) async fn inventory(
    plane: &Plane,
    node: NodeId,
    known: Option<&Inventory>,
    full: bool,
) -> Result<Inventory, Status> {
    let read = node_v1::ReadInventory {
        known: known.map_or(0, |known| known.look),
        full,
        repository: String::new(),
    };
    let said = said(plane, node, Ask::ReadInventory(read), LOOK).await?;
    let now = plane.registry.timestamp();
    let mut said = said.into_iter();
    let Some(Message::Inventory(header)) = said.next() else { return Err(odd().into()) };
    let base = known.filter(|known| header.since != 0 && known.look == header.since);
    if header.look == 0 || (header.since != 0 && base.is_none()) {
        return Err(odd().into());
    }
    let sessions = base.map(|base| base.sessions.clone()).unwrap_or_default();
    let mut inventory = Inventory { look: header.look, sessions, ..Inventory::default() };
    for message in said {
        let Message::InventoryPiece(piece) = message else { return Err(odd().into()) };
        take(&mut inventory, &piece, now).map_err(Error::from)?;
    }
    Ok(inventory)
}

/// What these remains hold, in their order.
pub(super) async fn assess(
    plane: &Plane,
    node: NodeId,
    remains: &[Remains],
) -> Result<Vec<Assessment>, Status> {
    if remains.is_empty() {
        return Ok(Vec::new());
    }
    let ask = node_v1::Assess { remains: remains.iter().map(remains_to_wire).collect() };
    let said = said(plane, node, Ask::Assess(ask), CLOSELY).await?;
    let assessed = said.into_iter().map(|message| match message {
        Message::Assessment(wire) => Ok(assessment(&wire)),
        _ => Err(odd()),
    });
    let assessed = assessed.collect::<Result<Vec<_>, _>>()?;
    if assessed.len() == remains.len() { Ok(assessed) } else { Err(odd().into()) }
}

/// Has the node do what ends a finding. Only for what a node does.
pub(super) async fn act(
    plane: &Plane,
    node: NodeId,
    cure: &Cure,
    stamp: &str,
) -> Result<node_v1::Deed, Status> {
    let session = |session: drover_domain::id::SessionId| node_v1::Remains {
        session_id: session.to_string(),
        ..node_v1::Remains::default()
    };
    let (remains, deed) = match cure {
        Cure::Clear(remains) => (remains_to_wire(remains), act::Deed::Clear(node_v1::ClearRemains {})),
        Cure::EndProcesses(id, processes) => {
            let processes = processes.iter().map(|process| told::process(process, None)).collect();
            (session(*id), act::Deed::EndProcesses(node_v1::EndProcesses { processes }))
        }
        Cure::MoveLock(lock) => (
            node_v1::Remains { repository: lock.repository.to_string(), ..node_v1::Remains::default() },
            act::Deed::MoveLock(node_v1::MoveLock { lock: Some(told::lock(lock, None)) }),
        ),
        Cure::Tell(id) => (session(*id), act::Deed::TellRun(node_v1::TellRun {})),
        Cure::Stop(_) | Cure::Retry(_) | Cure::Remove(_) => return Err(odd().into()),
    };
    let ask = node_v1::Act { remains: Some(remains), stamp: stamp.to_owned(), deed: Some(deed) };
    match said(plane, node, Ask::Act(ask), DEED).await?.into_iter().next() {
        Some(Message::Deed(deed)) => Ok(deed),
        _ => Err(odd().into()),
    }
}

fn assessment(wire: &node_v1::Assessment) -> Assessment {
    let work = wire.work.clone().unwrap_or_default();
    let branch = match work.branch_fate() {
        v1::BranchFate::Absent => Branch::Absent,
        v1::BranchFate::Deleted | v1::BranchFate::SavedAndDeleted => Branch::Goes,
        v1::BranchFate::KeptUnmerged => Branch::Unmerged,
        // What cannot be said is not deleted.
        v1::BranchFate::KeptAsked | v1::BranchFate::Unspecified => Branch::CheckedOut,
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.into());
    Assessment {
        saves: work.saves_work.then(|| saves(&work).into()),
        branch,
        users: wire.users.iter().map(|user| user.as_str().into()).collect(),
        stamp: wire.stamp.as_str().into(),
        obstacle: text(&wire.obstacle),
    }
}

fn saves(work: &v1::RemovalPreview) -> String {
    let kinds = [(&work.changed, "changed"), (&work.untracked, "untracked"), (&work.ignored, "ignored")];
    let told = |(sample, word): (&Option<v1::PathSample>, &str)| {
        let count = sample.as_ref().map_or(0, |sample| sample.count);
        (count > 0).then(|| format!("{count} {word}"))
    };
    let parts: Vec<String> = kinds.into_iter().filter_map(told).collect();
    if parts.is_empty() { "its work".to_owned() } else { format!("{} files", parts.join(", ")) }
}

/// Everything that the node says to this.
async fn said(plane: &Plane, node: NodeId, ask: Ask, patience: Duration) -> Result<Vec<Message>, Status> {
    let all = tunnel::said(plane, node, ask, MOST_PIECES);
    tokio::time::timeout(patience, all).await.unwrap_or_else(|_| {
        let text = format!("the node did not answer within {} s", patience.as_secs());
        Err(Error::new(Code::DeadlineExceeded, "NODE_SLOW", text, "look at the node's load and log").into())
    })
}

fn odd() -> Error {
    Error::new(Code::Internal, "NODE_SAID", "the node answered something else", "upgrade its agent")
}
