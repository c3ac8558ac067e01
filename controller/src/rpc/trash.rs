//! The trash: saved work lies on the nodes, and only they can say what there is. All that can be reached are asked; who
//! could not be asked is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drover_domain::command::{NewSession, Wish};
use drover_domain::fleet::Answer;
use drover_domain::id::{NodeId, SessionId};
use drover_domain::name::Name;
use drover_domain::node::{Node, Standing};
use drover_domain::spec::{Secrets, Spec};
use drover_proto::convert::assignment;
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message;
use drover_proto::node_v1::{PurgeTrash, ReadTrash, RestoreTrash, StoredTrash};
use drover_proto::v1;
use futures::future::join_all;
use tonic::{Code, Request, Response, Status};

use super::session_changes::{free_like, shown};
use super::{Call, resolve};
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
    let is_wanted = |item: &v1::TrashItem| {
        let is_of_project = asked.project.is_empty() || item.project == asked.project;
        let is_of_session = asked.session.is_empty()
            || item.name == asked.session
            || (asked.session.starts_with(SessionId::PREFIX) && item.session_id.starts_with(&asked.session));
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
    let StoredTrash { item, files, assignment: _ } = whole(plane, node.id, item.id).await?;
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
        return as_session(plane, call, &asked, &node, item.id).await;
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
async fn as_session(
    plane: &Plane,
    call: Call,
    asked: &v1::RestoreTrashRequest,
    node: &Node,
    item: String,
) -> Result<Response<v1::RestoreTrashResponse>, Status> {
    let stored = whole(plane, node.id, item.clone()).await?;
    let told = stored.assignment.ok_or_else(odd)?;
    let told = assignment::from_wire(told).map_err(Error::from)?;
    let mut parts = Spec::clone(&told.spec).into_parts();
    parts.node = Some(node.name.clone());
    // Their values went with the session.
    parts.secret_names.clear();
    let fleet = &plane.registry.now().fleet;
    let name = match asked.name.as_str() {
        "" => free_like(fleet, &told.project, &told.name),
        name => Name::new(name).map_err(|problem| Error::invalid("name", problem))?,
    };
    let new = NewSession {
        id: SessionId::from_random(random::bytes()),
        project: told.project,
        name,
        owner: told.owner,
        spec: Arc::new(Spec::accepted(parts)),
        secrets: Secrets::default(),
        start: false,
        origin: Some(item.into()),
    };
    let node = node.name.to_string();
    call.submit(plane, Wish::CreateSession(Box::new(new)), move |fleet, answer, now| {
        let branch = match answer {
            Answer::Session(session) => session.branch(),
            Answer::Node(_) | Answer::Token(_) | Answer::Heard | Answer::Gone => String::new(),
        };
        let session = shown(fleet, answer, now);
        v1::RestoreTrashResponse { session, branch, directory: String::new(), node: node.clone() }
    })
    .await
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
        let place = found.items.iter().position(|item| item.id == *id);
        let place = place.ok_or_else(|| unknown(id, &found.unreachable))?;
        wanted.entry(found.nodes[place].id).or_default().push(id.clone());
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
        match tokio::time::timeout(PATIENCE, said).await {
            Ok(Ok(said)) => items_of(node, said).map(Some),
            // Its absence is told, not an error: what the others have is worth showing.
            Ok(Err(status)) if status.code() != Code::Unavailable => Err(node_said(&status)),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    });
    let (mut found, mut all) = (Found::default(), Vec::new());
    for (node, items) in nodes.iter().zip(join_all(asked).await) {
        match items? {
            Some(items) => all.extend(items.into_iter().map(|item| (item, node.clone()))),
            None => found.unreachable.push(node.name.to_string()),
        }
    }
    let age = |item: &v1::TrashItem| item.create_time.map_or((0, 0), |time| (time.seconds, time.nanos));
    all.sort_by(|(a, _), (b, _)| age(b).cmp(&age(a)).then_with(|| a.id.cmp(&b.id)));
    (found.items, found.nodes) = all.into_iter().unzip();
    Ok(found)
}

/// The one item that is meant: by its id, the beginning of it, or the name of its session.
async fn one(plane: &Plane, reference: &str, project: &str) -> Result<(Arc<Node>, v1::TrashItem), Error> {
    if reference.is_empty() {
        return Err(Error::invalid("item", "is missing: give an item's id or its session's name"));
    }
    let project = resolve::project(project)?;
    let Found { items, nodes, unreachable } = everywhere(plane, None).await?;
    let by_id = reference.starts_with(SessionId::PREFIX);
    let is_meant = |item: &v1::TrashItem| match by_id {
        true => item.id.starts_with(reference),
        false => item.name == reference && item.project == project.as_str(),
    };
    let mut meant: Vec<_> = items.into_iter().zip(nodes).filter(|(item, _)| is_meant(item)).collect();
    if let Some(exact) = meant.iter().position(|(item, _)| item.id == reference) {
        meant = vec![meant.swap_remove(exact)];
    }
    match meant.as_slice() {
        [] => Err(unknown(reference, &unreachable)),
        [(item, node)] => Ok((node.clone(), item.clone())),
        several => {
            let ids: Vec<_> = several.iter().take(5).map(|(item, _)| item.id.as_str()).collect();
            let text = format!("'{reference}' may be more than one item: {}", ids.join(", "));
            Err(Error::new(Code::InvalidArgument, "AMBIGUOUS", text, "give the whole id"))
        }
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
