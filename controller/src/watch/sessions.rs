//! Watching sessions. What a watcher gets is the newest state: a session that changed twice meanwhile is told once.

use std::collections::HashSet;
use std::sync::Arc;

use drover_domain::change::{After, Change};
use drover_domain::id::SessionId;
use drover_domain::session::Session;
use drover_proto::convert::session::render;
use drover_proto::v1;
use drover_proto::v1::watch_sessions_response::Item;
use drover_proto::v1::{Bookmark, CaughtUp, WatchSessionsResponse};

use super::{Subject, Told, out_of_range};
use crate::error::Error;
use crate::filter::SessionFilter;
use crate::plane::Plane;
use crate::registry::Published;

#[derive(Debug)]
pub struct Sessions {
    plane: Plane,
    filter: SessionFilter,
    /// What the watcher has seen and the filter may take away again.
    shown: HashSet<SessionId>,
}

impl Sessions {
    pub fn new(plane: Plane, filter: SessionFilter) -> Self {
        Self { plane, filter, shown: HashSet::new() }
    }

    fn tell(&mut self, published: &Published, session: &Session) -> Option<Told<v1::Session>> {
        if !self.filter.matches(&published.fleet, session) {
            return self.shown.remove(&session.id).then(|| Told::Removed(session.id.to_string()));
        }
        self.shown.insert(session.id);
        Some(Told::Item(render(&published.fleet, session, self.plane.registry.timestamp())))
    }
}

#[tonic::async_trait]
impl Subject for Sessions {
    type Item = v1::Session;
    type Message = WatchSessionsResponse;

    fn initial<'a>(
        &'a mut self,
        published: &'a Published,
    ) -> Box<dyn Iterator<Item = Told<v1::Session>> + Send + 'a> {
        Box::new(published.fleet.sessions().filter_map(|session| self.tell(published, session)))
    }

    fn changed(&mut self, published: &Published, changes: &[Arc<Change>]) -> Vec<Told<v1::Session>> {
        let mut seen = HashSet::new();
        let mut told = Vec::new();
        for change in changes {
            if let After::SessionForgotten(_, id) = &change.after {
                self.shown.remove(id);
                told.push(Told::Removed(id.to_string()));
            }
            let session = change.after.session().filter(|session| seen.insert(session.id));
            let now = session.and_then(|session| published.fleet.session(session.id));
            told.extend(now.and_then(|session| self.tell(published, session)));
        }
        told
    }

    async fn missed(&mut self, published: &Published, seen: u64) -> Result<Vec<Told<v1::Session>>, Error> {
        let history = self.plane.registry.history().clone();
        let read = self.plane.tasks.spawn_blocking(move || history.removed_after(seen)).await;
        let removed = read.map_err(|error| Error::internal("reading the log", &error))??;
        let removed = removed.ok_or_else(|| out_of_range("the position is older than the log"))?;
        let mut told: Vec<_> =
            removed.into_iter().filter(|id| id.starts_with(SessionId::PREFIX)).map(Told::Removed).collect();
        // Each session has the revision of its last change.
        let changed = published.fleet.sessions().filter(|session| session.revision > seen);
        told.extend(changed.filter_map(|session| self.tell(published, session)));
        Ok(told)
    }

    fn message(resume_position: String, told: Told<v1::Session>) -> WatchSessionsResponse {
        let item = match told {
            Told::Item(session) => Item::Session(session),
            Told::Removed(id) => Item::Removed(id),
            Told::CaughtUp => Item::CaughtUp(CaughtUp {}),
            Told::Bookmark => Item::Bookmark(Bookmark {}),
        };
        WatchSessionsResponse { resume_position, item: Some(item) }
    }
}
