//! Calls that look at sessions, and the streams from their nodes.

use std::pin::Pin;

use drover_domain::id::RunId;
use drover_domain::session::Session;
use drover_proto::convert::{run, session::render};
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message;
use drover_proto::node_v1::{ReadDiff, ReadLogs};
use drover_proto::v1;
use futures::{Stream, StreamExt};
use tonic::{Code, Response, Status};

use super::{page, reading, resolve};
use crate::error::Error;
use crate::filter::SessionFilter;
use crate::plane::Plane;
use crate::tunnel::Tunnel;
use crate::watch;
use crate::watch::encoded::Piece;

/// The items of a stream.
pub type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub fn get(plane: &Plane, asked: v1::GetSessionRequest) -> Result<Response<v1::GetSessionResponse>, Status> {
    all_fields(asked.read_mask.as_ref())?;
    let (published, now) = plane.view();
    let session = resolve::session(&published.fleet, &asked.session, &asked.project)?;
    let session = Some(render(&published.fleet, &session, now));
    Ok(Response::new(v1::GetSessionResponse { session }))
}

fn all_fields(mask: Option<&prost_types::FieldMask>) -> Result<(), Error> {
    match mask {
        Some(mask) if !mask.paths.is_empty() => Err(Error::not_built("choosing fields with read_mask")),
        _ => Ok(()),
    }
}

pub fn list(
    plane: &Plane,
    asked: &v1::ListSessionsRequest,
) -> Result<Response<v1::ListSessionsResponse>, Status> {
    all_fields(asked.read_mask.as_ref())?;
    let mut filter = SessionFilter::parse(&asked.filter)?;
    filter.all = asked.all;
    if !asked.project.is_empty() {
        filter.project = Some(resolve::project(&asked.project)?);
    }
    let size = page::size(asked.page_size)?;
    let bound =
        ["sessions", &asked.project, &asked.filter, &asked.order_by, if asked.all { "all" } else { "" }];
    let place = page::read(&asked.page_token, &bound)?;
    let order = Order::parse(&asked.order_by)?;
    let (published, now) = plane.view();
    let fleet = &published.fleet;
    let (sessions, next) = match order {
        Order { key: Key::Number, is_descending: false } => {
            let after = place
                .map_or(Ok(0), |place| place.parse::<u64>())
                .map_err(|_| Error::invalid("page_token", "is odd"))?;
            let mut found = fleet.sessions_after(after).filter(|session| filter.matches(fleet, session));
            let page: Vec<_> = found.by_ref().take(size).collect();
            let next = found.next().and_then(|_| page.last()).map(|last| last.number.to_string());
            (page, next)
        }
        order => {
            let skip = place
                .map_or(Ok(0), |place| place.parse::<usize>())
                .map_err(|_| Error::invalid("page_token", "is odd"))?;
            let mut found: Vec<_> =
                fleet.sessions().filter(|session| filter.matches(fleet, session)).collect();
            order.sort(&mut found);
            let next = (found.len() > skip + size).then(|| (skip + size).to_string());
            (found.into_iter().skip(skip).take(size).collect(), next)
        }
    };
    let sessions = sessions.into_iter().map(|session| render(fleet, session, now)).collect();
    let next_page_token = next.map(|place| page::write(&place, &bound)).unwrap_or_default();
    Ok(Response::new(v1::ListSessionsResponse { sessions, next_page_token }))
}

/// In which order a list is.
struct Order {
    key: Key,
    is_descending: bool,
}

enum Key {
    Number,
    Name,
    StateTime,
}

impl Order {
    fn parse(text: &str) -> Result<Self, Error> {
        let (word, is_descending) =
            text.trim().strip_suffix(" desc").map_or((text.trim(), false), |word| (word, true));
        let key = match word {
            "" | "number" | "create_time" => Key::Number,
            "name" => Key::Name,
            "state_time" => Key::StateTime,
            other => {
                let text =
                    format!("'{other}' is not number, create_time, name or state_time, maybe with ' desc'");
                return Err(Error::invalid("order_by", text));
            }
        };
        Ok(Self { key, is_descending })
    }

    fn sort(&self, sessions: &mut [&std::sync::Arc<Session>]) {
        match self.key {
            Key::Number => sessions.sort_by_key(|session| session.number),
            Key::Name => {
                sessions.sort_by(|a, b| (&a.project, &a.name, a.number).cmp(&(&b.project, &b.name, b.number)))
            }
            Key::StateTime => sessions.sort_by_key(|session| (session.since, session.number)),
        }
        if self.is_descending {
            sessions.reverse();
        }
    }
}

pub fn watch(plane: &Plane, asked: &v1::WatchSessionsRequest) -> Result<Response<Items<Piece>>, Status> {
    let published = plane.registry.now();
    let mut filter = SessionFilter::parse(&asked.filter)?;
    if !asked.session.is_empty() {
        filter.session = Some(resolve::session(&published.fleet, &asked.session, &asked.project)?.id);
        filter.all = true;
    } else if !asked.project.is_empty() {
        filter.project = Some(resolve::project(&asked.project)?);
    }
    let begin = watch::begin(&published, &asked.resume_position)?;
    let (sink, stream) = watch::stream()?;
    plane.tasks.spawn(watch::run(
        plane.clone(),
        watch::sessions::Sessions::new(plane.clone(), filter),
        sink,
        begin,
    ));
    Ok(Response::new(Box::pin(stream)))
}

