//! Watching nodes. What is told of one is as it stands in the registry, which all watchers are sent alike, and when it
//! was heard and how busy it is, which is as of the moment that it is told to this one.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use drover_domain::change::{After, Change};
use drover_domain::id::NodeId;
use drover_domain::node::Node;
use drover_proto::convert::node::{Heard, beside, render};
use drover_proto::v1::watch_nodes_response::Item;
use drover_proto::v1::{Bookmark, CaughtUp, WatchNodesResponse};

use super::encoded::{Looking, Piece, Thing};
use super::{Subject, Told, out_of_range};
use crate::error::Error;
use crate::plane::Plane;
use crate::registry::Published;

#[derive(Debug)]
pub struct Nodes(pub Plane);

impl Nodes {
    fn tell(&self, published: &Published, node: &Node, looking: Looking) -> Told<Piece> {
        let (fleet, thing) = (&published.fleet, Thing::Node(node.id));
        let shared = self.0.shelf.encoded(fleet, thing, looking, || render(fleet, node, Heard::default()));
        Told::Item(Piece::new(&beside(self.0.heard(node)), shared))
    }
}

#[tonic::async_trait]
impl Subject for Nodes {
    type Item = Piece;
    type Message = Piece;

    fn initial<'a>(
        &'a mut self,
        published: &'a Published,
    ) -> Box<dyn Iterator<Item = Told<Piece>> + Send + 'a> {
        Box::new(published.fleet.nodes().map(|node| self.tell(published, node, Looking::Alone)))
    }

    fn changed(&mut self, published: &Published, changes: &[Arc<Change>]) -> Vec<Told<Piece>> {
        let mut seen = HashSet::new();
        let mut told = Vec::new();
        for change in changes {
            if let After::NodeRemoved(id) = &change.after {
                told.push(Told::Removed(id.to_string()));
            }
            let node = change.after.node().filter(|node| seen.insert(node.id));
            let now = node.and_then(|node| published.fleet.node(node.id));
            told.extend(now.map(|node| self.tell(published, node, Looking::WithOthers)));
        }
        told
    }

    async fn missed(&mut self, published: &Published, seen: u64) -> Result<Vec<Told<Piece>>, Error> {
        let history = self.0.registry.history().clone();
        let read = self.0.tasks.spawn_blocking(move || history.removed_after(seen)).await;
        let removed = read.map_err(|error| Error::internal("reading the log", &error))??;
        let removed = removed.ok_or_else(|| out_of_range("the position is older than the log"))?;
        let mut told: Vec<_> =
            removed.into_iter().filter(|id| id.starts_with(NodeId::PREFIX)).map(Told::Removed).collect();
        let changed = published.fleet.nodes().filter(|node| node.revision > seen);
        told.extend(changed.map(|node| self.tell(published, node, Looking::Alone)));
        Ok(told)
    }

    fn message(resume_position: String, told: Told<Piece>) -> Piece {
        let item = match told {
            Told::Item(node) => return node.within(&WatchNodesResponse { resume_position, item: None }),
            Told::Removed(id) => Item::Removed(id),
            Told::CaughtUp => Item::CaughtUp(CaughtUp {}),
            Told::Bookmark => Item::Bookmark(Bookmark {}),
        };
        Piece::new(&WatchNodesResponse { resume_position, item: Some(item) }, Bytes::new())
    }
}
