//! The trash: saved work lies on the nodes, and only they can say what there is. All that can be reached are asked; who
//! could not be asked is said.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use drover_domain::id::{NodeId, SessionId};
use drover_domain::node::{Node, Standing};
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message;
use drover_proto::node_v1::{ReadTrash, StoredTrash};
use drover_proto::v1;
use futures::future::join_all;
use tonic::{Code, Response, Status};

use super::resolve;
use crate::error::Error;
use crate::plane::Plane;
use crate::tunnel;

/// What one node may say at once.
const MOST_ITEMS: usize = 20_000;
/// How long one node may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn list(
    plane: &Plane,
    asked: v1::ListTrashRequest,
) -> Result<Response<v1::ListTrashResponse>, Status> {
    let fleet = plane.registry.now().fleet.clone();
    let only = match asked.node.as_str() {
        "" => None,
        node => Some(resolve::node(&fleet, node)?.id),
    };
    let found = everywhere(plane, only).await?;
    let (project, session) = parts(&asked.session, &asked.project);
    let is_wanted = |item: &v1::TrashItem| {
        let is_of_project = project.is_empty() || item.project == project;
        let is_of_session = session.is_empty()
            || item.name == session
            || (session.starts_with(SessionId::PREFIX) && item.session_id.starts_with(session));
        is_of_project && is_of_session
    };
    let items = found.saved.into_iter().map(|saved| saved.item).filter(is_wanted).collect();
    Ok(Response::new(v1::ListTrashResponse { items, unreachable_nodes: found.unreachable }))
}

pub async fn get(
    plane: &Plane,
    asked: v1::GetTrashRequest,
) -> Result<Response<v1::GetTrashResponse>, Status> {
    let Saved { node, item, .. } = one(plane, &asked.item, &asked.project).await?;
    let StoredTrash { item, files, .. } = whole(plane, node.id, item.id).await?;
    Ok(Response::new(v1::GetTrashResponse { item: item.map(|item| on(&node, item)), files }))
}

#[derive(Default)]
pub(super) struct Found {
    pub saved: Vec<Saved>,
    pub unreachable: Vec<String>,
}

/// One item, where it is, and whether it has expired there.
#[derive(Clone)]
pub(super) struct Saved {
    pub node: Arc<Node>,
    pub item: v1::TrashItem,
    pub expired: bool,
}

/// Asks every node (or this one) at once.
pub(super) async fn everywhere(plane: &Plane, only: Option<NodeId>) -> Result<Found, Error> {
    let fleet = plane.registry.now().fleet.clone();
    let nodes: Vec<Arc<Node>> = fleet
        .nodes()
        .filter(|node| node.standing != Standing::Revoked && only.is_none_or(|only| only == node.id))
        .cloned()
        .collect();
    let asked = nodes.iter().map(|node| async move {
        let said = said(plane, node.id, Ask::ReadTrash(ReadTrash { item: String::new() }));
        let items = match tokio::time::timeout(PATIENCE, said).await {
            Ok(Ok(said)) => items_of(node, said),
            Ok(Err(status)) if status.code() == Code::Unavailable => return Ok(None),
            Ok(Err(status)) => Err(node_said(&status)),
            Err(_) => return Ok(None),
        };
        match items {
            Ok(items) => Ok(Some(items)),
            Err(error) if only.is_some() => Err(error),
            // Its absence is told, not an error: what the others have is worth showing.
            Err(error) => {
                tracing::warn!(node = %node.name, "its trash cannot be read: {}", error.text);
                Ok(None)
            }
        }
    });
    let mut found = Found::default();
    for (node, items) in nodes.iter().zip(join_all(asked).await) {
        match items? {
            Some(items) => found.saved.extend(items),
            None => found.unreachable.push(node.name.to_string()),
        }
    }
    found.saved.sort_by(|a, b| by_age(&a.item, &b.item));
    found.unreachable.sort();
    Ok(found)
}

