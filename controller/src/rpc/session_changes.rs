//! Calls that change sessions.

use std::sync::Arc;
use std::time::Duration;

use drover_domain::command::{NewSession, Wish};
use drover_domain::fleet::{Answer, Fleet};
use drover_domain::id::SessionId;
use drover_domain::name::Name;
use drover_domain::session::{Removal, Session};
use drover_domain::spec::{Limits, RuntimeKind, Secrets, Spec, WorkspaceKind};
use drover_domain::time::Timestamp;
use drover_proto::convert::time::maybe_length;
use drover_proto::convert::{Invalid, known, required, session::render, spec};
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message;
use drover_proto::node_v1::{MakeCheckpoint, ReadWork};
use drover_proto::v1;
use tonic::{Code, Request, Response, Status};

use super::{Call, resolve};
use crate::error::Error;
use crate::plane::Plane;
use crate::random;

const SHORTEST_EXTENSION: Duration = Duration::from_secs(1);
const LONGEST_EXTENSION: Duration = Duration::from_secs(365 * 24 * 3600);

pub async fn create(
    plane: &Plane,
    request: Request<v1::CreateSessionRequest>,
) -> Result<Response<v1::CreateSessionResponse>, Status> {
    let asked = request.get_ref().clone();
    let call =
        Call::of(&request, "CreateSession", &asked.request_id, &asked)?.validating(asked.validate_only);
    let new = new_session(plane, &call, asked)?;
    let wish = Wish::CreateSession(Box::new(new));
    call.submit(plane, wish, |fleet, answer, now| v1::CreateSessionResponse {
        session: shown(fleet, answer, now),
    })
    .await
}

/// What no agent can do yet is said at once; a session that asks for it would wait for ever.
fn check_built(spec: &Spec) -> Result<(), Error> {
    match (spec.runtime, spec.workspace) {
        (RuntimeKind::Tmux, _) => Err(Error::not_built("the runtime 'tmux'")),
        (RuntimeKind::Container, _) => Err(Error::not_built("the runtime 'container'")),
        (_, WorkspaceKind::Memory) => Err(Error::not_built("the workspace 'memory'")),
        (_, WorkspaceKind::Clone) => Err(Error::not_built("the workspace 'clone'")),
        (RuntimeKind::Process, WorkspaceKind::Worktree) => Ok(()),
    }
}

fn new_session(plane: &Plane, call: &Call, asked: v1::CreateSessionRequest) -> Result<NewSession, Error> {
    let mut invalid = Invalid::default();
    let project = match asked.project.as_str() {
        "" => Some(Name::default_project()),
        text => invalid.take(Name::new(text).map_err(|problem| Invalid::one("project", problem))),
    };
    let given = match asked.name.as_str() {
        "" => None,
        text => invalid.take(Name::new(text).map_err(|problem| Invalid::one("name", problem))),
    };
    let conflict = invalid.take(known("on_conflict", asked.on_conflict));
    let spec = invalid.take(required("spec", asked.spec).and_then(|wire| spec::from_wire("spec", wire)));
    if let Some(spec) = &spec {
        check_secrets(spec, &asked.secrets, &mut invalid);
    }
    let (project, spec, conflict) =
        invalid.or(project.zip(spec).zip(conflict).map(|((p, s), c)| (p, s, c)))?;
    check_built(&spec)?;
    let fleet = &plane.registry.now().fleet;
    let name = match conflict {
        v1::OnConflict::Unspecified | v1::OnConflict::Fail => {
            given.unwrap_or_else(|| made_up(fleet, &project, &spec))
        }
        v1::OnConflict::Rename => match given {
            Some(name) => free_like(fleet, &project, &name),
            None => made_up(fleet, &project, &spec),
        },
        v1::OnConflict::Resume => return Err(Error::not_built("--on-conflict resume")),
        v1::OnConflict::Replace => return Err(Error::not_built("--on-conflict replace")),
    };
    let secrets = asked.secrets.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(NewSession {
        id: SessionId::from_random(random::bytes()),
        project,
        name,
        owner: call.principal.name().into(),
        spec: Arc::new(spec),
        secrets: Secrets(secrets),
        start: !asked.no_start,
        origin: None,
    })
}

fn check_secrets(spec: &Spec, secrets: &std::collections::BTreeMap<String, String>, invalid: &mut Invalid) {
    for name in spec.secret_names.iter().filter(|name| !secrets.contains_key(&***name)) {
        invalid.add(format!("secrets[{name:?}]"), "is named in the spec and has no value");
    }
    for name in secrets.keys().filter(|name| !spec.secret_names.iter().any(|known| **known == ***name)) {
        invalid.add(format!("secrets[{name:?}]"), "is not named in spec.secret_names");
    }
}

