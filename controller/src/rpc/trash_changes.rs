//! What people do to the trash: bring work back, delete it for good. Where the effect is a node's alone, what it is about
//! is kept under the request id before it, and the answer after it: a repetition finds the one or the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use drover_domain::command::{NewSession, Wish};
use drover_domain::id::{NodeId, SessionId};
use drover_domain::name::Name;
use drover_domain::node::Node;
use drover_domain::session::Session;
use drover_domain::spec::{Secrets, Spec};
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message;
use drover_proto::node_v1::{PurgeTrash, RestoreTrash, SavedItem};
use drover_proto::store_v1::{SavedItemRecord, SavedWorkRecord};
use drover_proto::v1;
use tonic::{Code, Request, Response, Status};

use super::session_changes::{free_like, shown};
use super::trash::{Saved, ambiguous, everywhere, odd, one, said, unknown};
use super::{Call, Stage, reading};
use crate::error::Error;
use crate::plane::Plane;
use crate::random;

pub async fn restore(
    plane: &Plane,
    request: Request<v1::RestoreTrashRequest>,
) -> Result<Response<v1::RestoreTrashResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "RestoreTrash", &asked.request_id, &asked)?;
    if let Some(answered) = call.recall(plane, Stage::Answered).await? {
        return Ok(Response::new(answered));
    }
    if asked.directory.is_empty() {
        let Saved { node, item, .. } = one(plane, &asked.item, &asked.project).await?;
        return as_session(plane, call, &asked, &node, item).await;
    }
    if !asked.directory.starts_with('/') {
        return Err(Error::invalid("directory", "must be an absolute path on the node").into());
    }
    let found = async {
        let saved = one(plane, &asked.item, &asked.project).await?;
        Ok(SavedWorkRecord { items: vec![recorded(saved)], unreachable_nodes: vec![] })
    };
    let about = begun(plane, &call, found).await?;
    let work = plane.clone();
    finished(plane, async move { put_beside(&work, &call, &asked, &about).await }).await
}

async fn put_beside(
    plane: &Plane,
    call: &Call,
    asked: &v1::RestoreTrashRequest,
    about: &SavedWorkRecord,
) -> Result<v1::RestoreTrashResponse, Status> {
    let saved = about.items.first().ok_or_else(odd)?;
    let (directory, branch) = (asked.directory.clone(), asked.branch.clone());
    let ask = RestoreTrash { item: Some(named(saved)), directory, branch };
    match said(plane, node_of(saved)?, Ask::RestoreTrash(ask)).await?.into_iter().next() {
        Some(Message::Restored(restored)) => {
            let node = saved.item.as_ref().map(|item| item.node.clone()).unwrap_or_default();
            let answer = v1::RestoreTrashResponse { node, session: None, ..restored };
            Ok(call.remember(plane, Stage::Answered, answer).await?)
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
    request: Request<v1::PurgeTrashRequest>,
) -> Result<Response<v1::PurgeTrashResponse>, Status> {
    let asked = request.get_ref().clone();
    if asked.items.is_empty() && !asked.expired {
        return Err(
            Error::invalid("items", "is empty: name the items, or ask for all that have expired").into()
        );
    }
    let call = Call::of(&request, "PurgeTrash", &asked.request_id, &asked)?;
    if let Some(answered) = call.recall(plane, Stage::Answered).await? {
        return Ok(Response::new(answered));
    }
    let about = begun(plane, &call, doomed(plane, &asked)).await?;
    let work = plane.clone();
    finished(plane, async move { delete(&work, &call, about).await }).await
}

/// What is named and what has expired, each once. If one that is named is not there nothing is deleted.
async fn doomed(plane: &Plane, asked: &v1::PurgeTrashRequest) -> Result<SavedWorkRecord, Error> {
    let found = everywhere(plane, None).await?;
    for id in &asked.items {
        let claimed: Vec<_> = found.saved.iter().filter(|saved| saved.item.id == *id).cloned().collect();
        match claimed.as_slice() {
            [] => return Err(unknown(id, &found.unreachable)),
            [_] => {}
            several => return Err(ambiguous(id, several, true)),
        }
    }
    let is_meant = |saved: &Saved| asked.items.contains(&saved.item.id) || asked.expired && saved.expired;
    let items = found.saved.into_iter().filter(is_meant).map(recorded).collect();
    Ok(SavedWorkRecord { items, unreachable_nodes: found.unreachable })
}

/// Each node is told of what is its own. What is gone already was deleted before.
async fn delete(
    plane: &Plane,
    call: &Call,
    about: SavedWorkRecord,
) -> Result<v1::PurgeTrashResponse, Status> {
    let mut of_nodes: BTreeMap<NodeId, Vec<SavedItem>> = BTreeMap::new();
    for saved in &about.items {
        of_nodes.entry(node_of(saved)?).or_default().push(named(saved));
    }
    for (node, items) in of_nodes {
        said(plane, node, Ask::PurgeTrash(PurgeTrash { items })).await?;
    }
    let items = about.items.into_iter().filter_map(|saved| saved.item).collect();
    let answer = v1::PurgeTrashResponse { items, unreachable_nodes: about.unreachable_nodes };
    Ok(call.remember(plane, Stage::Answered, answer).await?)
}

/// What a call is about: looked up once, and kept before anything is done.
async fn begun(
    plane: &Plane,
    call: &Call,
    found: impl Future<Output = Result<SavedWorkRecord, Error>>,
) -> Result<SavedWorkRecord, Error> {
    match call.recall(plane, Stage::Begun).await? {
        Some(about) => Ok(about),
        None => call.remember(plane, Stage::Begun, found.await?).await,
    }
}

/// In a task of its own: the handler is dropped when its client leaves, the work is not.
async fn finished<T: Send + 'static>(
    plane: &Plane,
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<Response<T>, Status> {
    let done = plane.tasks.spawn(work).await.map_err(|error| Error::internal("the call", &error))?;
    done.map(Response::new)
}

fn recorded(saved: Saved) -> SavedItemRecord {
    SavedItemRecord { node_id: saved.node.id.to_string(), item: Some(saved.item) }
}

fn node_of(saved: &SavedItemRecord) -> Result<NodeId, Error> {
    saved.node_id.parse().map_err(|_| odd())
}

fn named(saved: &SavedItemRecord) -> SavedItem {
    let item = saved.item.clone().unwrap_or_default();
    SavedItem { id: item.id, create_time: item.create_time }
}
