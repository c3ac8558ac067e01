//! Which nodes are linked now, when each was last heard, and what it last said of its load. In memory only: a heartbeat
//! costs a look into a map and is never written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_domain::id::NodeId;
use drover_proto::convert::node::Heard;
use drover_proto::{node_v1, v1};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Cheap to clone; all clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<Mutex<HashMap<NodeId, Known>>>);

#[derive(Debug, Default)]
struct Known {
    /// On the boot clock.
    heard: Option<Duration>,
    load: Option<v1::NodeLoad>,
    line: Option<Line>,
    lines: u64,
    /// When somebody with this node's certificate was refused last, and why.
    refused: Option<(Duration, Refusal)>,
}

/// Why somebody was refused, and what to do about it.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub why: Arc<str>,
    pub hint: Arc<str>,
}

#[derive(Clone, Debug)]
struct Line {
    number: u64,
    incarnation: Box<str>,
    opens: mpsc::Sender<node_v1::OpenTunnel>,
    ends: CancellationToken,
}

/// One link of a node, as its conversation holds it. Hung up when it is dropped.
#[derive(Debug)]
pub struct Connected {
    links: Links,
    node: NodeId,
    number: u64,
    pub opens: mpsc::Receiver<node_v1::OpenTunnel>,
    /// Cancelled: a newer link took its place, or the node was revoked.
    pub ends: CancellationToken,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut known = self.links.lock();
        if let Some(entry) = known.get_mut(&self.node)
            && entry.line.as_ref().is_some_and(|line| line.number == self.number)
        {
            entry.line = None;
        }
    }
}

impl Links {
    /// A node linked; a link that it had before ends.
    pub fn connect(&self, node: NodeId, incarnation: &str, now: Duration) -> Connected {
        let (opens, opened) = mpsc::channel(64);
        let ends = CancellationToken::new();
        let mut known = self.lock();
        let entry = known.entry(node).or_default();
        entry.heard = Some(now);
        entry.lines += 1;
        let number = entry.lines;
        if let Some(older) =
            entry.line.replace(Line { number, incarnation: incarnation.into(), opens, ends: ends.clone() })
        {
            older.ends.cancel();
        }
        drop(known);
        Connected { links: self.clone(), node, number, opens: opened, ends }
    }

    /// Whether another start of the node's agent is linked and was heard `within` this time: one of the two is a copy.
    pub fn has_rival(&self, node: NodeId, incarnation: &str, now: Duration, within: Duration) -> bool {
        let known = self.lock();
        let Some(entry) = known.get(&node) else { return false };
        let is_other = entry.line.as_ref().is_some_and(|line| &*line.incarnation != incarnation);
        is_other && entry.heard.is_some_and(|heard| now.saturating_sub(heard) <= within)
    }

    /// Somebody with the node's certificate was refused.
    pub fn refused(&self, node: NodeId, now: Duration, why: &str, hint: &str) {
        let refusal = Refusal { why: why.into(), hint: hint.into() };
        self.lock().entry(node).or_default().refused = Some((now, refusal));
    }

    /// How long ago somebody with the node's certificate was refused, and why.
    pub fn refusal(&self, node: NodeId, now: Duration) -> Option<(Duration, Refusal)> {
        let (at, refusal) = self.lock().get(&node)?.refused.clone()?;
        Some((now.saturating_sub(at), refusal))
    }

    /// A node was heard.
    pub fn heard(&self, node: NodeId, now: Duration, load: Option<v1::NodeLoad>) {
        let mut known = self.lock();
        let entry = known.entry(node).or_default();
        entry.heard = Some(now);
        if load.is_some() {
            entry.load = load;
        }
    }

    pub fn heard_of(&self, node: NodeId, now: Duration) -> Heard {
        let known = self.lock();
        let Some(entry) = known.get(&node) else { return Heard::default() };
        Heard { age: entry.heard.map(|heard| now.saturating_sub(heard)), load: entry.load }
    }

    /// How long a node was silent, if it was heard at all.
    pub fn silence(&self, node: NodeId, now: Duration) -> Option<Duration> {
        self.lock().get(&node)?.heard.map(|heard| now.saturating_sub(heard))
    }

    /// The number of the node's link; none: it is not linked.
    pub fn line(&self, node: NodeId) -> Option<u64> {
        self.lock().get(&node)?.line.as_ref().map(|line| line.number)
    }

    pub fn is_linked(&self, node: NodeId) -> bool {
        self.lock().get(&node).is_some_and(|entry| entry.line.is_some())
    }

    /// Ends a node's link.
    pub fn cut(&self, node: NodeId) {
        if let Some(line) = self.lock().get_mut(&node).and_then(|entry| entry.line.take()) {
            line.ends.cancel();
        }
    }

    pub fn forget(&self, node: NodeId) {
        self.cut(node);
        self.lock().remove(&node);
    }

    /// Asks a node to open a tunnel. `false`: it is not linked.
    pub async fn ask(&self, node: NodeId, open: node_v1::OpenTunnel) -> bool {
        let line = self.lock().get(&node).and_then(|entry| entry.line.clone());
        match line {
            Some(line) => line.opens.send(open).await.is_ok(),
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_link_of_a_node_ends_the_older_and_only_itself_hangs_up() {
        let (links, node) = (Links::default(), NodeId::from_random([1; 10]));
        let old = links.connect(node, "a", Duration::ZERO);
        let mut new = links.connect(node, "a", Duration::from_secs(1));
        assert!(old.ends.is_cancelled() && !new.ends.is_cancelled());
        drop(old);
        assert!(links.is_linked(node), "the end of the older one is not the end of the newer");
        assert!(links.ask(node, node_v1::OpenTunnel::default()).await);
        assert!(new.opens.recv().await.is_some());
        assert_eq!(links.silence(node, Duration::from_secs(5)), Some(Duration::from_secs(4)));
        drop(new);
        assert!(!links.is_linked(node));
    }

    #[tokio::test]
    async fn another_start_of_an_agent_that_is_linked_and_heard_is_a_rival() {
        let (links, node, second) = (Links::default(), NodeId::from_random([1; 10]), Duration::from_secs(1));
        let rival = |incarnation: &str, now: Duration| links.has_rival(node, incarnation, now, second * 2);
        assert!(!rival("a", second));
        let link = links.connect(node, "a", second);
        assert!(!rival("a", second * 2), "it dials again");
        assert!(rival("b", second * 3));
        assert!(!rival("b", second * 4), "it was silent for long enough");
        drop(link);
        assert!(!rival("b", second), "it hung up");
    }
}
