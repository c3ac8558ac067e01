//! What every call passes: who is it, may it, is there room, how long may it take. One layer around all services, so that
//! no handler can forget it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use drover_daemon::clock::Clock;
use drover_daemon::telemetry;
use http::{HeaderMap, Request, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};
use tracing::Instrument;

use crate::access::{self, Principal, Tokens};
use crate::error::Error;
use crate::listen::Peer;
use crate::metrics::Metrics;

/// The layer's state; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate {
    tokens: Tokens,
    metrics: Metrics,
    clock: Clock,
    /// Calls being answered, but for those in the reserved lane.
    room: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
}

/// Calls at once; more are told to come again.
const ROOM: usize = 2048;
/// Calls at once of the kind that must go through when there is no room.
const RESERVED: usize = 16_384;
/// How long a call may take if its caller does not say.
const USUAL: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);
/// As a gRPC code, for the counter.
const UNIMPLEMENTED: u16 = 12;

impl Gate {
    pub fn new(tokens: Tokens, metrics: Metrics, clock: Clock) -> Self {
        let (room, reserved) = (Arc::new(Semaphore::new(ROOM)), Arc::new(Semaphore::new(RESERVED)));
        Self { tokens, metrics, clock, room, reserved }
    }

    fn principal(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Result<Principal, Error> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match (bearer.and_then(|value| value.strip_prefix("Bearer ")), peer.and_then(|peer| peer.node)) {
            (Some(token), _) => self.tokens.find(token).ok_or_else(|| {
                let hint = "look at the token of the context: droverctl context ls";
                Error::new(
                    Code::Unauthenticated,
                    "TOKEN_UNKNOWN",
                    "the controller does not know this token",
                    hint,
                )
            }),
            (None, Some(node)) => Ok(Principal::Node(node)),
            (None, None) => Ok(Principal::Nobody),
        }
    }

    fn room(&self, path: &str) -> Result<OwnedSemaphorePermit, Error> {
        let lane = if is_reserved(path) { &self.reserved } else { &self.room };
        lane.clone().try_acquire_owned().map_err(|_| {
            Error::new(Code::ResourceExhausted, "BUSY", "too many calls at once", "try again in a moment")
                .after(Duration::from_millis(500))
        })
    }
}

/// Heartbeats, reports and stops go through whatever else is going on.
fn is_reserved(path: &str) -> bool {
    path.starts_with("/drover.node.v1.")
        || path.starts_with("/grpc.health.")
        || path.ends_with("/StopSession")
}

/// Lets a call through, or answers it.
pub async fn pass(State(gate): State<Gate>, mut request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let started = gate.clock.boot();
    if access::needs(&path).is_none() && !is_grpc(request.headers()) {
        gate.metrics.called(&path, UNIMPLEMENTED, gate.clock.boot().saturating_sub(started));
        return (StatusCode::NOT_FOUND, "there is nothing here\n").into_response();
    }
    let peer = request.extensions().get::<Peer>().copied();
    let admitted = gate.principal(peer.as_ref(), request.headers()).and_then(|principal| {
        access::allow(&principal, &path)?;
        Ok((gate.room(&path)?, principal))
    });
    let (permit, principal) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return refused(&gate, &path, error, started),
    };
    let span = tracing::info_span!("call", rpc = %path, by = %principal.name());
    let parent = request.headers().get(telemetry::HEADER).and_then(|value| value.to_str().ok());
    telemetry::continue_from(&span, parent);
    let patience = timeout(request.headers());
    request.extensions_mut().insert(principal);
    let answer = tokio::time::timeout(patience, next.run(request).instrument(span)).await;
    drop(permit);
    match answer {
        Ok(response) => {
            let code =
                response.headers().get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok());
            gate.metrics.called(&path, code.unwrap_or(0), gate.clock.boot().saturating_sub(started));
            response
        }
        Err(_) => {
            let text = format!("the call was not answered within {patience:.0?}");
            let hint = "what it asked for may still happen: the same request id finds out";
            refused(&gate, &path, Error::new(Code::DeadlineExceeded, "DEADLINE", text, hint), started)
        }
    }
}

/// Who does not speak gRPC would take an answer with its status for a success.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}

fn refused(gate: &Gate, path: &str, error: Error, started: Duration) -> Response {
    let code = u16::try_from(i32::from(error.code)).unwrap_or(0);
    let known = if access::needs(path).is_some() { path } else { "/other/other" };
    gate.metrics.called(known, code, gate.clock.boot().saturating_sub(started));
    Status::from(error).into_http::<tonic::body::Body>().map(Body::new)
}

/// What the caller says in `grpc-timeout`, within bounds.
fn timeout(headers: &HeaderMap) -> Duration {
    let text = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
    let parsed = text.and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let count: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(count.saturating_mul(3600)),
            "M" => Duration::from_secs(count.saturating_mul(60)),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    });
    parsed.map_or(USUAL, |asked| asked.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_deadline_counts_within_bounds() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(of("5S"), Duration::from_secs(5));
        assert_eq!(of("250m"), Duration::from_millis(250));
        assert_eq!(of("99999999H"), LONGEST);
        assert_eq!(of("x"), USUAL);
        assert_eq!(of(""), USUAL);
    }

    #[test]
    fn a_full_room_does_not_keep_heartbeats_and_stops_out() {
        let gate = Gate::new(Tokens::default(), Metrics::default(), Clock::system());
        let held: Vec<_> =
            (0..ROOM).map(|_| gate.room("/drover.v1.SessionService/GetSession").unwrap()).collect();
        assert!(gate.room("/drover.v1.SessionService/GetSession").is_err());
        assert!(gate.room("/drover.v1.SessionService/StopSession").is_ok());
        assert!(gate.room("/drover.node.v1.NodeLinkService/Link").is_ok());
        drop(held);
    }
}
