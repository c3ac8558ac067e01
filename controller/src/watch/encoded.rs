//! What watchers are sent alike: a thing that changed is rendered and encoded once, for everybody who looks at the same
//! revision of the registry, and its bytes are shared. What is not in the registry is looked up for each watcher and sent
//! before them, so that it is never older than the look. That is why these calls are served beside the generated
//! services, which encode for each caller: the router asks here first.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::routing::{MethodRouter, post};
use bytes::{BufMut, Bytes};
use drover_domain::fleet::Fleet;
use drover_domain::id::{NodeId, SessionId};
use http::Request;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, ServerStreamingService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::error::Error;
use crate::plane::Plane;
use crate::rpc::session_reads::Items;
use crate::rpc::{nodes, session_reads};

/// The calls that are served here.
pub fn routes(plane: &Plane) -> Router {
    Router::new()
        .route("/drover.v1.SessionService/WatchSessions", served(plane, session_reads::watch))
        .route("/drover.v1.NodeService/WatchNodes", served(plane, nodes::watch))
}

/// What the generated service answers, which is asked only if the router did not ask here first.
pub fn not_served_here() -> Error {
    Error::new(Code::Internal, "INTERNAL", "the router did not serve this watch", "")
}

/// What is encoded; with a revision of the registry it says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    Session(SessionId),
    Node(NodeId),
}

/// Whether others look at the same thing in the same revision.
#[derive(Clone, Copy, Debug)]
pub enum Looking {
    Alone,
    WithOthers,
}

/// Encoded things, by the revision of the registry that they were looked at in; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<HashMap<(u64, Thing), Place>>>);

/// Filled by who comes first; the others wait for that, and nobody else does.
type Place = Arc<OnceLock<Bytes>>;

/// More than a round of watchers is ever busy with.
const MOST: usize = 1024;

impl Shelf {
    /// The thing as it stands in this fleet, encoded. What `render` makes of it must be in the fleet: the key says
    /// nothing of what is beside it, see [`Piece::new`].
    pub fn encoded<M: Message>(
        &self,
        fleet: &Fleet,
        thing: Thing,
        looking: Looking,
        render: impl FnOnce() -> M,
    ) -> Bytes {
        let encode = || Bytes::from(render().encode_to_vec());
        match looking {
            Looking::Alone => encode(),
            Looking::WithOthers => self.place(fleet.revision(), thing).get_or_init(encode).clone(),
        }
    }

    fn place(&self, revision: u64, thing: Thing) -> Place {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = shelf.get(&(revision, thing)) {
            return found.clone();
        }
        if shelf.len() >= MOST {
            shelf.clear();
        }
        shelf.entry((revision, thing)).or_default().clone()
    }
}

/// A message on its way: what is this watcher's own, then what is shared. Encoded messages that follow each other are
/// one message with the fields of both.
#[derive(Clone, Debug)]
pub struct Piece {
    own: Bytes,
    shared: Bytes,
}

impl Piece {
    pub fn new(own: &impl Message, shared: Bytes) -> Self {
        Self { own: own.encode_to_vec().into(), shared }
    }

    /// This thing as the item of an answer; `answer` has the rest.
    pub fn within(self, answer: &impl Message) -> Self {
        /// The field of the thing, the same in all answers.
        const ITEM: u32 = 2;
        let mut own = answer.encode_to_vec();
        encode_key(ITEM, WireType::LengthDelimited, &mut own);
        encode_varint((self.own.len() + self.shared.len()) as u64, &mut own);
        own.extend_from_slice(&self.own);
        Self { own: own.into(), shared: self.shared }
    }
}

/// How a call is answered.
type Watch<Q> = fn(&Plane, &Q) -> Result<tonic::Response<Items<Piece>>, Status>;

fn served<Q: Message + Default + Clone + 'static>(plane: &Plane, watch: Watch<Q>) -> MethodRouter {
    let watching = Watching { plane: plane.clone(), watch };
    post(async move |request: Request<Body>| {
        Grpc::new(Pieces(PhantomData)).server_streaming(watching, request).await.map(Body::new)
    })
}

#[derive(Clone, Debug)]
struct Watching<Q> {
    plane: Plane,
    watch: Watch<Q>,
}

impl<Q> ServerStreamingService<Q> for Watching<Q> {
    type Response = Piece;
    type ResponseStream = Items<Piece>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        ready((self.watch)(&self.plane, request.get_ref()))
    }
}

/// Requests as always; answers in pieces.
#[derive(Clone, Copy, Debug)]
struct Pieces<Q>(PhantomData<Q>);

impl<Q: Message + Default + 'static> Codec for Pieces<Q> {
    type Encode = Piece;
    type Decode = Q;
    type Encoder = Self;
    type Decoder = <ProstCodec<Q, Q> as Codec>::Decoder;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Q, Q>::raw_decoder(BufferSettings::default())
    }
}

impl<Q> Encoder for Pieces<Q> {
    type Item = Piece;
    type Error = Status;

    fn encode(&mut self, piece: Piece, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(piece.own);
        buffer.put(piece.shared);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
