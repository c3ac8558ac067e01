//! What the scheduler asks: put a session on a node, let it run again, give up on one that waited too long.
//! Each re-checks what the plan assumed, because the fleet may have moved on since.

use super::sessions::{fail, wrong_state};
use super::{Answer, Draft, enter};
use crate::change::Kind;
use crate::id::{NodeId, RunId, SessionId};
use crate::placement;
use crate::refused::Refused;
use crate::session::{Fault, FaultCode, Order, Placement, Progress, Queue, Session, State, Wanted};

impl Draft<'_> {
    pub(super) fn place(&mut self, id: SessionId, node: NodeId, run: RunId) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        if before.state != State::Queued(Queue::Place) {
            return Err(wrong_state(&before, "placed", "it does not wait for a node"));
        }
        self.check_room(&before, node)?;
        let mut session = Session::clone(&before);
        session.epoch += 1;
        let placement = Placement { node, fence: self.fence(session.epoch) };
        begin(&mut session, placement, run, self);
        Ok(self.save(Kind::SessionPlaced, session))
    }

    pub(super) fn grant(&mut self, id: SessionId, run: RunId) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        let State::Queued(Queue::Slot(placement)) = before.state else {
            return Err(wrong_state(&before, "given a slot", "it does not wait for one"));
        };
        self.check_room(&before, placement.node)?;
        let mut session = Session::clone(&before);
        begin(&mut session, placement, run, self);
        Ok(self.save(Kind::RunOrdered, session))
    }

    pub(super) fn expire_queue(&mut self, id: SessionId) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        if before.queue_deadline().is_none_or(|deadline| deadline > self.now) {
            return Err(wrong_state(&before, "given up", "it has not waited too long"));
        }
        let mut session = Session::clone(&before);
        let fault = Fault {
            code: FaultCode::QueueTimeout,
            step: "queue".into(),
            text: "it waited longer than its queue timeout".into(),
            hint: "droverctl start queues it again".into(),
            retryable: true,
        };
        fail(&mut session, fault, self.now);
        Ok(self.save(Kind::SessionFaulted, session))
    }

    fn check_room(&self, session: &Session, node: NodeId) -> Result<(), Refused> {
        if session.is_held(self.now) {
            return Err(wrong_state(session, "started", "it is held"));
        }
        let node = self.fleet.node(node).ok_or(Refused::NodeUnknown(node))?;
        match placement::obstacle(self.fleet, session, node) {
            Some(obstacle) => Err(Refused::NodeUnfit(node.name.clone(), obstacle.word())),
            None => Ok(()),
        }
    }
}

/// It takes a slot: to make its workspace, to run, or for the one and then the other.
fn begin(session: &mut Session, placement: Placement, run: RunId, draft: &Draft<'_>) {
    session.hold = None;
    let order = (session.wanted == Wanted::Running).then(|| {
        session.runs += 1;
        Order { run, ordinal: session.runs }
    });
    if session.wants_rebuild() {
        session.rebuilt = session.rebuilds;
        session.workspace = None;
    }
    let state = match (order, &session.workspace) {
        (Some(order), Some(_)) => State::Queued(Queue::Start(placement, order)),
        (None, Some(_)) => State::Ready { placement },
        (order, None) => State::Creating { placement, order, progress: Progress::default() },
    };
    enter(session, state, draft.now);
    // It waits for its node from now on, however long it waited in the queue.
    session.since = draft.now;
}
