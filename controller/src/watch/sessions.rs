//! Watching sessions. What a watcher gets is the newest state: a session that changed twice meanwhile is told once.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use drover_domain::change::{After, Change};
use drover_domain::id::SessionId;
use drover_domain::session::Session;
use drover_proto::convert::session::render;
use drover_proto::v1::watch_sessions_response::Item;
use drover_proto::v1::{Bookmark, CaughtUp, WatchSessionsResponse};

use super::encoded::{Looking, Piece, Thing};
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

    fn tell(&mut self, published: &Published, session: &Session, looking: Looking) -> Option<Told<Piece>> {
        let (fleet, now) = (&published.fleet, self.plane.registry.timestamp());
        if !self.filter.matches(fleet, session) {
            return self.shown.remove(&session.id).then(|| Told::Removed(session.id.to_string()));
        }
        self.shown.insert(session.id);
        let thing = Thing::Session(session.id);
        let shared = self.plane.shelf.encoded(fleet, thing, looking, || render(fleet, session, now));
        // All of a session is in the fleet, but for what the time does to it, which is as of who looks first.
        Some(Told::Item(Piece::new(&(), shared)))
    }
}

#[tonic::async_trait]
impl Subject for Sessions {
    type Item = Piece;
    type Message = Piece;

    fn initial<'a>(
        &'a mut self,
        published: &'a Published,
    ) -> Box<dyn Iterator<Item = Told<Piece>> + Send + 'a> {
        let sessions = published.fleet.sessions();
        Box::new(sessions.filter_map(|session| self.tell(published, session, Looking::Alone)))
    }

    fn changed(&mut self, published: &Published, changes: &[Arc<Change>]) -> Vec<Told<Piece>> {
        let mut seen = HashSet::new();
        let mut told = Vec::new();
        for change in changes {
            if let After::SessionForgotten(_, id) = &change.after {
                self.shown.remove(id);
                told.push(Told::Removed(id.to_string()));
            }
            let session = change.after.session().filter(|session| seen.insert(session.id));
            let now = session.and_then(|session| published.fleet.session(session.id));
            told.extend(now.and_then(|session| self.tell(published, session, Looking::WithOthers)));
        }
        told
    }

    async fn missed(&mut self, published: &Published, seen: u64) -> Result<Vec<Told<Piece>>, Error> {
        let history = self.plane.registry.history().clone();
        let read = self.plane.tasks.spawn_blocking(move || history.removed_after(seen)).await;
        let removed = read.map_err(|error| Error::internal("reading the log", &error))??;
        let removed = removed.ok_or_else(|| out_of_range("the position is older than the log"))?;
        let mut told: Vec<_> =
            removed.into_iter().filter(|id| id.starts_with(SessionId::PREFIX)).map(Told::Removed).collect();
        // Each session has the revision of its last change.
        let changed = published.fleet.sessions().filter(|session| session.revision > seen);
        told.extend(changed.filter_map(|session| self.tell(published, session, Looking::Alone)));
        Ok(told)
    }

    fn message(resume_position: String, told: Told<Piece>) -> Piece {
        let item = match told {
            Told::Item(session) => {
                return session.within(&WatchSessionsResponse { resume_position, item: None });
            }
            Told::Removed(id) => Item::Removed(id),
            Told::CaughtUp => Item::CaughtUp(CaughtUp {}),
            Told::Bookmark => Item::Bookmark(Bookmark {}),
        };
        Piece::new(&WatchSessionsResponse { resume_position, item: Some(item) }, Bytes::new())
    }
}
