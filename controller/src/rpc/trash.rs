//! The trash: saved work lies on the nodes, and only they can say what there is. All that can be reached are asked; who
//! could not be asked is said.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drover_domain::command::{NewSession, Wish};
use drover_domain::id::{NodeId, SessionId};
use drover_domain::name::Name;
use drover_domain::node::{Node, Standing};
use drover_domain::session::Session;
use drover_domain::spec::{Secrets, Spec};
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message;
use drover_proto::node_v1::{PurgeTrash, ReadTrash, RestoreTrash, StoredTrash};
use drover_proto::v1;
use futures::future::join_all;
use tonic::{Code, Request, Response, Status};

use super::session_changes::{free_like, shown};
use super::{Call, reading, resolve};
use crate::error::Error;
use crate::plane::Plane;
use crate::random;

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
    let mut found = everywhere(plane, only).await?;
    let (project, session) = parts(&asked.session, &asked.project);
    let is_wanted = |item: &v1::TrashItem| {
        let is_of_project = project.is_empty() || item.project == project;
        let is_of_session = session.is_empty()
            || item.name == session
            || (session.starts_with(SessionId::PREFIX) && item.session_id.starts_with(session));
        is_of_project && is_of_session
    };
    found.items.retain(is_wanted);
    Ok(Response::new(v1::ListTrashResponse { items: found.items, unreachable_nodes: found.unreachable }))
}

pub async fn get(
    plane: &Plane,
    asked: v1::GetTrashRequest,
) -> Result<Response<v1::GetTrashResponse>, Status> {
    let (node, item) = one(plane, &asked.item, &asked.project).await?;
    let StoredTrash { item, files } = whole(plane, node.id, item.id).await?;
    Ok(Response::new(v1::GetTrashResponse { item: item.map(|item| on(&node, item)), files }))
}

pub async fn restore(
    plane: &Plane,
    request: Request<v1::RestoreTrashRequest>,
) -> Result<Response<v1::RestoreTrashResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "RestoreTrash", &asked.request_id, &asked)?;
    let (node, item) = one(plane, &asked.item, &asked.project).await?;
    if asked.directory.is_empty() {
        return as_session(plane, call, &asked, &node, item).await;
    }
    if !asked.directory.starts_with('/') {
        return Err(Error::invalid("directory", "must be an absolute path on the node").into());
    }
    let ask = RestoreTrash { item: item.id, directory: asked.directory, branch: asked.branch };
    match said(plane, node.id, Ask::RestoreTrash(ask)).await?.into_iter().next() {
        Some(Message::Restored(restored)) => {
            Ok(Response::new(v1::RestoreTrashResponse { node: node.name.to_string(), ..restored }))
        }
        _ => Err(odd().into()),
    }
}

/// A new session of the same spec on the node that has the work, with that work in its workspace. It is not started.
/// What the session was is the registry's word: whoever may write in a repository could say anything in its trash.
async fn as_session(
    plane: &Plane,
    call: Call,
    asked: &v1::RestoreTrashRequest,
    node: &Node,
    item: v1::TrashItem,
) -> Result<Response<v1::RestoreTrashResponse>, Status> {
    let was = was(plane, &item).await?;
    let mut parts = Spec::clone(&was.spec).into_parts();
    parts.node = Some(node.name.clone());
    // Their values went with the session.
    parts.secret_names.clear();
    let fleet = &plane.registry.now().fleet;
    let name = match asked.name.as_str() {
        "" => free_like(fleet, &was.project, &was.name),
        name => Name::new(name).map_err(|problem| Error::invalid("name", problem))?,
    };
    let new = NewSession {
        id: SessionId::from_random(random::bytes()),
        project: was.project,
        name,
        owner: call.principal.name().into(),
        spec: Arc::new(Spec::accepted(parts)),
        secrets: Secrets::default(),
        start: false,
        origin: Some(item.id.into()),
    };
    let node = node.name.to_string();
    call.submit(plane, Wish::CreateSession(Box::new(new)), move |fleet, answer, now| {
        let branch = answer.session().map(|session| session.branch()).unwrap_or_default();
        let session = shown(fleet, answer, now);
        v1::RestoreTrashResponse { session, branch, directory: String::new(), node: node.clone() }
    })
    .await
}

/// The session whose work it is.
async fn was(plane: &Plane, item: &v1::TrashItem) -> Result<Session, Error> {
    let id: SessionId = item.session_id.parse().map_err(|_| odd())?;
    if let Some(known) = plane.registry.now().fleet.session(id) {
        return Ok(Session::clone(known));
    }
    let history = plane.registry.history().clone();
    let known = reading(plane, move || history.session(id)).await?;
    known.ok_or_else(|| {
        let text =
            format!("the registry knows the session {id} no more, so nobody can say what it was to be");
        let hint = "restore it to a directory: droverctl trash restore ITEM --to DIR";
        Error::new(Code::FailedPrecondition, "SESSION_FORGOTTEN", text, hint)
    })
}

