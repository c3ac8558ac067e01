//! What people ask of sessions: create, start, stop, hold, release, delete, and the end of their retention.

use std::sync::Arc;
use std::time::Duration;

use super::reports::settled;
use super::{Answer, Draft, enter, reorphan, unorphan};
use crate::change::{After, Kind};
use crate::command::NewSession;
use crate::drain;
use crate::fence::Fence;
use crate::id::SessionId;
use crate::node::Standing;
use crate::refused::Refused;
use crate::repository::Repository;
use crate::session::{Fault, Halt, Hold, Kept, Placement, Progress, Queue, Removal, Session, State, Wanted};

/// How many sessions the registry holds in memory at most.
pub(crate) const MOST_SESSIONS: usize = 200_000;

impl Draft<'_> {
    pub(super) fn create_session(&mut self, new: &NewSession) -> Result<Answer, Refused> {
        self.check_new(new)?;
        let session = self.stamped(Session {
            number: self.revision(),
            id: new.id,
            project: new.project.clone(),
            name: new.name.clone(),
            owner: new.owner.clone(),
            spec: new.spec.clone(),
            created: self.now,
            revision: 0,
            epoch: 0,
            wanted: if new.start { Wanted::Running } else { Wanted::Ready },
            halt: None,
            hold: None,
            state: State::Queued(Queue::Place),
            since: self.now,
            workspace: None,
            last_run: None,
            runs: 0,
            failures: 0,
            interruptions: 0,
            resumes: false,
            rebuilds: 0,
            rebuilt: 0,
            base_commit: None,
            origin: new.origin.clone(),
            checkpoint: None,
            attempt: 0,
            trace: self.command.trace.clone(),
        });
        let after = if new.secrets.0.is_empty() {
            After::Session(session.clone())
        } else {
            After::SessionWithSecrets(session.clone(), Arc::new(new.secrets.clone()))
        };
        self.add(Kind::SessionCreated, after);
        Ok(Answer::Session(session))
    }

    fn check_new(&self, new: &NewSession) -> Result<(), Refused> {
        self.takes_new_work()?;
        if let Some(holder) = self.fleet.session_named(&new.project, &new.name) {
            return Err(Refused::NameTaken {
                project: new.project.clone(),
                name: new.name.clone(),
                holder: holder.id,
                state: holder.state.kind(),
            });
        }
        if self.fleet.session(new.id).is_some() {
            return Err(Refused::SessionIdTaken(new.id));
        }
        let there = self.fleet.session_count();
        if there >= MOST_SESSIONS {
            return Err(Refused::LimitReached { what: "sessions", there, most: MOST_SESSIONS });
        }
        if let Some(node) = &new.spec.node {
            self.fleet.node_named(node).ok_or_else(|| Refused::NodeNameUnknown(node.clone()))?;
        } else if let Repository::Path { path, machine } = &new.spec.repository
            && !self.fleet.nodes().any(|node| node.facts.machine == *machine)
        {
            return Err(Refused::MachineUnknown { path: path.as_str().into(), machine: machine.clone() });
        }
        Ok(())
    }

    pub(super) fn start_session(&mut self, id: SessionId, resume: bool) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        let refuse = |why| Err(wrong_state(&before, "started", why));
        if before.wanted == Wanted::Ready && before.state.order().is_some() {
            return refuse("its stop is not confirmed yet; start it when it is ready");
        }
        let mut session = Session::clone(&before);
        let orphaned = unorphan(&mut session);
        match session.state.clone() {
            State::Ready { placement } => {
                session.failures = 0;
                session.interruptions = 0;
                enter(&mut session, State::Queued(Queue::Slot(placement)), self.now);
            }
            State::Error { .. } if matches!(before.wanted, Wanted::Cleaned(_)) => {
                return refuse("its removal was begun; finish it with droverctl rm");
            }
            State::Error { placement, .. } => {
                session.attempt += 1;
                session.failures = 0;
                session.interruptions = 0;
                let queue = placement.map_or(Queue::Place, Queue::Slot);
                enter(&mut session, State::Queued(queue), self.now);
            }
            State::Queued(_) | State::Creating { .. } | State::Running { .. } | State::Orphaned { .. } => {
                if before.wanted == Wanted::Running {
                    return Ok(Answer::Session(before));
                }
                if matches!(before.wanted, Wanted::Cleaned(_)) {
                    return refuse("it is being removed");
                }
            }
            State::Cleaning { .. } => return refuse("it is being removed"),
            State::Cleaned { .. } => return refuse("it was removed; create a new one"),
        }
        session.wanted = Wanted::Running;
        session.resumes = resume;
        session.halt = None;
        session.trace.clone_from(&self.command.trace);
        reorphan(&mut session, orphaned);
        Ok(self.save(Kind::SessionQueued, session))
    }

    /// Asked again, only another grace changes something, and only while the run is not over.
    pub(super) fn stop_session(&mut self, id: SessionId, grace: Option<Duration>) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        let is_other =
            || before.state.order().is_some() && grace != before.halt.as_ref().and_then(|halt| halt.grace);
        match (before.wanted, &before.state) {
            (Wanted::Cleaned(_), State::Cleaned { .. }) => {
                return Err(wrong_state(&before, "stopped", "it was removed"));
            }
            (Wanted::Cleaned(_), _) => {
                return Err(wrong_state(&before, "stopped", "it is being removed, which stops it"));
            }
            (Wanted::Ready, _) if grace.is_none() || !is_other() => return Ok(Answer::Session(before)),
            (Wanted::Ready | Wanted::Running, _) => {}
        }
        Ok(self.stop(&before, Halt { by: self.command.actor.to_string().into(), grace }))
    }

    /// Asked of a run that the drain does not concern any more, nothing is done.
    pub(super) fn stop_for_drain(&mut self, id: SessionId) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        let node = before.state.placement().and_then(|placement| self.fleet.node(placement.node));
        let Some(node) = node.filter(|node| drain::is_overdue(&before, node, self.now)) else {
            return Ok(Answer::Session(before));
        };
        let by = node.drain.as_ref().map_or("nobody", |drain| &drain.by);
        let by = format!("the drain of {} by {by}", node.name).into();
        Ok(self.stop(&before, Halt { by, grace: None }))
    }

    fn stop(&mut self, before: &Session, halt: Halt) -> Answer {
        let mut session = before.clone();
        session.wanted = Wanted::Ready;
        session.halt = Some(halt);
        session.trace.clone_from(&self.command.trace);
        let orphaned = unorphan(&mut session);
        if let State::Queued(Queue::Slot(placement)) = session.state
            && session.workspace.is_some()
        {
            session.hold = None;
            session.failures = 0;
            let state = settled(&session, placement);
            enter(&mut session, state, self.now);
        }
        reorphan(&mut session, orphaned);
        self.save(Kind::SessionStopping, session)
    }

    pub(super) fn delete_session(&mut self, id: SessionId, removal: Removal) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        let mut session = Session::clone(&before);
        session.wanted = Wanted::Cleaned(removal);
        session.halt.get_or_insert_with(|| Halt { by: self.command.actor.to_string().into(), grace: None });
        session.hold = None;
        session.trace.clone_from(&self.command.trace);
        if let Some(kept) = self.left_behind(&before) {
            enter(&mut session, State::Cleaned { kept }, self.now);
            return Ok(self.save(Kind::SessionCleaned, session));
        }
        let orphaned = unorphan(&mut session);
        let kind = match &session.state {
            State::Cleaned { .. } => return Ok(Answer::Session(before)),
            State::Cleaning { .. } if before.wanted == session.wanted => return Ok(Answer::Session(before)),
            // Only how it is to be removed changed.
            State::Cleaning { .. } => Kind::SessionCleaning,
            State::Queued(_)
            | State::Creating { .. }
            | State::Ready { .. }
            | State::Running { .. }
            | State::Error { .. }
            | State::Orphaned { .. } => {
                session.attempt += u32::from(matches!(session.state, State::Error { .. }));
                let (state, kind) = match session.state.placement() {
                    Some(placement) => (cleaning(*placement, &session.state), Kind::SessionCleaning),
                    None => (State::Cleaned { kept: Kept::default() }, Kind::SessionCleaned),
                };
                enter(&mut session, state, self.now);
                kind
            }
        };
        reorphan(&mut session, orphaned);
        Ok(self.save(kind, session))
    }

    /// What stays of a session whose node was revoked: nobody can be asked any more to remove it.
    fn left_behind(&self, session: &Session) -> Option<Kept> {
        let placement = session.state.placement()?;
        let node = self.fleet.node(placement.node)?;
        let is_over = node.standing == Standing::Revoked
            && matches!(session.state, State::Orphaned { .. } | State::Error { .. });
        let reason = format!("what is on node '{}' stays there: the node was revoked", node.name);
        is_over.then(|| Kept { reasons: vec![reason.into()], ..Kept::default() })
    }

    pub(super) fn hold_session(
        &mut self,
        id: SessionId,
        lasts: Option<Duration>,
        reason: &str,
    ) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        if matches!(before.state, State::Cleaned { .. } | State::Cleaning { .. }) {
            return Err(wrong_state(&before, "held", "it is being removed or was"));
        }
        let mut session = Session::clone(&before);
        session.hold = Some(Hold { until: lasts.map(|lasts| self.now.after(lasts)), reason: reason.into() });
        Ok(self.save(Kind::SessionHeld, session))
    }

    pub(super) fn release_session(&mut self, id: SessionId) -> Result<Answer, Refused> {
        let before = self.known(id)?;
        if before.hold.is_none() {
            return Ok(Answer::Session(before));
        }
        let mut session = Session::clone(&before);
        session.hold = None;
        Ok(self.save(Kind::SessionReleased, session))
    }

    pub(super) fn forget_session(&mut self, id: SessionId) -> Result<Answer, Refused> {
        let Some(session) = self.fleet.session(id) else { return Ok(Answer::Gone) };
        if !matches!(session.state, State::Cleaned { .. }) {
            return Err(wrong_state(session, "forgotten", "only a removed session leaves memory"));
        }
        self.add(Kind::SessionForgotten, After::SessionForgotten(session.number, id));
        Ok(Answer::Gone)
    }

    pub(super) fn known(&self, id: SessionId) -> Result<Arc<Session>, Refused> {
        self.fleet.session(id).cloned().ok_or(Refused::SessionUnknown(id))
    }

    pub(super) fn fence(&self, epoch: u64) -> Fence {
        Fence { generation: self.fleet.generation(), epoch }
    }
}

/// The removal of a session in this state begins: a run that may still have processes has to be stopped first.
fn cleaning(placement: Placement, from: &State) -> State {
    State::Cleaning { placement, run: from.order(), progress: Progress::default() }
}

pub(super) fn wrong_state(session: &Session, wish: &'static str, why: &'static str) -> Refused {
    Refused::WrongState { session: session.name.clone(), state: session.state.kind(), wish, why }
}

/// `session` met a fault that Drover has to be told how to go on from.
pub(super) fn fail(session: &mut Session, fault: Fault, now: crate::time::Timestamp) {
    let placement = session.state.placement().copied();
    enter(session, State::Error { placement, fault }, now);
}