/// A name for a session that was given none: after what it runs, and free.
fn made_up(fleet: &Fleet, project: &Name, spec: &Spec) -> Name {
    let program =
        spec.command.first().map_or("session", |program| program.rsplit('/').next().unwrap_or("session"));
    let word: String =
        program.chars().filter(char::is_ascii_alphanumeric).take(20).collect::<String>().to_ascii_lowercase();
    let word = if word.is_empty() { "session".to_owned() } else { word };
    let tail = random::number() % 46_656;
    let digits: String = [tail / 1296, tail / 36 % 36, tail % 36]
        .iter()
        .filter_map(|digit| char::from_digit(*digit, 36))
        .collect();
    let name = Name::new(&format!("{word}-{digits}")).unwrap_or_else(|_| Name::default_project());
    free_like(fleet, project, &name)
}

/// `name`, or the first of `name-2`, `name-3`, … that is free.
pub(super) fn free_like(fleet: &Fleet, project: &Name, name: &Name) -> Name {
    let stem: String = name.as_str().chars().take(55).collect();
    let stem = stem.trim_end_matches('-').to_owned();
    let others = (2_u64..).filter_map(|number| Name::new(&format!("{stem}-{number}")).ok());
    let mut candidates = std::iter::once(name.clone()).chain(others);
    candidates
        .find(|candidate| fleet.session_named(project, candidate).is_none())
        .unwrap_or_else(|| name.clone())
}

/// Which session is meant, as of now.
fn named(plane: &Plane, reference: &str, project: &str) -> Result<Arc<Session>, Error> {
    resolve::session(&plane.registry.now().fleet, reference, project)
}

pub(super) fn shown(fleet: &Fleet, answer: &Answer, now: Timestamp) -> Option<v1::Session> {
    answer.session().map(|session| render(fleet, session, now))
}

pub async fn start(
    plane: &Plane,
    request: Request<v1::StartSessionRequest>,
) -> Result<Response<v1::StartSessionResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "StartSession", &asked.request_id, &asked)?.validating(asked.validate_only);
    let session = named(plane, &asked.session, &asked.project)?.id;
    let wish = Wish::StartSession { session, resume: asked.resume };
    call.submit(plane, wish, |fleet, answer, now| v1::StartSessionResponse {
        session: shown(fleet, answer, now),
    })
    .await
}

pub async fn stop(
    plane: &Plane,
    request: Request<v1::StopSessionRequest>,
) -> Result<Response<v1::StopSessionResponse>, Status> {
    let asked = request.get_ref().clone();
    let grace = maybe_length("grace", asked.grace.as_ref()).map_err(Error::from)?;
    if grace.is_some_and(|grace| grace > Limits::LONGEST_GRACE) {
        return Err(Error::invalid("grace", "is longer than an hour").into());
    }
    let call = Call::of(&request, "StopSession", &asked.request_id, &asked)?.validating(asked.validate_only);
    let wish = Wish::StopSession { session: named(plane, &asked.session, &asked.project)?.id, grace };
    call.submit(plane, wish, |fleet, answer, now| v1::StopSessionResponse {
        session: shown(fleet, answer, now),
    })
    .await
}

pub async fn hold(
    plane: &Plane,
    request: Request<v1::HoldSessionRequest>,
) -> Result<Response<v1::HoldSessionResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "HoldSession", &asked.request_id, &asked)?;
    let lasts: Option<Duration> = maybe_length("duration", asked.duration.as_ref()).map_err(Error::from)?;
    if asked.reason.len() > 1024 || asked.reason.chars().any(char::is_control) {
        return Err(Error::invalid("reason", "is longer than 1024 bytes or has a control character").into());
    }
    let reason =
        if asked.reason.is_empty() { format!("held by {}", call.actor()) } else { asked.reason.clone() };
    let session = named(plane, &asked.session, &asked.project)?.id;
    let wish = Wish::HoldSession { session, lasts, reason: reason.into() };
    call.submit(plane, wish, |fleet, answer, now| v1::HoldSessionResponse {
        session: shown(fleet, answer, now),
    })
    .await
}

pub async fn release(
    plane: &Plane,
    request: Request<v1::ReleaseSessionRequest>,
) -> Result<Response<v1::ReleaseSessionResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "ReleaseSession", &asked.request_id, &asked)?;
    let wish = Wish::ReleaseSession { session: named(plane, &asked.session, &asked.project)?.id };
    call.submit(plane, wish, |fleet, answer, now| v1::ReleaseSessionResponse {
        session: shown(fleet, answer, now),
    })
    .await
}

