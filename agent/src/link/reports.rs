//! Sends what the ledger has to report, in order, and again after every reconnect until it is acknowledged.

use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::{LinkRequest, Reports};
use tokio::sync::{mpsc, watch};

use super::LinkError;
use crate::ledger::Ledger;
use crate::wire;

/// Reports in one message at most: none is larger than a few kilobytes.
const TOGETHER: usize = 64;

pub(super) struct Outbox {
    ledger: Ledger,
    reported: watch::Receiver<u64>,
    /// The last one that was sent on this link.
    sent: u64,
}

impl Outbox {
    /// Begins after what has arrived.
    pub(super) fn new(ledger: Ledger, acknowledged: u64) -> Self {
        let reported = ledger.reported();
        Self { ledger, reported, sent: acknowledged }
    }

    /// Sends as reports come; waits while the controller takes none.
    pub(super) async fn send(mut self, work: &mpsc::Sender<LinkRequest>) -> LinkError {
        loop {
            self.reported.mark_unchanged();
            let waiting = match self.ledger.reports(self.sent, TOGETHER).await {
                Ok(waiting) => waiting,
                Err(error) => return error.into(),
            };
            let Some((last, _)) = waiting.last() else {
                if self.reported.changed().await.is_err() {
                    return LinkError::Closed;
                }
                continue;
            };
            self.sent = *last;
            let reports =
                waiting.iter().filter_map(|(sequence, report)| wire::sequenced(*sequence, report)).collect();
            let message = LinkRequest { message: Some(Up::Reports(Reports { reports })) };
            if work.send(message).await.is_err() {
                return LinkError::Closed;
            }
        }
    }
}
