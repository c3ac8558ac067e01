//! The calls, one file per service. A handler parses, calls and renders; what is decided is decided elsewhere.

pub mod access;
pub mod enrollment;
pub mod events;
pub mod explain;
pub mod health;
pub mod maintenance;
pub mod nodes;
pub mod page;
pub mod plans;
pub mod resolve;
pub mod safe_mode;
pub mod session_changes;
pub mod session_reads;
pub mod sessions;
pub mod trash;
pub mod trash_changes;

use bytes::Bytes;
use drover_domain::actor::Actor;
use drover_domain::command::{Command, Wish};
use drover_domain::fleet::{Answer, Fleet};
use drover_domain::time::Timestamp;
use drover_proto::convert::Invalid;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::access::{Principal, principal_of};
use crate::error::Error;
use crate::plane::Plane;
use crate::random;
use crate::registry::{Done, Repeatable};
use crate::store::RequestKey;

/// A changing call: who asks, under which request id, and with which payload.
#[derive(Debug)]
pub struct Call {
    principal: Principal,
    method: &'static str,
    request_id: String,
    payload: [u8; 32],
    trace: Option<Box<str>>,
    validate_only: bool,
}

const LONGEST_REQUEST_ID: usize = 128;

impl Call {
    /// Reads what all changing calls have in common. `asked` is what the request id stands for.
    pub fn of<T>(
        request: &Request<T>,
        method: &'static str,
        request_id: &str,
        asked: &impl Message,
    ) -> Result<Self, Error> {
        if request_id.len() > LONGEST_REQUEST_ID || request_id.chars().any(char::is_control) {
            return Err(
                Invalid::one("request_id", "is longer than 128 bytes or has a control character").into()
            );
        }
        Ok(Self {
            principal: principal_of(request)?,
            method,
            request_id: request_id.to_owned(),
            payload: random::hash(&asked.encode_to_vec()),
            trace: trace_of(),
            validate_only: false,
        })
    }

    #[must_use]
    pub fn validating(mut self, validate_only: bool) -> Self {
        self.validate_only = validate_only;
        self
    }

    pub fn actor(&self) -> Actor {
        self.principal.actor()
    }

    /// Has the wish decided and made durable, and answers with what `render` makes of it; the same answer to the same
    /// call. The work goes on if the caller leaves.
    pub async fn submit<M, R>(self, plane: &Plane, wish: Wish, render: R) -> Result<Response<M>, Status>
    where
        M: Message + Default + 'static,
        R: Fn(&Fleet, &Answer, Timestamp) -> M + Send + Sync + 'static,
    {
        let command = Command { actor: self.actor(), trace: self.trace.clone(), wish };
        if self.validate_only {
            let (published, now) = plane.view();
            let decision = published.fleet.decide(&command, now).map_err(Error::from)?;
            let mut fleet = published.fleet.clone();
            decision.changes.iter().for_each(|change| fleet.apply(change));
            return Ok(Response::new(render(&fleet, &decision.answer, now)));
        }
        let render = std::sync::Arc::new(render);
        let encode = render.clone();
        let repeatable = (!self.request_id.is_empty()).then(|| Repeatable {
            key: self.key(Stage::Answered),
            payload: self.payload,
            render: Box::new(move |fleet, answer, now| {
                Bytes::from(encode(fleet, answer, now).encode_to_vec())
            }),
        });
        let registry = plane.registry.clone();
        // The handler is dropped when its client leaves; the work is not.
        let work = plane.tasks.spawn(async move { registry.submit(command, repeatable).await });
        let done = work.await.map_err(|error| Error::internal("the call", &error))?.map_err(Error::from)?;
        match done {
            Done::Fresh(answer) => {
                let (published, now) = plane.view();
                Ok(Response::new(render(&published.fleet, &answer, now)))
            }
            Done::Repeated(bytes) => {
                let decoded = M::decode(bytes).map_err(|error| Error::internal("a kept answer", &error))?;
                Ok(Response::new(decoded))
            }
        }
    }
}

/// Of a call whose effect is on nodes, and not in the registry: what is kept of it, before and after.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// What is to be done was looked up; from here on a repetition does the same, whatever is there by then.
    Begun,
    Answered,
}

impl Call {
    /// What is kept of this call. A call without a request id is new each time.
    pub async fn recall<M: Message + Default>(
        &self,
        plane: &Plane,
        stage: Stage,
    ) -> Result<Option<M>, Error> {
        if self.request_id.is_empty() {
            return Ok(None);
        }
        let kept = plane.registry.recall(self.key(stage), self.payload).await?;
        kept.map(|bytes| M::decode(bytes).map_err(|error| Error::internal("what was kept", &error)))
            .transpose()
    }

    /// Keeps this of the call, and returns what is kept: a repetition may have been quicker.
    pub async fn remember<M: Message + Default>(
        &self,
        plane: &Plane,
        stage: Stage,
        what: M,
    ) -> Result<M, Error> {
        if self.request_id.is_empty() {
            return Ok(what);
        }
        let bytes = Bytes::from(what.encode_to_vec());
        let kept = plane.registry.remember(self.key(stage), self.payload, bytes).await?;
        M::decode(kept).map_err(|error| Error::internal("what was kept", &error))
    }

    fn key(&self, stage: Stage) -> RequestKey {
        let method = match stage {
            Stage::Begun => format!("{} begun", self.method).into(),
            Stage::Answered => self.method.into(),
        };
        let (principal, request) = (self.principal.name().into(), self.request_id.clone().into());
        RequestKey { principal, method, request }
    }
}

/// The trace that this call is a part of.
fn trace_of() -> Option<Box<str>> {
    drover_daemon::telemetry::parent_of(&tracing::Span::current()).map(Into::into)
}

/// Work that reads the disk, off the threads that serve.
pub async fn reading<T: Send + 'static>(
    plane: &Plane,
    read: impl FnOnce() -> Result<T, crate::store::Error> + Send + 'static,
) -> Result<T, Error> {
    let read = plane.tasks.spawn_blocking(read).await;
    Ok(read.map_err(|error| Error::internal("reading the registry", &error))??)
}
