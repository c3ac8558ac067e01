//! What nodes saw. A report counts once (by the node's sequence) and only under the placement that holds (by its
//! fence); any other is an ordinary answer without effect. A report of an orphaned session is about how it was.

use std::sync::Arc;

use super::sessions::fail;
use super::{Answer, Draft, enter, reorphan, unorphan};
use crate::change::{After, Kind};
use crate::command::{Observation, Report};
use crate::fence::Against;
use crate::node::Node;
use crate::outcome::Outcome;
use crate::refused::Refused;
use crate::retry::Backoff;
use crate::session::{EndedRun, Hold, LiveRun, Queue, Session, State, Wanted};
use crate::spec::Restart;
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
            session.workspace = Some(workspace.clone());
            if let State::Creating { placement, order: None, .. } = session.state {
                enter(session, settled(session, placement), now);
            }
            Some(Kind::SessionReady)
        }
        Observation::RunStarted { run, started, deadline, handle } => {
            let order = session.state.order().filter(|order| order.run == *run)?;
            let placement = match session.state {
                State::Creating { placement, .. } | State::Queued(Queue::Start(placement, _)) => placement,
                _ => return None,
            };
            let run = LiveRun {
                order,
                started: *started,
                deadline: *deadline,
                extensions: 0,
                handle: handle.clone(),
            };
            enter(session, State::Running { placement, run }, now);
            Some(Kind::RunStarted)
        }
        Observation::RunEnded { run, started, ended, outcome, usage } => {
            let order = session.state.order().filter(|order| order.run == *run)?;
            let outcome = outcome.clone();
            session.last_run =
                Some(EndedRun { order, started: *started, ended: *ended, outcome, usage: *usage });
            after_run(session, now);
            Some(Kind::RunEnded)
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
fn settled(session: &Session, placement: crate::session::Placement) -> State {
    match session.wanted {
        Wanted::Running => State::Queued(Queue::Slot(placement)),
        Wanted::Ready | Wanted::Cleaned(_) => State::Ready { placement },
    }
}

/// The end of the session's run is confirmed: no process of it is left.
fn after_run(session: &mut Session, now: Timestamp) {
    match &mut session.state {
        State::Cleaning { run, .. } => *run = None,
        State::Creating { order, .. } if session.workspace.is_none() => *order = None,
        State::Creating { placement, .. }
        | State::Running { placement, .. }
        | State::Queued(Queue::Start(placement, _)) => {
            let placement = *placement;
            if !restarts(session, now) {
                session.wanted = Wanted::Ready;
            }
            enter(session, State::Ready { placement }, now);
            enter(session, settled(session, placement), now);
        }
        State::Queued(Queue::Place | Queue::Slot(_))
        | State::Ready { .. }
        | State::Cleaned { .. }
        | State::Error { .. }
        | State::Orphaned { .. } => {}
    }
}

/// Whether the restart policy wants another run; then it is held for the backoff first.
fn restarts(session: &mut Session, now: Timestamp) -> bool {
    let outcome: Option<&Outcome> = session.last_run.as_ref().map(|run| &run.outcome);
    let failed = outcome.is_some_and(Outcome::is_failure);
    let (Wanted::Running, Restart::OnFailure(most), true) = (session.wanted, session.spec.restart, failed)
    else {
        session.failures = 0;
        return false;
    };
    if session.failures >= most {
        return false;
    }
    let wait = Backoff::RESTART.ceiling(session.failures);
    session.failures += 1;
    let reason = format!("restart {} of {most} after {}", session.failures, outcome_words(session));
    session.hold = Some(Hold { until: Some(now.after(wait)), reason: reason.into() });
    true
}

fn outcome_words(session: &Session) -> String {
    session.last_run.as_ref().map_or_else(String::new, |run| run.outcome.to_string())
}
