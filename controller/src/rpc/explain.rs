//! Why a session is as it is: its last decisions with what they rest on, from the change log, and what happens next.

use drover_domain::outlook;
use drover_domain::session::{Session, State};
use drover_proto::convert::session::render;
use drover_proto::v1;
use tonic::{Response, Status};

use super::{reading, resolve};
use crate::plane::Plane;
use crate::store::{self, Position};
use crate::watch::events;

/// How many decisions are told.
const MOST: usize = 12;

pub async fn session(
    plane: &Plane,
    asked: v1::ExplainSessionRequest,
) -> Result<Response<v1::ExplainSessionResponse>, Status> {
    let session = resolve::session(&plane.registry.now().fleet, &asked.session, &asked.project)?;
    let (history, number) = (plane.registry.history().clone(), session.number);
    let position = Position { after: 0, before: Some(u64::MAX >> 1), most: MOST };
    let rows = reading(plane, move || history.changes(Some(number), position)).await?;
    let (published, now) = plane.view();
    let fleet = &published.fleet;
    let decisions = rows.iter().map(|row| {
        let event = events::render(fleet, row);
        let mut evidence: Vec<String> =
            Some(event.message).filter(|text| !text.is_empty()).into_iter().collect();
        evidence.extend(row.session.as_ref().map(|session| facts(session, row)).unwrap_or_default());
        v1::Decision { time: event.time, what: event.kind, evidence, actor: event.actor }
    });
    Ok(Response::new(v1::ExplainSessionResponse {
        session: Some(render(fleet, &session, now)),
        decisions: decisions.collect(),
        next: outlook::next(fleet, &session, now),
    }))
}

/// What of the session as it was then a person asks for next.
fn facts(session: &Session, row: &store::Change) -> Vec<String> {
    let mut facts = vec![format!("then {}", session.state.kind().word())];
    if let Some(hold) = session.hold.as_ref().filter(|_| row.kind != "session_held") {
        facts.push(format!("held: {}", hold.reason));
    }
    if let State::Error { fault, .. } = &session.state {
        facts.push(format!("{}: {}", fault.code.word(), fault.hint));
    }
    if let Some(halt) = session.halt.as_ref().filter(|_| row.kind == "session_stopping") {
        let grace = halt.grace.map(|grace| format!(", with {} s to end by itself", grace.as_secs()));
        facts.push(format!("asked by {}{}", halt.by, grace.unwrap_or_default()));
    }
    facts
}
