//! A registry that was replaced by an older copy of itself. Its nodes know more than it does, and show so when they link;
//! what it wants of them is of yesterday, so nothing of that may reach them.

use super::Draft;
use crate::node::{Holding, Node, Witness};
use crate::refused::Refused;

impl Draft<'_> {
    /// Refuses a node that was told more than this registry knows.
    pub(super) fn check_age(&self, node: &Node, witness: &Witness) -> Result<(), Refused> {
        match self.evidence(node, witness) {
            Some(evidence) => Err(Refused::RegistryOlder { node: node.name.clone(), evidence }),
            None => Ok(()),
        }
    }

    /// What this node knows and the registry does not, in words.
    fn evidence(&self, node: &Node, witness: &Witness) -> Option<Box<str>> {
        let (told, known) = (witness.acknowledged, node.acknowledged);
        if told > known {
            return Some(format!("it acknowledged {told} reports of it and knows {known}").into());
        }
        witness.held.iter().find_map(|held| self.ahead(held))
    }

    /// What the registry does not know of this session, although its last word on it went there. It can be seen before
    /// anything of it was reported.
    fn ahead(&self, held: &Holding) -> Option<Box<str>> {
        let session = self.fleet.session(held.session)?;
        let (title, ordinal) = (session.title(), held.ordinal);
        if held.fence.generation < self.fleet.generation() {
            return None;
        }
        if held.fence.generation > self.fleet.generation() || held.fence.epoch > session.epoch {
            return Some(format!("it placed '{title}' there and does not know of it").into());
        }
        let known = session.state.order().or_else(|| session.last_run.as_ref().map(|run| run.order));
        let is_other = |run| known.is_some_and(|known| known.ordinal == ordinal && known.run != run);
        let is_unknown = ordinal > session.runs || held.run.is_some_and(is_other);
        is_unknown
            .then(|| format!("it ordered run {ordinal} of '{title}' there and does not know of it").into())
    }
}
