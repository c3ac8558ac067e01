//! What watchers of sessions are sent alike: a session that changed is rendered and encoded once, for everybody who looks at
//! the same revision of the registry, and its bytes are shared. That is why this call is served beside the generated
//! service, which encodes for each caller: the router asks here first.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::{BufMut, Bytes};
use drover_domain::fleet::Fleet;
use drover_domain::session::Session;
use drover_domain::time::Timestamp;
use drover_proto::convert::session::render;
use drover_proto::v1;
use http::{Request, Response};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, ServerStreamingService};
use tonic_prost::ProstCodec;

use crate::plane::Plane;
use crate::rpc::session_reads::{self, Items};

/// The call that is served here.
pub const PATH: &str = "/drover.v1.SessionService/WatchSessions";

/// Encoded sessions, by the revision of the registry that they were looked at in and their own; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<HashMap<(u64, u64), Bytes>>>);

/// More than a round of watchers is ever busy with.
const MOST: usize = 1024;

impl Shelf {
    /// The session as it stands in this fleet, encoded.
    pub fn session(&self, fleet: &Fleet, session: &Session, now: Timestamp) -> Bytes {
        let key = (fleet.revision(), session.revision);
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&key) {
            return found.clone();
        }
        let encoded = encoded(fleet, session, now);
        let mut shelf = lock();
        if shelf.len() >= MOST {
            shelf.clear();
        }
        shelf.entry(key).or_insert(encoded).clone()
    }
}

/// A session that nobody else is about to look at.
pub fn encoded(fleet: &Fleet, session: &Session, now: Timestamp) -> Bytes {
    render(fleet, session, now).encode_to_vec().into()
}

/// A `WatchSessionsResponse` on its way: what is this watcher's own, then what is shared.
#[derive(Clone, Debug)]
pub struct Piece {
    own: Bytes,
    shared: Bytes,
}

impl Piece {
    pub fn session(resume_position: String, session: Bytes) -> Self {
        const SESSION: u32 = 2;
        let mut own = v1::WatchSessionsResponse { resume_position, item: None }.encode_to_vec();
        encode_key(SESSION, WireType::LengthDelimited, &mut own);
        encode_varint(session.len() as u64, &mut own);
        Self { own: own.into(), shared: session }
    }

    pub fn other(response: &v1::WatchSessionsResponse) -> Self {
        Self { own: response.encode_to_vec().into(), shared: Bytes::new() }
    }
}

/// Serves the call.
pub async fn serve(plane: Plane, request: Request<Body>) -> Response<Body> {
    Grpc::new(Pieces).server_streaming(Watching(plane), request).await.map(Body::new)
}

struct Watching(Plane);

impl ServerStreamingService<v1::WatchSessionsRequest> for Watching {
    type Response = Piece;
    type ResponseStream = Items<Piece>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<v1::WatchSessionsRequest>) -> Self::Future {
        ready(session_reads::watch(&self.0, request.get_ref()))
    }
}

/// Requests as always; answers in pieces.
#[derive(Clone, Copy, Debug)]
struct Pieces;

type Usual = ProstCodec<v1::WatchSessionsResponse, v1::WatchSessionsRequest>;

impl Codec for Pieces {
    type Encode = Piece;
    type Decode = v1::WatchSessionsRequest;
    type Encoder = Self;
    type Decoder = <Usual as Codec>::Decoder;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        Usual::raw_decoder(BufferSettings::default())
    }
}

impl Encoder for Pieces {
    type Item = Piece;
    type Error = Status;

    fn encode(&mut self, piece: Piece, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(piece.own);
        buffer.put(piece.shared);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_proto::v1::watch_sessions_response::Item;

    #[test]
    fn pieces_are_the_message_that_the_contract_has() {
        let session = v1::Session { id: "ses_a".into(), name: "a".into(), runs: 3, ..v1::Session::default() };
        let piece = Piece::session("1-2".into(), session.encode_to_vec().into());
        let bytes = [piece.own, piece.shared].concat();
        let expected =
            v1::WatchSessionsResponse { resume_position: "1-2".into(), item: Some(Item::Session(session)) };
        assert_eq!(v1::WatchSessionsResponse::decode(bytes.as_slice()).unwrap(), expected);
        let other = v1::WatchSessionsResponse {
            resume_position: "1-3".into(),
            item: Some(Item::Removed("ses_a".into())),
        };
        let piece = Piece::other(&other);
        assert_eq!(v1::WatchSessionsResponse::decode(piece.own).unwrap(), other);
    }
}