/// The newest first.
pub(super) fn by_age(a: &v1::TrashItem, b: &v1::TrashItem) -> Ordering {
    let saved = |item: &v1::TrashItem| item.create_time.map_or((0, 0), |time| (time.seconds, time.nanos));
    saved(b).cmp(&saved(a)).then_with(|| a.id.cmp(&b.id))
}

/// The one item that is meant: by its id, the beginning of it, or the name of its session.
pub(super) async fn one(plane: &Plane, reference: &str, project: &str) -> Result<Saved, Error> {
    if reference.is_empty() {
        return Err(Error::invalid("item", "is missing: give an item's id or its session's name"));
    }
    let (project, name) = parts(reference, project);
    let project = resolve::project(project)?;
    let Found { mut saved, unreachable } = everywhere(plane, None).await?;
    let is_exact = |item: &v1::TrashItem| item.id == reference;
    let is_whole = saved.iter().any(|saved| is_exact(&saved.item));
    let is_meant = |item: &v1::TrashItem| match reference.starts_with(SessionId::PREFIX) {
        true => is_exact(item) || !is_whole && item.id.starts_with(reference),
        false => item.name == name && item.project == project.as_str(),
    };
    saved.retain(|saved| is_meant(&saved.item));
    match saved.as_slice() {
        [] => Err(unknown(reference, &unreachable)),
        [one] => Ok(one.clone()),
        several => Err(ambiguous(reference, several, is_whole)),
    }
}

pub(super) fn ambiguous(reference: &str, several: &[Saved], is_whole: bool) -> Error {
    let on = several.iter().take(5).map(|saved| format!("{} on {}", saved.item.id, saved.node.name));
    let on: Vec<_> = on.collect();
    let text = format!("'{reference}' may be more than one item: {}", on.join(", "));
    let hint = if is_whole {
        "only one node can have it: what the other says is not true; droverctl node revoke ends its right to speak"
    } else {
        "give the whole id"
    };
    Error::new(Code::InvalidArgument, "AMBIGUOUS", text, hint)
}

/// A project and a name or id of it, of what may be `project/name`.
fn parts<'a>(reference: &'a str, in_project: &'a str) -> (&'a str, &'a str) {
    match reference.split_once('/') {
        Some(parts) if !reference.starts_with(SessionId::PREFIX) => parts,
        _ => (in_project, reference),
    }
}

/// An item with everything that its node knows of it.
async fn whole(plane: &Plane, node: NodeId, item: String) -> Result<StoredTrash, Status> {
    match said(plane, node, Ask::ReadTrash(ReadTrash { item })).await?.into_iter().next() {
        Some(Message::Trash(stored)) => Ok(stored),
        _ => Err(odd().into()),
    }
}

pub(super) async fn said(plane: &Plane, node: NodeId, ask: Ask) -> Result<Vec<Message>, Status> {
    tunnel::said(plane, node, ask, MOST_ITEMS).await
}

fn items_of(node: &Arc<Node>, said: Vec<Message>) -> Result<Vec<Saved>, Error> {
    let item = |message| match message {
        Message::Trash(StoredTrash { item: Some(item), expired, .. }) => {
            Ok(Saved { node: node.clone(), item: on(node, item), expired })
        }
        _ => Err(odd()),
    };
    said.into_iter().map(item).collect()
}

fn on(node: &Node, item: v1::TrashItem) -> v1::TrashItem {
    v1::TrashItem { node: node.name.to_string(), ..item }
}

pub(super) fn unknown(reference: &str, unreachable: &[String]) -> Error {
    let hint = match unreachable {
        [] => "droverctl trash ls lists what there is".to_owned(),
        nodes => format!("it may be on a node that cannot be asked now: {}", nodes.join(", ")),
    };
    Error::not_found("TRASH_NOT_FOUND", format!("there is no '{reference}' in the trash"), hint)
}

fn node_said(status: &Status) -> Error {
    Error::new(status.code(), "NODE_SAID", status.message(), "the agent's log on the node has more")
}

pub(super) fn odd() -> Error {
    Error::new(Code::Internal, "NODE_SAID", "the node answered something else", "try again")
}
