//! What happened, as events: from the changes as they are made, or from the log.

use std::sync::Arc;

use drover_domain::change::{After, Change};
use drover_domain::fleet::Fleet;
use drover_domain::id::NodeId;
use drover_domain::session::{Session, State};
use drover_proto::convert::time::stamp;
use drover_proto::v1;
use drover_proto::v1::watch_events_response::Item;
use drover_proto::v1::{Bookmark, CaughtUp, WatchEventsResponse};

use super::{Subject, Told, out_of_range};
use crate::error::Error;
use crate::plane::Plane;
use crate::registry::Published;
use crate::store;

/// Which events somebody wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The session's number.
    pub session: Option<u64>,
    pub project: Option<String>,
    pub node: Option<NodeId>,
}

#[derive(Debug)]
pub struct Events {
    pub plane: Plane,
    pub wanted: Wanted,
}

/// What one look into the log brings at most.
const MOST: usize = 10_000;

impl Wanted {
    pub fn takes(&self, row: &store::Change) -> bool {
        let session = row.session.as_ref();
        self.session.is_none_or(|number| session.is_some_and(|session| session.number == number))
            && self
                .project
                .as_ref()
                .is_none_or(|name| session.is_some_and(|session| session.project.as_str() == name))
            && self.node.is_none_or(|node| row.node == Some(node))
    }
}

/// A change as it was made, in the form that the log has it in.
fn row_of(change: &Change) -> store::Change {
    let session = change.after.session().map(|session| Session::clone(session));
    let node = match &change.after {
        After::Node(node) | After::Heard(node) | After::Joined(_, node) | After::Reported(_, node) => {
            Some(node.id)
        }
        After::NodeRemoved(id) => Some(*id),
        After::Session(session) | After::SessionWithSecrets(session, _) => {
            session.state.placement().map(|p| p.node)
        }
        After::SessionForgotten(..)
        | After::Token(_)
        | After::TokenForgotten(_)
        | After::Plan(_)
        | After::PlanForgotten(_)
        | After::SafeMode(_)
        | After::SafeModeOver(_)
        | After::Noted => change.note.as_ref().and_then(|note| note.node),
    };
    store::Change {
        revision: change.revision,
        at: change.at,
        actor: change.actor.to_string(),
        kind: change.kind.word().to_owned(),
        session,
        node,
        note: change.note.as_ref().map(|note| note.text.clone()),
    }
}

pub fn render(fleet: &Fleet, row: &store::Change) -> v1::Event {
    let session = row.session.as_ref();
    let text = |text: Option<String>| text.unwrap_or_default();
    v1::Event {
        revision: row.revision,
        time: Some(stamp(row.at)),
        kind: row.kind.clone(),
        actor: row.actor.clone(),
        session_id: text(session.map(|session| session.id.to_string())),
        session: text(session.map(|session| session.name.to_string())),
        project: text(session.map(|session| session.project.to_string())),
        node_id: text(row.node.map(|node| node.to_string())),
        message: message(fleet, row),
    }
}

fn message(fleet: &Fleet, row: &store::Change) -> String {
    let node = row.node.and_then(|node| fleet.node(node)).map(|node| node.name.to_string());
    if let Some(note) = &row.note {
        return note.to_string();
    }
    match (row.session.as_ref().map(|session| (session, &session.state)), row.kind.as_str()) {
        (Some((session, _)), "run_ended" | "run_interrupted") => match &session.last_run {
            Some(run) if session.resumes => {
                format!("run {} {}; it is resumed", run.order.ordinal, run.outcome)
            }
            Some(run) => format!("run {} {}", run.order.ordinal, run.outcome),
            None => String::new(),
        },
        (Some((_, State::Error { fault, .. })), _) => format!("{}: {}", fault.step, fault.text),
        (
            Some((_, State::Creating { progress, .. } | State::Cleaning { progress, .. })),
            "session_progressed",
        ) => {
            format!("step {} of {}: {}", progress.step, progress.of, progress.name)
        }
        (Some((_, State::Running { run, .. })), "run_started") => {
            format!("run {} on {}", run.order.ordinal, node.unwrap_or_default())
        }
        (Some((_, State::Running { run, .. })), "run_extended") => {
            format!("run {}: extension {}", run.order.ordinal, run.extensions)
        }
        (Some((session, _)), "session_checkpointed") => {
            session.checkpoint.as_ref().map(|saved| saved.reference.to_string()).unwrap_or_default()
        }
        (Some((session, _)), "session_reset") if session.wants_rebuild() => {
            "its workspace is made anew".to_owned()
        }
        (Some((session, _)), "session_held") => {
            session.hold.as_ref().map(|hold| hold.reason.to_string()).unwrap_or_default()
        }
        (Some((_, State::Orphaned { evidence, .. })), _) => evidence.to_string(),
        (Some((_, State::Cleaned { kept })), _) => kept.reasons.join("; "),
        (Some(_), _) => node.map(|node| format!("on {node}")).unwrap_or_default(),
        (None, _) => node.unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl Subject for Events {
    type Item = v1::Event;
    type Message = WatchEventsResponse;

    fn initial<'a>(&'a mut self, _: &'a Published) -> Box<dyn Iterator<Item = Told<v1::Event>> + Send + 'a> {
        Box::new(std::iter::empty())
    }

    fn changed(&mut self, published: &Published, changes: &[Arc<Change>]) -> Vec<Told<v1::Event>> {
        let rows = changes.iter().map(|change| row_of(change));
        rows.filter(|row| self.wanted.takes(row))
            .map(|row| Told::Item(render(&published.fleet, &row)))
            .collect()
    }

    async fn missed(&mut self, published: &Published, seen: u64) -> Result<Vec<Told<v1::Event>>, Error> {
        let (history, session) = (self.plane.registry.history().clone(), self.wanted.session);
        let read = self.plane.tasks.spawn_blocking(move || {
            if history.oldest()?.is_none_or(|oldest| oldest > seen + 1) {
                return Ok(None);
            }
            history.changes(session, store::Position { after: seen, before: None, most: MOST }).map(Some)
        });
        let rows = read.await.map_err(|error| Error::internal("reading the log", &error))??;
        let rows = rows.filter(|rows| rows.len() < MOST);
        let rows = rows
            .ok_or_else(|| out_of_range("the position is older than the log, or too long ago to catch up"))?;
        let rows =
            rows.iter().filter(|row| row.revision <= published.fleet.revision() && self.wanted.takes(row));
        Ok(rows.map(|row| Told::Item(render(&published.fleet, row))).collect())
    }

    fn message(resume_position: String, told: Told<v1::Event>) -> WatchEventsResponse {
        let item = match told {
            Told::Item(event) => Item::Event(event),
            Told::CaughtUp => Item::CaughtUp(CaughtUp {}),
            Told::Bookmark | Told::Removed(_) => Item::Bookmark(Bookmark {}),
        };
        WatchEventsResponse { resume_position, item: Some(item) }
    }
}