pub async fn extend(
    plane: &Plane,
    request: Request<v1::ExtendSessionRequest>,
) -> Result<Response<v1::ExtendSessionResponse>, Status> {
    let asked = request.get_ref().clone();
    let by = maybe_length("duration", asked.duration.as_ref()).map_err(Error::from)?;
    let by = by.filter(|by| *by >= SHORTEST_EXTENSION && *by <= LONGEST_EXTENSION);
    let by = by.ok_or_else(|| Error::invalid("duration", "must be between a second and a year"))?;
    let call =
        Call::of(&request, "ExtendSession", &asked.request_id, &asked)?.validating(asked.validate_only);
    let wish = Wish::ExtendSession { session: named(plane, &asked.session, &asked.project)?.id, by };
    call.submit(plane, wish, |fleet, answer, now| v1::ExtendSessionResponse {
        session: shown(fleet, answer, now),
    })
    .await
}

pub async fn reset(
    plane: &Plane,
    request: Request<v1::ResetSessionRequest>,
) -> Result<Response<v1::ResetSessionResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "ResetSession", &asked.request_id, &asked)?.validating(asked.validate_only);
    let session = named(plane, &asked.session, &asked.project)?;
    let removal = Removal { keep_branch: false, force_branch: true };
    let preview = match asked.validate_only && asked.hard {
        true => Some(preview(plane, &session, removal).await?),
        false => None,
    };
    let wish = Wish::ResetSession { session: session.id, hard: asked.hard };
    call.submit(plane, wish, move |fleet, answer, now| v1::ResetSessionResponse {
        session: shown(fleet, answer, now),
        preview: preview.clone(),
    })
    .await
}

/// The node saves; saving what is saved already changes nothing, so that the call may be repeated.
pub async fn checkpoint(
    plane: &Plane,
    asked: v1::CheckpointRequest,
) -> Result<Response<v1::CheckpointResponse>, Status> {
    let session = named(plane, &asked.session, &asked.project)?;
    let Some(placement) = session.state.placement().filter(|_| session.workspace.is_some()) else {
        let text =
            format!("session '{}' is {} and has no workspace", session.name, session.state.kind().word());
        let hint = "droverctl get shows what it waits for, or what was kept of it";
        return Err(Error::new(Code::FailedPrecondition, "SESSION_STATE", text, hint).into());
    };
    let ask = Ask::MakeCheckpoint(MakeCheckpoint {});
    let mut tunnel = plane.tunnels.open(&plane.links, placement.node, Some(session.id), ask).await?;
    match tunnel.next().await? {
        Some(Message::Checkpoint(saved)) => Ok(Response::new(saved)),
        _ => Err(odd_answer().into()),
    }
}

fn odd_answer() -> Error {
    Error::new(Code::Internal, "NODE_SAID", "the node answered something else", "try again")
}

pub async fn delete(
    plane: &Plane,
    request: Request<v1::DeleteSessionRequest>,
) -> Result<Response<v1::DeleteSessionResponse>, Status> {
    let asked = request.get_ref().clone();
    let call =
        Call::of(&request, "DeleteSession", &asked.request_id, &asked)?.validating(asked.validate_only);
    let session = named(plane, &asked.session, &asked.project)?;
    let removal = Removal { keep_branch: asked.keep_branch, force_branch: asked.force };
    let preview = if asked.validate_only { Some(preview(plane, &session, removal).await?) } else { None };
    let wish = Wish::DeleteSession { session: session.id, removal };
    call.submit(plane, wish, move |fleet, answer, now| v1::DeleteSessionResponse {
        session: shown(fleet, answer, now),
        preview: preview.clone(),
    })
    .await
}

/// What a removal would find: only the node can say.
async fn preview(plane: &Plane, session: &Session, removal: Removal) -> Result<v1::RemovalPreview, Error> {
    let Some(placement) = session.state.placement().filter(|_| session.workspace.is_some()) else {
        return Ok(v1::RemovalPreview {
            branch_fate: v1::BranchFate::Absent.into(),
            ..v1::RemovalPreview::default()
        });
    };
    let ask =
        Ask::ReadWork(ReadWork { keep_branch: removal.keep_branch, force_branch: removal.force_branch });
    let mut tunnel = plane.tunnels.open(&plane.links, placement.node, Some(session.id), ask).await?;
    let said = tunnel.next().await.map_err(|status| {
        Error::new(
            status.code(),
            "NODE_SAID",
            status.message(),
            "the removal itself looks again before it does anything",
        )
    })?;
    match said {
        Some(Message::Work(work)) => {
            Ok(v1::RemovalPreview { stops_run: session.state.order().is_some(), ..work })
        }
        _ => Err(odd_answer()),
    }
}
