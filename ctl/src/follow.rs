//! Waiting for the effect of a change: a session is watched until it is as it was asked to be, or cannot become so.

use std::time::Duration;

use drover_proto::v1::{Session, SessionState, SessionWanted};
use tokio::time::timeout;

use crate::cli::WaitArgs;
use crate::client::Client;
use crate::client::watch::{Seen, Watch};
use crate::commands::Invocation;
use crate::error::{Exit, Failure};
use crate::output::sessions::{detail, state, title};
use crate::progress::Progress;

/// What a session should become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Its run has begun, or is over already.
    Started,
    /// Nothing of it runs.
    Stopped,
    /// Its workspace is there, and nothing of it runs.
    Ready,
    /// It is gone.
    Removed,
}

/// What a session is to a goal.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    NotYet,
    Never(Failure),
}

/// How long to wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// In all.
    pub whole: Option<Duration>,
    /// While it waits in the queue; then that is said, and it is left there.
    pub in_queue: Option<Duration>,
}

impl From<&WaitArgs> for Patience {
    fn from(wait: &WaitArgs) -> Self {
        Self { whole: wait.wait_timeout, in_queue: None }
    }
}

/// Waits until the session has become what it should, and returns it as it then is.
pub async fn until(
    invocation: &Invocation,
    client: &Client,
    session: Session,
    goal: Goal,
    patience: Patience,
) -> Result<Session, Failure> {
    let mut latest = session;
    let id = latest.id.clone();
    let mut watch = Watch::session(client, &id, &invocation.clock);
    let progress = Progress::new(&invocation.out);
    let begun = invocation.clock.boot();
    loop {
        match verdict(&latest, goal) {
            Verdict::Reached => return Ok(latest),
            Verdict::Never(failure) => return Err(failure),
            Verdict::NotYet => progress.say(&waiting(invocation, &latest)),
        }
        let is_queued = latest.state() == SessionState::Queued;
        let queue = patience.in_queue.filter(|_| is_queued);
        let limit = patience.whole.into_iter().chain(queue).min();
        let gone = invocation.clock.boot().saturating_sub(begun);
        let seen = match limit {
            None => watch.next().await?,
            Some(limit) => match timeout(limit.saturating_sub(gone), watch.next()).await {
                Ok(seen) => seen?,
                Err(_) if queue == Some(limit) => return Ok(latest),
                Err(_) => return Err(too_long(invocation, &latest, limit)),
            },
        };
        match seen {
            Seen::Session(session) if session.id == id => latest = *session,
            Seen::Removed(removed) if removed == id => return forgotten(latest, goal),
            Seen::Session(_) | Seen::Removed(_) | Seen::CaughtUp => {}
        }
    }
}

/// The session is no more in the registry's memory.
fn forgotten(session: Session, goal: Goal) -> Result<Session, Failure> {
    match goal {
        Goal::Removed => Ok(session),
        Goal::Started | Goal::Stopped | Goal::Ready => {
            Err(Failure::new(Exit::Conflict, format!("session '{}' was removed meanwhile", title(&session))))
        }
    }
}

fn verdict(session: &Session, goal: Goal) -> Verdict {
    use SessionState as S;
    let is_resting = session.wanted() == SessionWanted::Ready;
    match (goal, session.state()) {
        (Goal::Removed, S::Cleaned) => Verdict::Reached,
        (Goal::Started | Goal::Stopped | Goal::Ready, S::Cleaning | S::Cleaned) => {
            let text = format!("session '{}' is being removed", title(session));
            Verdict::Never(Failure::new(Exit::Conflict, text))
        }
        (_, S::Error) => Verdict::Never(faulted(session)),
        (Goal::Started, S::Running) => Verdict::Reached,
        (Goal::Started | Goal::Stopped | Goal::Ready, S::Ready) if is_resting => Verdict::Reached,
        (Goal::Stopped, S::Queued | S::Creating) if is_resting && session.current_run.is_none() => {
            Verdict::Reached
        }
        (Goal::Stopped | Goal::Ready, _) if session.wanted() == SessionWanted::Running => {
            let text = format!("session '{}' was started again meanwhile", title(session));
            Verdict::Never(Failure::new(Exit::Conflict, text))
        }
        _ => Verdict::NotYet,
    }
}

/// Drover could not do its own work.
pub fn faulted(session: &Session) -> Failure {
    let fault = session.fault.clone().unwrap_or_default();
    let mut failure = Failure::new(Exit::Failed, format!("session '{}': {}", title(session), fault.text));
    if !fault.step.is_empty() {
        failure = failure.at(format!("step '{}'", fault.step));
    }
    failure = failure.why(&fault.code).because(&fault.code);
    if !fault.hint.is_empty() {
        failure = failure.next(&fault.hint);
    }
    if fault.retryable {
        failure.next(format!("droverctl start {} tries again", title(session)))
    } else {
        failure
    }
}

fn waiting(invocation: &Invocation, session: &Session) -> String {
    let detail = detail(session, &invocation.out.look());
    let words = format!("{} is {}", title(session), state(session));
    if detail.is_empty() { words } else { format!("{words}: {detail}") }
}

fn too_long(invocation: &Invocation, session: &Session, limit: Duration) -> Failure {
    let limit = crate::output::times::short(limit);
    Failure::new(Exit::TimedOut, format!("waited for {limit}, and it is not done yet"))
        .why(waiting(invocation, session))
        .next("what was asked for stands, and goes on")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_of(goal: Goal, state: SessionState, wanted: SessionWanted) -> &'static str {
        let session = Session { state: state.into(), wanted: wanted.into(), ..Session::default() };
        match verdict(&session, goal) {
            Verdict::Reached => "reached",
            Verdict::NotYet => "not yet",
            Verdict::Never(_) => "never",
        }
    }

    #[test]
    fn a_goal_is_reached_or_not_yet_or_never() {
        use SessionState as S;
        use SessionWanted as W;
        let table = [
            (Goal::Started, S::Queued, W::Running, "not yet"),
            (Goal::Started, S::Running, W::Running, "reached"),
            (Goal::Started, S::Ready, W::Ready, "reached"),
            (Goal::Started, S::Error, W::Running, "never"),
            (Goal::Started, S::Cleaning, W::Cleaned, "never"),
            (Goal::Stopped, S::Running, W::Ready, "not yet"),
            (Goal::Stopped, S::Ready, W::Ready, "reached"),
            (Goal::Stopped, S::Queued, W::Ready, "reached"),
            (Goal::Stopped, S::Running, W::Running, "never"),
            (Goal::Stopped, S::Cleaned, W::Cleaned, "never"),
            (Goal::Ready, S::Queued, W::Ready, "not yet"),
            (Goal::Ready, S::Creating, W::Ready, "not yet"),
            (Goal::Ready, S::Ready, W::Ready, "reached"),
            (Goal::Ready, S::Orphaned, W::Ready, "not yet"),
            (Goal::Ready, S::Ready, W::Running, "never"),
            (Goal::Ready, S::Error, W::Ready, "never"),
            (Goal::Ready, S::Cleaning, W::Cleaned, "never"),
            (Goal::Removed, S::Cleaning, W::Cleaned, "not yet"),
            (Goal::Removed, S::Cleaned, W::Cleaned, "reached"),
            (Goal::Removed, S::Error, W::Cleaned, "never"),
            (Goal::Removed, S::Ready, W::Cleaned, "not yet"),
        ];
        for (goal, state, wanted, expected) in table {
            assert_eq!(verdict_of(goal, state, wanted), expected, "{goal:?} {state:?} {wanted:?}");
        }
    }
}
