//! A run as its node tells of it: how it begins, gets more time and ends, and what follows its end by the session's
//! policies: a restart, a resumption, rest, or giving up.

use std::time::Duration;

use super::enter;
use super::reports::settled;
use super::sessions::fail;
use crate::change::Kind;
use crate::id::RunId;
use crate::outcome::Outcome;
use crate::retry::Backoff;
use crate::session::{EndedRun, Fault, FaultCode, Hold, LiveRun, Queue, Session, State, Wanted};
use crate::spec::{Restart, Resume};
use crate::time::Timestamp;

pub(super) fn started(session: &mut Session, run: LiveRun, now: Timestamp) -> Option<Kind> {
    let placement = match session.state {
        State::Creating { placement, .. } | State::Queued(Queue::Start(placement, _)) => placement,
        _ => return None,
    };
    enter(session, State::Running { placement, run }, now);
    Some(Kind::RunStarted)
}

pub(super) fn extended(
    session: &mut Session,
    run: RunId,
    deadline: Timestamp,
    extensions: u32,
) -> Option<Kind> {
    let State::Running { run: live, .. } = &mut session.state else { return None };
    // A report that was sent before a grant was heard knows less than what is expected since: a deadline never comes
    // nearer.
    let deadline = live.deadline.map_or(deadline, |known| known.max(deadline));
    let extensions = live.extensions.max(extensions);
    let is_news = live.deadline != Some(deadline) || live.extensions != extensions;
    if live.order.run != run || !is_news {
        return None;
    }
    (live.deadline, live.extensions) = (Some(deadline), extensions);
    Some(Kind::RunExtended)
}

pub(super) fn ended(session: &mut Session, run: EndedRun, now: Timestamp) -> Kind {
    let interrupted = matches!(run.outcome, Outcome::Interrupted(_));
    session.last_run = Some(run);
    after_run(session, now);
    if interrupted { Kind::RunInterrupted } else { Kind::RunEnded }
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
            let next = next(session, now);
            enter(session, State::Ready { placement }, now);
            match next {
                Next::Again => enter(session, settled(session, placement), now),
                Next::Rest => {
                    session.wanted = Wanted::Ready;
                    enter(session, settled(session, placement), now);
                }
                Next::GiveUp(fault) => fail(session, fault, now),
            }
        }
        State::Queued(Queue::Place | Queue::Slot(_))
        | State::Ready { .. }
        | State::Cleaned { .. }
        | State::Error { .. }
        | State::Orphaned { .. } => {}
    }
}

/// What follows a run that ended.
enum Next {
    /// Another run.
    Again,
    Rest,
    GiveUp(Fault),
}

/// As often in a row as a run may be interrupted before it has run for [`STEADY`].
const MOST_INTERRUPTIONS: u32 = 5;
const STEADY: Duration = Duration::from_secs(600);

fn next(session: &mut Session, now: Timestamp) -> Next {
    session.resumes = false;
    let outcome: Option<Outcome> = session.last_run.as_ref().map(|run| run.outcome.clone());
    match (session.wanted, outcome) {
        (Wanted::Running, Some(Outcome::Interrupted(_))) => resumes(session, now),
        (Wanted::Running, Some(outcome)) if outcome.is_failure() => restarts(session, now),
        (Wanted::Running | Wanted::Ready | Wanted::Cleaned(_), _) => {
            (session.failures, session.interruptions) = (0, 0);
            Next::Rest
        }
    }
}

/// By the restart policy; the session is held for the backoff first.
fn restarts(session: &mut Session, now: Timestamp) -> Next {
    session.interruptions = 0;
    let most = match session.spec.restart {
        Restart::Never => 0,
        Restart::OnFailure(most) => most,
    };
    if session.failures >= most {
        if most == 0 {
            session.failures = 0;
        }
        return Next::Rest;
    }
    let wait = Backoff::RESTART.ceiling(session.failures);
    session.failures += 1;
    let reason = format!("restart {} of {most} after {}", session.failures, outcome_words(session));
    session.hold = Some(Hold { until: Some(now.after(wait)), reason: reason.into() });
    Next::Again
}

/// By the resume policy: at once, then with a backoff, and not for ever on a machine that takes every run along.
fn resumes(session: &mut Session, now: Timestamp) -> Next {
    if matches!(session.spec.resume, Resume::Never) {
        return Next::Rest;
    }
    let lasted = session.last_run.as_ref().and_then(|run| {
        let started = run.started?.millis();
        u64::try_from(run.ended.millis().saturating_sub(started)).ok().map(Duration::from_millis)
    });
    if lasted.is_some_and(|lasted| lasted >= STEADY) {
        session.interruptions = 0;
    }
    if session.interruptions >= MOST_INTERRUPTIONS {
        return Next::GiveUp(Fault {
            code: FaultCode::Other,
            step: "resume".into(),
            text: format!(
                "its runs were interrupted {} times in a row, the last one as {}",
                session.interruptions + 1,
                outcome_words(session)
            )
            .into(),
            hint: "find out what takes them along on the node, then: droverctl start --resume".into(),
            retryable: true,
        });
    }
    if let Some(before) = session.interruptions.checked_sub(1) {
        let reason = format!("resumes after {}", outcome_words(session));
        let wait = Backoff::RESTART.ceiling(before);
        session.hold = Some(Hold { until: Some(now.after(wait)), reason: reason.into() });
    }
    session.interruptions += 1;
    session.resumes = true;
    Next::Again
}

fn outcome_words(session: &Session) -> String {
    session.last_run.as_ref().map_or_else(String::new, |run| run.outcome.to_string())
}
