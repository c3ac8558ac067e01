//! What nodes saw. A report counts once (by the node's sequence) and only under the placement that holds (by its
//! fence); any other is an ordinary answer without effect. A report of an orphaned session is about how it was.

use std::sync::Arc;

use super::runs;
use super::sessions::fail;
use super::{Answer, Draft, enter, reorphan, unorphan};
use crate::change::{After, Kind};
use crate::command::{Observation, Report};
use crate::fence::Against;
use crate::node::Node;
use crate::refused::Refused;
use crate::session::{Checkpoint, EndedRun, Grant, LiveRun, Placement, Queue, Session, State, Wanted};
use crate::time::Timestamp;

impl Draft<'_> {
    pub(super) fn report(&mut self, report: &Report) -> Result<Answer, Refused> {
        let node = self.fleet.node(report.node).ok_or(Refused::NodeUnknown(report.node))?;
        if report.sequence <= node.acknowledged {
            return Ok(Answer::Heard);
        }
        let node = Arc::new(Node { acknowledged: report.sequence, ..Node::clone(node) });
        match self.effect(report) {
            Some((kind, session)) => {
                let session = self.stamped(session);
                self.add(kind, After::Reported(session, node));
            }
            None => self.add(Kind::ReportIgnored, After::Heard(node)),
        }
        Ok(Answer::Heard)
    }

    fn effect(&self, report: &Report) -> Option<(Kind, Session)> {
        let before = self.fleet.session(report.session)?;
        let placement = before.state.placement()?;
        if placement.node != report.node || placement.fence.judge(report.fence) != Against::Same {
            return None;
        }
        let mut session = Session::clone(before);
        let orphaned = unorphan(&mut session);
        let kind = observe(&mut session, &report.observation, self.now)?;
        reorphan(&mut session, orphaned);
        Some((kind, session))
    }
}

/// What the observation makes of the session. `None`: it says nothing new.
fn observe(session: &mut Session, observation: &Observation, now: Timestamp) -> Option<Kind> {
    match observation {
        Observation::Progress(seen) => match &mut session.state {
            State::Creating { progress, .. } | State::Cleaning { progress, .. } if progress != seen => {
                *progress = seen.clone();
                Some(Kind::SessionProgressed)
            }
            _ => None,
        },
        Observation::WorkspaceReady(workspace) => {
            session.base_commit = Some(workspace.base_commit.clone());
            session.workspace = Some(workspace.clone());
            if let State::Creating { placement, order: None, .. } = session.state {
                enter(session, settled(session, placement), now);
            }
            Some(Kind::SessionReady)
        }
        Observation::RunStarted { run, started, deadline, handle } => {
            let (extensions, grant) = (0, Grant::default());
            let order = session.state.order().filter(|order| order.run == *run)?;
            let (started, deadline, handle) = (*started, *deadline, handle.clone());
            runs::started(session, LiveRun { order, started, deadline, extensions, grant, handle }, now)
        }
        Observation::RunExtended { run, deadline, extensions } => {
            runs::extended(session, *run, *deadline, *extensions)
        }
        Observation::RunEnded { run, started, ended, outcome, usage } => {
            let order = session.state.order().filter(|order| order.run == *run)?;
            let (started, ended, outcome, usage) = (*started, *ended, outcome.clone(), *usage);
            Some(runs::ended(session, EndedRun { order, started, ended, outcome, usage }, now))
        }
        Observation::Checkpointed(checkpoint) => {
            let is_same = |known: &Checkpoint| {
                known.reference == checkpoint.reference && known.commit == checkpoint.commit
            };
            if session.checkpoint.as_ref().is_some_and(is_same) {
                return None;
            }
            session.checkpoint = Some(checkpoint.clone());
            Some(Kind::SessionCheckpointed)
        }
        Observation::Removed(kept) => {
            if !matches!(session.state, State::Cleaning { .. }) {
                return None;
            }
            enter(session, State::Cleaned { kept: kept.clone() }, now);
            Some(Kind::SessionCleaned)
        }
        Observation::Faulted(fault) => {
            if matches!(
                session.state,
                State::Error { .. } | State::Ready { .. } | State::Queued(Queue::Slot(_))
            ) {
                return None;
            }
            fail(session, fault.clone(), now);
            Some(Kind::SessionFaulted)
        }
    }
}

/// The state of a session that has a workspace and no run.
pub(super) fn settled(session: &Session, placement: Placement) -> State {
    match session.wanted {
        Wanted::Running => State::Queued(Queue::Slot(placement)),
        Wanted::Ready if session.wants_rebuild() => State::Queued(Queue::Slot(placement)),
        Wanted::Ready | Wanted::Cleaned(_) => State::Ready { placement },
    }
}
