//! What is on this machine, as it is asked for by tunnel: in pieces, the changed ones only for who has the rest.

use drover_proto::node_v1::ReadInventory;
use drover_proto::node_v1::tunnel_request::Message as Up;

use super::Tunnels;
use super::answer::{Out, Trouble, say};
use crate::inventory::Ask;

impl Tunnels {
    pub(super) async fn read_inventory(&self, ask: &ReadInventory, out: &Out) -> Result<(), Trouble> {
        let repository = (!ask.repository.is_empty()).then(|| ask.repository.as_str().into());
        let ask = Ask { known: ask.known, is_full: ask.full, repository };
        let news = self.probe.read(&ask).await?;
        say(out, Up::Inventory(news.header)).await?;
        for piece in news.pieces() {
            say(out, Up::InventoryPiece(piece)).await?;
        }
        Ok(())
    }
}
