//! What a command would change. One function per wish, in files by subject; here is what they share: the stamping of
//! changes with their revisions, and the answer.

mod adoption;
mod maintenance;
mod nodes;
mod queue;
mod reports;
mod reset;
mod runs;
mod sessions;

use std::sync::Arc;

use crate::change::{After, Change, Kind, Note};
use crate::command::{Command, Wish};
use crate::fleet::Fleet;
use crate::node::{Node, Token};
use crate::plan::Plan;
use crate::refused::Refused;
use crate::session::{Session, State};
use crate::time::Timestamp;

/// What a command changes (maybe nothing) and what is answered once that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub changes: Vec<Change>,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Session(Arc<Session>),
    Node(Arc<Node>),
    Token(Arc<Token>),
    Plan(Arc<Plan>),
    /// Of a report: its effect, if it had one, is durable.
    Heard,
    Gone,
}

/// What an answer is about, if it is about one.
impl Answer {
    pub fn session(&self) -> Option<&Arc<Session>> {
        if let Self::Session(session) = self { Some(session) } else { None }
    }

    pub fn node(&self) -> Option<&Arc<Node>> {
        if let Self::Node(node) = self { Some(node) } else { None }
    }

    pub fn token(&self) -> Option<&Arc<Token>> {
        if let Self::Token(token) = self { Some(token) } else { None }
    }

    pub fn plan(&self) -> Option<&Arc<Plan>> {
        if let Self::Plan(plan) = self { Some(plan) } else { None }
    }
}

impl Fleet {
    /// Decides what `command` would change. Reads no clock and makes no id; `now` never runs backwards.
    pub fn decide(&self, command: &Command, now: Timestamp) -> Result<Decision, Refused> {
        let mut draft = Draft { fleet: self, command, now, changes: Vec::new() };
        let answer = match &command.wish {
            Wish::CreateSession(new) => draft.create_session(new)?,
            Wish::StartSession { session, resume } => draft.start_session(*session, *resume)?,
            Wish::StopSession { session, grace } => draft.stop_session(*session, *grace)?,
            Wish::ExtendSession { session, by } => draft.extend_session(*session, *by)?,
            Wish::ResetSession { session, hard } => draft.reset_session(*session, *hard)?,
            Wish::DeleteSession { session, removal } => draft.delete_session(*session, *removal)?,
            Wish::HoldSession { session, lasts, reason } => draft.hold_session(*session, *lasts, reason)?,
            Wish::ReleaseSession { session } => draft.release_session(*session)?,
            Wish::Forget { session } => draft.forget_session(*session)?,
            Wish::Place { session, node, run } => draft.place(*session, *node, *run)?,
            Wish::Grant { session, run } => draft.grant(*session, *run)?,
            Wish::ExpireQueue { session } => draft.expire_queue(*session)?,
            Wish::Report(report) => draft.report(report)?,
            Wish::CreateToken { id, secret_hash, lasts } => draft.create_token(*id, *secret_hash, *lasts)?,
            Wish::RevokeToken { id } => draft.end_token(*id, Kind::TokenRevoked)?,
            Wish::ForgetToken { id } => draft.end_token(*id, Kind::TokenForgotten)?,
            Wish::Enroll(enrollment) => draft.enroll(enrollment)?,
            Wish::Link { node, facts, shown, next, witness } => {
                draft.link(*node, facts, (*shown, *next), witness)?
            }
            Wish::SetStanding { node, standing } => draft.set_standing(*node, *standing)?,
            Wish::Cordon { node, cordoned } => draft.cordon(*node, *cordoned)?,
            Wish::Drain { node, within } => draft.drain(*node, *within)?,
            Wish::StopForDrain { session } => draft.stop_for_drain(*session)?,
            Wish::RevokeNode { node } => draft.revoke_node(*node)?,
            Wish::RemoveNode { node } => draft.remove_node(*node)?,
            Wish::RetrySession { session } => draft.retry_session(*session)?,
            Wish::MakePlan(plan) => draft.make_plan(plan)?,
            Wish::ApplyPlan { plan, digest, only_safe } => draft.apply_plan(*plan, digest, *only_safe)?,
            Wish::FinishAction { plan, number, result, text } => {
                draft.finish_action(*plan, *number, *result, text)?
            }
            Wish::ForgetPlan { plan } => draft.forget_plan(*plan)?,
            Wish::SetSafeMode { node, on, reason, automatic } => {
                draft.set_safe_mode(*node, *on, reason, *automatic)?
            }
            Wish::Notified { text } => {
                let note = Note { text: text.clone(), ..Note::default() };
                draft.add_with(Kind::Notified, After::Noted, Some(note));
                Answer::Gone
            }
            Wish::Note { finding, is_over } => draft.note(finding, *is_over),
        };
        Ok(Decision { changes: draft.changes, answer })
    }
}

/// A decision being made.
struct Draft<'a> {
    fleet: &'a Fleet,
    command: &'a Command,
    now: Timestamp,
    changes: Vec<Change>,
}

impl Draft<'_> {
    /// The revision of the next change.
    fn revision(&self) -> u64 {
        self.fleet.revision() + 1 + self.changes.len() as u64
    }

    fn add(&mut self, kind: Kind, after: After) {
        self.add_with(kind, after, None);
    }

    fn add_with(&mut self, kind: Kind, after: After, note: Option<Note>) {
        let change = Change {
            revision: self.revision(),
            at: self.now,
            actor: self.command.actor.clone(),
            kind,
            after,
            note,
        };
        self.changes.push(change);
    }

    /// Stamps what `session` became.
    fn stamped(&self, mut session: Session) -> Arc<Session> {
        session.revision = self.revision();
        Arc::new(session)
    }

    fn save(&mut self, kind: Kind, session: Session) -> Answer {
        let session = self.stamped(session);
        self.add(kind, After::Session(session.clone()));
        Answer::Session(session)
    }

    fn save_node(&mut self, kind: Kind, mut node: Node) -> Answer {
        node.revision = self.revision();
        let node = Arc::new(node);
        self.add(kind, After::Node(node.clone()));
        Answer::Node(node)
    }
}

/// Moves a session to another state. The only way: it knows when the kind of state began.
fn enter(session: &mut Session, state: State, now: Timestamp) {
    let (before, after) = (session.state.kind(), state.kind());
    debug_assert!(before == after || before.may_become(after), "{before:?} may not become {after:?}");
    if before != after {
        session.since = now;
    }
    session.state = state;
}

/// Takes an orphaned session for how it was, since what is asked or reported is about that; says what to give to
/// [`reorphan`] afterwards, because only its node's return ends its being orphaned.
fn unorphan(session: &mut Session) -> Option<(Box<str>, Timestamp)> {
    let State::Orphaned { was, evidence } = &session.state else { return None };
    let orphaned = (evidence.clone(), session.since);
    session.state = State::clone(was);
    Some(orphaned)
}

fn reorphan(session: &mut Session, orphaned: Option<(Box<str>, Timestamp)>) {
    let stays = session.state.placement().is_some() && !matches!(session.state, State::Error { .. });
    if let (Some((evidence, since)), true) = (orphaned, stays) {
        session.state = State::Orphaned { was: Box::new(session.state.clone()), evidence };
        session.since = since;
    }
}
