//! What is told of an inventory to somebody who has an earlier one: the sessions that changed, and pieces of bounded size.
//! Ages are no change. Locks, strays and what could not be seen are few, and told whole each time.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_domain::id::SessionId;
use drover_domain::inventory::Inventory;
use drover_domain::time::Timestamp;
use drover_proto::convert::inventory::told::{ageless, whole};
use drover_proto::convert::time::length;
use drover_proto::node_v1;
use prost::Message;

use super::Ask;

/// What was told last.
#[derive(Debug)]
pub(super) struct Told {
    look: u64,
    /// Without their ages.
    sessions: BTreeMap<SessionId, node_v1::SessionTraces>,
}

/// The answer to somebody who asked.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    pub header: node_v1::InventoryHeader,
    /// All of it, in one.
    pub whole: node_v1::InventoryPiece,
}

/// It, in pieces that fit into messages.
#[derive(Debug)]
pub struct Pieces(node_v1::InventoryPiece);

const MOST_SESSIONS: usize = 200;
const MOST_BYTES: usize = 64 * 1024;

impl Told {
    pub(super) fn since(look: u64) -> Self {
        Self { look, sessions: BTreeMap::new() }
    }

    pub(super) fn take(&mut self, inventory: Inventory, ask: &Ask, took: Duration, now: Timestamp) -> News {
        let look = self.look + 1;
        let mut whole = whole(&inventory, now);
        let took = Some(length(took));
        let header = |since| node_v1::InventoryHeader { look, since, took };
        if ask.repository.is_some() {
            return News { header: header(0), whole };
        }
        let ids = inventory.sessions.keys().copied();
        let fresh: BTreeMap<SessionId, node_v1::SessionTraces> =
            ids.zip(whole.sessions.iter().map(ageless)).collect();
        let is_more = !ask.is_full && ask.known != 0 && ask.known == self.look;
        let since = if is_more { self.look } else { 0 };
        if is_more {
            let is_news: Vec<bool> =
                fresh.iter().map(|(session, traces)| self.sessions.get(session) != Some(traces)).collect();
            let mut is_news = is_news.into_iter();
            whole.sessions.retain(|_| is_news.next().unwrap_or(true));
            let gone = self.sessions.keys().filter(|session| !fresh.contains_key(session));
            whole.gone = gone.map(ToString::to_string).collect();
        }
        *self = Self { look, sessions: fresh };
        News { header: header(since), whole }
    }
}

impl News {
    pub fn pieces(self) -> Pieces {
        Pieces(self.whole)
    }
}

impl Iterator for Pieces {
    type Item = node_v1::InventoryPiece;

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = node_v1::InventoryPiece::default();
        let mut room = MOST_BYTES;
        let all = &mut self.0;
        move_some(&mut all.sessions, &mut piece.sessions, (&mut room, MOST_SESSIONS));
        move_some(&mut all.locks, &mut piece.locks, (&mut room, usize::MAX));
        move_some(&mut all.strays, &mut piece.strays, (&mut room, usize::MAX));
        move_some(&mut all.blind, &mut piece.blind, (&mut room, usize::MAX));
        let gone = all.gone.len().min(room / 32);
        piece.gone = all.gone.drain(..gone).collect();
        (piece != node_v1::InventoryPiece::default()).then_some(piece)
    }
}

/// Moves from the front as many as there is room for; one that alone is larger goes alone.
fn move_some<T: Message>(from: &mut Vec<T>, to: &mut Vec<T>, (room, most): (&mut usize, usize)) {
    let mut count = 0;
    for item in from.iter().take(most) {
        let size = item.encoded_len() + 8;
        if size > *room && (count > 0 || *room < MOST_BYTES) {
            break;
        }
        *room = room.saturating_sub(size);
        count += 1;
    }
    to.extend(from.drain(..count));
}
