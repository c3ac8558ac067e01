//! Which runs a drain stops, and when to look again. A pure plan over the fleet: whoever carries it out submits each stop
//! as a command, which asks here again.

use crate::fleet::Fleet;
use crate::id::SessionId;
use crate::node::Node;
use crate::session::{Session, Wanted};
use crate::time::Timestamp;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whose runs are to be stopped now.
    pub stops: Vec<SessionId>,
    /// The next deadline that is still to come.
    pub look_again: Option<Timestamp>,
}

/// Everything that drains want now. Carried out twice it changes nothing more.
pub fn plan(fleet: &Fleet, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for node in fleet.nodes() {
        let Some(deadline) = node.drain.as_ref().and_then(|drain| drain.deadline) else { continue };
        if deadline > now {
            plan.look_again = Some(plan.look_again.map_or(deadline, |known| known.min(deadline)));
        } else {
            let overdue = fleet.placed_on(node.id).filter(|session| is_overdue(session, node, now));
            plan.stops.extend(overdue.map(|session| session.id));
        }
    }
    plan
}

/// Whether the session's run is to be stopped because its node's drain waits no longer. A stop that somebody else
/// ordered is enough.
pub fn is_overdue(session: &Session, node: &Node, now: Timestamp) -> bool {
    let deadline = node.drain.as_ref().and_then(|drain| drain.deadline);
    let is_there = session.state.placement().is_some_and(|placement| placement.node == node.id);
    is_there
        && deadline.is_some_and(|deadline| deadline <= now)
        && session.wanted == Wanted::Running
        && session.state.order().is_some()
}

/// How many runs the node has, as far as it was heard: ordered, and not reported as ended.
pub fn runs_left(fleet: &Fleet, node: &Node) -> usize {
    fleet.placed_on(node.id).filter(|session| session.state.order().is_some()).count()
}
