//! Watching nodes.

use std::collections::HashSet;
use std::sync::Arc;

use drover_domain::change::{After, Change};
use drover_domain::id::NodeId;
use drover_domain::node::Node;
use drover_proto::convert::node::render;
use drover_proto::v1;
use drover_proto::v1::watch_nodes_response::Item;
use drover_proto::v1::{Bookmark, CaughtUp, WatchNodesResponse};

use super::{Subject, Told, out_of_range};
use crate::error::Error;
use crate::plane::Plane;
use crate::registry::Published;

#[derive(Debug)]
pub struct Nodes(pub Plane);

impl Nodes {
    fn tell(&self, published: &Published, node: &Node) -> Told<v1::Node> {
        Told::Item(render(&published.fleet, node, self.0.heard(node)))
    }
}

#[tonic::async_trait]
impl Subject for Nodes {
    type Item = v1::Node;
    type Message = WatchNodesResponse;

    fn initial<'a>(
        &'a mut self,
        published: &'a Published,
    ) -> Box<dyn Iterator<Item = Told<v1::Node>> + Send + 'a> {
        Box::new(published.fleet.nodes().map(|node| self.tell(published, node)))
    }

    fn changed(&mut self, published: &Published, changes: &[Arc<Change>]) -> Vec<Told<v1::Node>> {
        let mut seen = HashSet::new();
        let mut told = Vec::new();
        for change in changes {
            if let After::NodeRemoved(id) = &change.after {
                told.push(Told::Removed(id.to_string()));
            }
            let node = change.after.node().filter(|node| seen.insert(node.id));
            let now = node.and_then(|node| published.fleet.node(node.id));
            told.extend(now.map(|node| self.tell(published, node)));
        }
        told
    }

    async fn missed(&mut self, published: &Published, seen: u64) -> Result<Vec<Told<v1::Node>>, Error> {
        let history = self.0.registry.history().clone();
        let read = self.0.tasks.spawn_blocking(move || history.removed_after(seen)).await;
        let removed = read.map_err(|error| Error::internal("reading the log", &error))??;
        let removed = removed.ok_or_else(|| out_of_range("the position is older than the log"))?;
        let mut told: Vec<_> =
            removed.into_iter().filter(|id| id.starts_with(NodeId::PREFIX)).map(Told::Removed).collect();
        let changed = published.fleet.nodes().filter(|node| node.revision > seen);
        told.extend(changed.map(|node| self.tell(published, node)));
        Ok(told)
    }

    fn message(resume_position: String, told: Told<v1::Node>) -> WatchNodesResponse {
        let item = match told {
            Told::Item(node) => Item::Node(node),
            Told::Removed(id) => Item::Removed(id),
            Told::CaughtUp => Item::CaughtUp(CaughtUp {}),
            Told::Bookmark => Item::Bookmark(Bookmark {}),
        };
        WatchNodesResponse { resume_position, item: Some(item) }
    }
}
