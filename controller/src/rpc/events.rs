//! EventService: the change log.

use drover_proto::v1;
use drover_proto::v1::event_service_server::EventService;
use tonic::{Request, Response, Status};

use super::session_reads::Items;
use super::{page, reading, resolve};
use crate::error::Error;
use crate::plane::Plane;
use crate::store::Position;
use crate::watch::{self, Begin, events};

#[derive(Clone, Debug)]
pub struct EventHandler(pub Plane);

/// How many rows one call looks at: a filter that matches little must not read the whole log at once.
const LOOKED_AT: usize = 5_000;

impl EventHandler {
    fn wanted(&self, session: &str, project: &str, node: &str) -> Result<events::Wanted, Error> {
        let fleet = &self.0.registry.now().fleet;
        let mut wanted = events::Wanted::default();
        if !session.is_empty() {
            wanted.session = Some(resolve::session(fleet, session, project)?.number);
        } else if !project.is_empty() {
            wanted.project = Some(resolve::project(project)?.to_string());
        }
        if !node.is_empty() {
            wanted.node = Some(resolve::node(fleet, node)?.id);
        }
        Ok(wanted)
    }
}

#[tonic::async_trait]
impl EventService for EventHandler {
    type WatchEventsStream = Items<v1::WatchEventsResponse>;

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let asked = request.into_inner();
        let wanted = self.wanted(&asked.session, &asked.project, &asked.node)?;
        let size = page::size(asked.page_size)?;
        let order = if asked.newest_first { "newest" } else { "oldest" };
        let bound = ["events", &asked.session, &asked.project, &asked.node, order];
        let place: Option<u64> = match page::read(&asked.page_token, &bound)? {
            Some(place) => Some(place.parse().map_err(|_| Error::invalid("page_token", "is odd"))?),
            None => None,
        };
        let position = if asked.newest_first {
            Position { after: 0, before: Some(place.unwrap_or(u64::MAX >> 1)), most: LOOKED_AT }
        } else {
            Position { after: place.unwrap_or(asked.after_revision), before: None, most: LOOKED_AT }
        };
        let history = self.0.registry.history().clone();
        let number = wanted.session;
        let rows = reading(&self.0, move || history.changes(number, position)).await?;
        let fleet = &self.0.registry.now().fleet;
        let mut found = rows.iter().filter(|row| row.revision > asked.after_revision && wanted.takes(row));
        let page: Vec<_> = found.by_ref().take(size).map(|row| events::render(fleet, row)).collect();
        let last_looked_at = if found.next().is_some() {
            page.last().map(|event| event.revision)
        } else {
            rows.last().map(|row| row.revision)
        };
        let is_over = page.len() < size && rows.len() < LOOKED_AT;
        let next = last_looked_at.filter(|_| !is_over).map(|place| page::write(&place.to_string(), &bound));
        Ok(Response::new(v1::ListEventsResponse { events: page, next_page_token: next.unwrap_or_default() }))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let asked = request.into_inner();
        let wanted = self.wanted(&asked.session, &asked.project, &asked.node)?;
        let published = self.0.registry.now();
        let begin = match watch::begin(&published, &asked.resume_position)? {
            Begin::Anew => Begin::After(published.fleet.revision()),
            begin @ Begin::After(_) => begin,
        };
        let (sink, stream) = watch::stream()?;
        let subject = events::Events { plane: self.0.clone(), wanted };
        self.0.tasks.spawn(watch::run(self.0.clone(), subject, sink, begin));
        Ok(Response::new(Box::pin(stream)))
    }
}