pub async fn purge(
    plane: &Plane,
    asked: v1::PurgeTrashRequest,
) -> Result<Response<v1::PurgeTrashResponse>, Status> {
    if asked.items.is_empty() && !asked.expired {
        return Err(
            Error::invalid("items", "is empty: name the items, or ask for all that have expired").into()
        );
    }
    let found = everywhere(plane, None).await?;
    let mut wanted: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for id in &asked.items {
        let all = found.items.iter().cloned().zip(found.nodes.iter().cloned());
        let claimed: Vec<_> = all.filter(|(item, _)| item.id == *id).collect();
        match claimed.as_slice() {
            [] => return Err(unknown(id, &found.unreachable).into()),
            [(_, node)] => wanted.entry(node.id).or_default().push(id.clone()),
            several => return Err(ambiguous(id, several, true).into()),
        }
    }
    let fleet = plane.registry.now().fleet.clone();
    let mut purged = Vec::new();
    for node in fleet.nodes().filter(|node| plane.links.is_linked(node.id)) {
        let items = wanted.remove(&node.id).unwrap_or_default();
        if items.is_empty() && !asked.expired {
            continue;
        }
        let ask = Ask::PurgeTrash(PurgeTrash { items, expired: asked.expired });
        purged.extend(items_of(node, said(plane, node.id, ask).await?)?);
    }
    purged.sort_by(by_age);
    Ok(Response::new(v1::PurgeTrashResponse { items: purged, unreachable_nodes: found.unreachable }))
}

#[derive(Default)]
struct Found {
    items: Vec<v1::TrashItem>,
    /// Where each is.
    nodes: Vec<Arc<Node>>,
    unreachable: Vec<String>,
}

/// Asks every node (or this one) at once.
async fn everywhere(plane: &Plane, only: Option<NodeId>) -> Result<Found, Error> {
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
    let (mut found, mut all) = (Found::default(), Vec::new());
    for (node, items) in nodes.iter().zip(join_all(asked).await) {
        match items? {
            Some(items) => all.extend(items.into_iter().map(|item| (item, node.clone()))),
            None => found.unreachable.push(node.name.to_string()),
        }
    }
    all.sort_by(|(a, _), (b, _)| by_age(a, b));
    found.unreachable.sort();
    (found.items, found.nodes) = all.into_iter().unzip();
    Ok(found)
}

/// The newest first.
fn by_age(a: &v1::TrashItem, b: &v1::TrashItem) -> Ordering {
    let saved = |item: &v1::TrashItem| item.create_time.map_or((0, 0), |time| (time.seconds, time.nanos));
    saved(b).cmp(&saved(a)).then_with(|| a.id.cmp(&b.id))
}

/// The one item that is meant: by its id, the beginning of it, or the name of its session.
async fn one(plane: &Plane, reference: &str, project: &str) -> Result<(Arc<Node>, v1::TrashItem), Error> {
    if reference.is_empty() {
        return Err(Error::invalid("item", "is missing: give an item's id or its session's name"));
    }
    let (project, name) = parts(reference, project);
    let project = resolve::project(project)?;
    let Found { items, nodes, unreachable } = everywhere(plane, None).await?;
    let is_exact = |item: &v1::TrashItem| item.id == reference;
    let is_whole = items.iter().any(is_exact);
    let is_meant = |item: &v1::TrashItem| match reference.starts_with(SessionId::PREFIX) {
        true => is_exact(item) || !is_whole && item.id.starts_with(reference),
        false => item.name == name && item.project == project.as_str(),
    };
    let meant: Vec<_> = items.into_iter().zip(nodes).filter(|(item, _)| is_meant(item)).collect();
    match meant.as_slice() {
        [] => Err(unknown(reference, &unreachable)),
        [(item, node)] => Ok((node.clone(), item.clone())),
        several => Err(ambiguous(reference, several, is_whole)),
    }
}

fn ambiguous(reference: &str, several: &[(v1::TrashItem, Arc<Node>)], is_whole: bool) -> Error {
    let on: Vec<_> =
        several.iter().take(5).map(|(item, node)| format!("{} on {}", item.id, node.name)).collect();
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

/// Everything that a node says to this.
async fn said(plane: &Plane, node: NodeId, ask: Ask) -> Result<Vec<Message>, Status> {
    let mut tunnel = plane.tunnels.open(&plane.links, node, None, ask).await?;
    let mut said = Vec::new();
    while let Some(message) = tunnel.next().await? {
        said.push(message);
        if said.len() > MOST_ITEMS {
            return Err(odd().into());
        }
    }
    Ok(said)
}

fn items_of(node: &Node, said: Vec<Message>) -> Result<Vec<v1::TrashItem>, Error> {
    let item = |message| match message {
        Message::Trash(StoredTrash { item: Some(item), .. }) => Ok(on(node, item)),
        _ => Err(odd()),
    };
    said.into_iter().map(item).collect()
}

fn on(node: &Node, item: v1::TrashItem) -> v1::TrashItem {
    v1::TrashItem { node: node.name.to_string(), ..item }
}

fn unknown(reference: &str, unreachable: &[String]) -> Error {
    let hint = match unreachable {
        [] => "droverctl trash ls lists what there is".to_owned(),
        nodes => format!("it may be on a node that cannot be asked now: {}", nodes.join(", ")),
    };
    Error::not_found("TRASH_NOT_FOUND", format!("there is no '{reference}' in the trash"), hint)
}

fn node_said(status: &Status) -> Error {
    Error::new(status.code(), "NODE_SAID", status.message(), "the agent's log on the node has more")
}

fn odd() -> Error {
    Error::new(Code::Internal, "NODE_SAID", "the node answered something else", "try again")
}
