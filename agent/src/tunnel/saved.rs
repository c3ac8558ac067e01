//! Saved work, as it is asked for by tunnel: a checkpoint made now.

use drover_domain::command::Observation;
use drover_domain::id::SessionId;
use drover_domain::session::Checkpoint;
use drover_domain::time::Timestamp;
use drover_proto::convert;
use drover_proto::node_v1::tunnel_request::Message as Up;
use drover_proto::v1;

use super::Tunnels;
use super::answer::{Out, Trouble, fault, say};
use crate::git::read;
use crate::ledger::{Journal, Write};
use crate::wire;

impl Tunnels {
    /// Saves the workspace as it is. The registry is told too.
    pub(super) async fn checkpoint(&self, session: SessionId, out: &Out) -> Result<(), Trouble> {
        let site = self.site(session).await?;
        let means = self.converge.means();
        let before = read::references(&site.common, &site.wip_prefix()).map_err(|failure| fault(&failure))?;
        let saved = means.home.workspaces.checkpoint(&site).await.map_err(|failure| fault(&failure))?;
        let saved = saved.ok_or(Trouble::NoWorkspace)?;
        let unchanged = before.contains(&(saved.reference.clone(), saved.commit.clone()));
        let at = Timestamp::from_millis(means.clock.wall_millis());
        let saved = Checkpoint { reference: saved.reference.into(), commit: saved.commit.into(), at };
        let checkpoint = Some(convert::run::checkpoint(&saved));
        let fence = self.converge.entry(session).ok_or(Trouble::NotHere(session))?.local.fence;
        let body = wire::report(session, fence, &Observation::Checkpointed(saved), 0);
        means.ledger.commit(vec![Write::Report { session, progress: false, body }]).await?;
        say(out, Up::Checkpoint(v1::CheckpointResponse { checkpoint, unchanged })).await
    }
}
