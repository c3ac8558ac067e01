//! What keeps the whole in order: plans and how they are carried out, safe mode, and what the log says of findings.

use std::sync::Arc;

use super::{Answer, Draft};
use crate::change::{After, Kind, Note};
use crate::finding::Finding;
use crate::id::{NodeId, PlanId, SessionId};
use crate::node::SafeMode;
use crate::plan::{Applied, Done, Outcome, Plan};
use crate::refused::Refused;
use crate::session::{Session, State};

/// Those that are kept; whoever makes more has a loop in a script.
const MOST_PLANS: usize = 1_000;

impl Draft<'_> {
    pub(super) fn make_plan(&mut self, plan: &Plan) -> Result<Answer, Refused> {
        if self.fleet.plan(plan.id).is_some() {
            return Err(Refused::PlanIdTaken(plan.id));
        }
        let there = self.fleet.plans().count();
        if there >= MOST_PLANS {
            return Err(Refused::LimitReached { what: "plans", there, most: MOST_PLANS });
        }
        let text = format!("{} {}: {} actions", plan.purpose.word(), plan.id, plan.actions.len());
        Ok(self.save_plan(Kind::PlanMade, plan.clone(), Note { text: text.into(), ..Note::default() }))
    }

    /// Applying one again changes nothing, but that more of it may be said yes to.
    pub(super) fn apply_plan(
        &mut self,
        id: PlanId,
        digest: &[u8; 32],
        only_safe: bool,
    ) -> Result<Answer, Refused> {
        let before = self.plan(id)?;
        if before.digest != *digest {
            return Err(Refused::PlanChanged(id));
        }
        let is_news = before.applied.as_ref().is_none_or(|applied| applied.only_safe && !only_safe);
        if !is_news {
            return Ok(Answer::Plan(before));
        }
        if before.expires <= self.now {
            return Err(Refused::PlanExpired(id));
        }
        let by = self.command.actor.to_string().into();
        let plan = Plan { applied: Some(Applied { by, at: self.now, only_safe }), ..Plan::clone(&before) };
        let text = format!("{} {}: {} actions", plan.purpose.word(), id, plan.open().count());
        Ok(self.save_plan(Kind::PlanApplied, plan, Note { text: text.into(), ..Note::default() }))
    }

    /// The first word on an action counts, if it was said yes to.
    pub(super) fn finish_action(
        &mut self,
        id: PlanId,
        number: u32,
        result: Outcome,
        text: &str,
    ) -> Result<Answer, Refused> {
        let before = self.plan(id)?;
        let is_open = before.open().any(|(open, _)| open == number);
        let mut plan = Plan::clone(&before);
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let action = place.and_then(|place| plan.actions.get_mut(place));
        let Some(action) = action.filter(|_| is_open) else { return Ok(Answer::Plan(before)) };
        action.result = Some(Done { result, text: text.into(), at: self.now });
        let note = format!("{id} action {number} {}: {}; {text}", result.word(), action.what);
        let note = self.noted(note, action.finding.node, action.finding.session);
        Ok(self.save_plan(Kind::ActionFinished, plan, note))
    }

    pub(super) fn forget_plan(&mut self, id: PlanId) -> Result<Answer, Refused> {
        self.plan(id)?;
        self.add(Kind::PlanForgotten, After::PlanForgotten(id));
        Ok(Answer::Gone)
    }

    /// The same state with a new attempt: its node does anew what it stopped doing.
    pub(super) fn retry_session(&mut self, id: SessionId) -> Result<Answer, Refused> {
        let before = self.fleet.session(id).cloned().ok_or(Refused::SessionUnknown(id))?;
        let is_on_its_way = matches!(
            before.state,
            State::Creating { .. } | State::Cleaning { .. } | State::Queued(_) | State::Running { .. }
        );
        if !is_on_its_way || before.state.placement().is_none() {
            return Ok(Answer::Session(before));
        }
        let attempt = before.attempt + 1;
        Ok(self.save(Kind::SessionRetried, Session { attempt, ..Session::clone(&before) }))
    }

    pub(super) fn set_safe_mode(
        &mut self,
        node: Option<NodeId>,
        on: bool,
        reason: &str,
        automatic: bool,
    ) -> Result<Answer, Refused> {
        if let Some(id) = node {
            self.fleet.node(id).ok_or(Refused::NodeUnknown(id))?;
        }
        let before = self.fleet.safe_mode(node);
        // What a person decided is a person's to end.
        let is_theirs = automatic && before.is_some_and(|mode| !mode.automatic);
        let is_so = match before {
            Some(mode) => on && (&*mode.reason, mode.automatic) == (reason, automatic),
            None => !on,
        };
        if is_theirs || is_so {
            return Ok(Answer::Gone);
        }
        let note = Note { text: reason.into(), node, session: None };
        if on {
            let by = self.command.actor.to_string().into();
            let since = before.map_or(self.now, |mode| mode.since);
            let mode = Arc::new(SafeMode { node, reason: reason.into(), by, since, automatic });
            self.add_with(Kind::SafeModeOn, After::SafeMode(mode), Some(note));
        } else {
            self.add_with(Kind::SafeModeOff, After::SafeModeOver(node), Some(note));
        }
        Ok(Answer::Gone)
    }

    pub(super) fn note(&mut self, finding: &Finding, is_over: bool) -> Answer {
        let kind = if is_over { Kind::FindingEnded } else { Kind::FindingAppeared };
        let text = format!("{} {}: {}", finding.code.word(), finding.subject, finding.text);
        let note = self.noted(text, finding.node, finding.session);
        self.add_with(kind, After::Noted, Some(note));
        Answer::Gone
    }

    fn plan(&self, id: PlanId) -> Result<Arc<Plan>, Refused> {
        self.fleet.plan(id).cloned().ok_or(Refused::PlanUnknown(id))
    }

    fn save_plan(&mut self, kind: Kind, plan: Plan, note: Note) -> Answer {
        let plan = Arc::new(plan);
        self.add_with(kind, After::Plan(plan.clone()), Some(note));
        Answer::Plan(plan)
    }

    fn noted(&self, text: String, node: Option<NodeId>, session: Option<SessionId>) -> Note {
        let session = session.and_then(|id| self.fleet.session(id)).map(|session| session.number);
        Note { text: text.into(), node, session }
    }

    /// Whether new work is taken at all.
    pub(super) fn takes_new_work(&self) -> Result<(), Refused> {
        match self.fleet.safe_mode(None) {
            Some(mode) => Err(Refused::SafeMode { reason: mode.reason.clone() }),
            None => Ok(()),
        }
    }
}