pub async fn runs(
    plane: &Plane,
    asked: v1::ListRunsRequest,
) -> Result<Response<v1::ListRunsResponse>, Status> {
    let session = resolve::session(&plane.registry.now().fleet, &asked.session, &asked.project)?;
    let size = page::size(asked.page_size)?;
    let bound = ["runs", &session.id.to_string()];
    let before = match page::read(&asked.page_token, &bound)? {
        Some(place) => place.parse().map_err(|_| Error::invalid("page_token", "is odd"))?,
        None => u64::MAX >> 1,
    };
    let (history, number) = (plane.registry.history().clone(), session.number);
    let ended = reading(plane, move || history.runs_ended(number, before, size + 1)).await?;
    let mut runs = Vec::new();
    if asked.page_token.is_empty() {
        let live = render(&plane.registry.now().fleet, &session, plane.registry.timestamp()).current_run;
        runs.extend(live);
    }
    let next = (ended.len() > size).then(|| ended[size - 1].0.to_string());
    runs.extend(ended.iter().take(size).map(|(_, run)| run::ended(run)));
    let next_page_token = next.map(|place| page::write(&place, &bound)).unwrap_or_default();
    Ok(Response::new(v1::ListRunsResponse { runs, next_page_token }))
}

pub async fn logs(
    plane: &Plane,
    asked: v1::StreamLogsRequest,
) -> Result<Response<Items<v1::StreamLogsResponse>>, Status> {
    let session = resolve::session(&plane.registry.now().fleet, &asked.session, &asked.project)?;
    let (run_id, ordinal) = match asked.run {
        0 => (newest_run(&session).map(|run| run.to_string()).unwrap_or_default(), 0),
        ordinal => (String::new(), ordinal),
    };
    let after = asked.after.filter(|position| !position.run_id.is_empty());
    let run_id = after.as_ref().map_or(run_id, |position| position.run_id.clone());
    let ask = ReadLogs {
        run_id,
        follow: asked.follow,
        tail: asked.tail,
        since_time: asked.since_time,
        after,
        ordinal,
    };
    let tunnel = open(plane, &session, Ask::ReadLogs(ask)).await?;
    Ok(Response::new(pieces(plane, tunnel, |message| match message {
        Message::LogChunk(chunk) => Some(v1::StreamLogsResponse { chunk: Some(chunk) }),
        _ => None,
    })?))
}

fn newest_run(session: &Session) -> Option<RunId> {
    session
        .state
        .order()
        .map(|order| order.run)
        .or_else(|| session.last_run.as_ref().map(|run| run.order.run))
}

pub async fn diff(
    plane: &Plane,
    asked: v1::GetDiffRequest,
) -> Result<Response<Items<v1::GetDiffResponse>>, Status> {
    let session = resolve::session(&plane.registry.now().fleet, &asked.session, &asked.project)?;
    let tunnel = open(plane, &session, Ask::ReadDiff(ReadDiff { stat: asked.stat })).await?;
    Ok(Response::new(pieces(plane, tunnel, |message| match message {
        Message::Diff(data) => Some(v1::GetDiffResponse { data }),
        _ => None,
    })?))
}

async fn open(plane: &Plane, session: &Session, ask: Ask) -> Result<Tunnel, Error> {
    match session.state.placement() {
        Some(placement) => plane.tunnels.open(&plane.links, placement.node, Some(session.id), ask).await,
        None => {
            let text =
                format!("session '{}' is {} and on no node", session.name, session.state.kind().word());
            let hint = "droverctl get shows what it waits for, or what was kept of it";
            Err(Error::new(Code::FailedPrecondition, "SESSION_STATE", text, hint))
        }
    }
}

/// Joins a tunnel and a client: pieces are asked for as fast as the client takes them.
fn pieces<T: Send + 'static>(
    plane: &Plane,
    tunnel: Tunnel,
    read: impl Fn(Message) -> Option<T> + Send + 'static,
) -> Result<Items<T>, Error> {
    let end = plane.tasks.token();
    let stream = futures::stream::unfold((tunnel, read, false), move |(mut tunnel, read, is_over)| {
        let end = end.clone();
        async move {
            if is_over {
                return None;
            }
            let next = tokio::select! {
                next = tunnel.next() => next,
                () = end.cancelled() => Err(watch::shutting_down().into()),
            };
            match next {
                Ok(Some(message)) => {
                    let odd = || {
                        Err(Error::new(Code::Internal, "NODE_SAID", "the node sent something else", "")
                            .into())
                    };
                    let piece = read(message).map_or_else(odd, Ok);
                    let is_over = piece.is_err();
                    Some((piece, (tunnel, read, is_over)))
                }
                Ok(None) => None,
                Err(status) => Some((Err(status), (tunnel, read, true))),
            }
        }
    });
    Ok(stream.boxed())
}
