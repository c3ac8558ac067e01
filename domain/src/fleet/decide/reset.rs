//! More time for a run, and beginning anew: a reset stops the session and forgets its troubles; a hard one has its
//! workspace made again, once the work in the old one is in the trash.

use std::time::Duration;

use super::reports::settled;
use super::sessions::wrong_state;
use super::{Answer, Draft, enter, reorphan, unorphan};
use crate::change::Kind;
use crate::id::SessionId;
use crate::refused::Refused;
use crate::session::{Halt, Queue, Session, State, Wanted};

impl Draft<'_> {
    /// The node tells the new deadline once its supervisor has taken it; until then the expected one is shown.
    pub(super) fn extend_session(&mut self, id: SessionId, by: Duration) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        let mut session = Session::clone(&before);
        let orphaned = unorphan(&mut session);
        let limits = session.spec.limits;
        let State::Running { run, .. } = &mut session.state else {
            return Err(wrong_state(&before, "extended", "only a run that goes on has a deadline"));
        };
        let Some(deadline) = run.deadline else {
            return Err(wrong_state(&before, "extended", "its run has no timeout, so nothing ends it"));
        };
        let most = limits.max_extensions();
        if run.extensions >= most {
            let session = before.name.clone();
            return Err(Refused::TimeUsedUp { session, most: most.into(), what: "extensions" });
        }
        let total = run.grant.total.saturating_add(by);
        if let Some(most) = limits.max_extension.filter(|most| total > *most) {
            let session = before.name.clone();
            let (most, what) = (most.as_secs(), "seconds more than its timeout");
            return Err(Refused::TimeUsedUp { session, most, what });
        }
        run.grant.total = total;
        run.grant.count += 1;
        run.extensions += 1;
        run.deadline = Some(deadline.after(by));
        reorphan(&mut session, orphaned);
        Ok(self.save(Kind::RunExtended, session))
    }

    pub(super) fn reset_session(&mut self, id: SessionId, hard: bool) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        let refuse = |why| Err(wrong_state(&before, "reset", why));
        match (&before.state, before.wanted) {
            (State::Cleaned { .. }, _) => return refuse("it was removed; create a new one"),
            (State::Cleaning { .. }, _) | (_, Wanted::Cleaned(_)) => return refuse("it is being removed"),
            _ => {}
        }
        let mut session = Session::clone(&before);
        session.wanted = Wanted::Ready;
        session.halt = Some(Halt { by: self.command.actor.to_string().into(), grace: None });
        (session.hold, session.failures, session.interruptions) = (None, 0, 0);
        session.resumes = false;
        session.trace.clone_from(&self.command.trace);
        session.rebuilds += u32::from(hard && session.workspace.is_some());
        let orphaned = unorphan(&mut session);
        let state = match session.state.clone() {
            State::Error { placement: None, .. } => State::Queued(Queue::Place),
            State::Error { placement: Some(placement), .. } if session.workspace.is_none() => {
                State::Queued(Queue::Slot(placement))
            }
            State::Error { placement: Some(placement), .. } | State::Ready { placement } => {
                settled(&session, placement)
            }
            State::Queued(Queue::Slot(placement)) if session.workspace.is_some() => {
                settled(&session, placement)
            }
            // What runs or is being made is told to stop; what follows comes with its end.
            other => other,
        };
        session.attempt += u32::from(matches!(session.state, State::Error { .. }));
        enter(&mut session, state, self.now);
        reorphan(&mut session, orphaned);
        Ok(self.save(Kind::SessionReset, session))
    }
}
