//! What happens next to a session, in words for a person: derived from how it stands, from what is wanted of it and from
//! its policies, and never stored.

use std::fmt::Write;

use crate::fleet::Fleet;
use crate::placement;
use crate::session::{LiveRun, Queue, Session, State, Wanted};
use crate::spec::{Restart, Resume};
use crate::time::Timestamp;

/// What happens next, if nobody does anything.
pub fn next(fleet: &Fleet, session: &Session, now: Timestamp) -> String {
    match (&session.state, session.wanted) {
        (State::Cleaned { .. }, _) => "nothing: it was removed, and leaves the list in a while".into(),
        (State::Cleaning { run: Some(_), .. }, _) => {
            "its run is stopped; then its work is saved and its workspace removed".into()
        }
        (State::Cleaning { run: None, .. }, _) => "its work is saved, then its workspace is removed".into(),
        (State::Error { fault, .. }, _) if fault.retryable => {
            format!("nothing by itself; {}; droverctl start tries again", fault.hint)
        }
        (State::Error { fault, .. }, _) => format!("nothing by itself; {}", fault.hint),
        (State::Orphaned { was, .. }, _) => {
            format!("it waits for its node, and is {} again when that returns", was.kind().word())
        }
        (State::Queued(Queue::Start(..)), Wanted::Running) => {
            "its node starts the run that was ordered".into()
        }
        (State::Queued(Queue::Place | Queue::Slot(_)), wanted) => queued(fleet, session, wanted, now),
        (State::Creating { order: Some(_), .. }, Wanted::Running) => {
            "its workspace is made, then its run is started".into()
        }
        (State::Creating { .. }, _) => "its workspace is made; nothing is started".into(),
        (State::Ready { .. }, _) => {
            "nothing: its workspace stays until somebody starts, resets or removes it".into()
        }
        (State::Running { run, .. }, Wanted::Running) => running(fleet, session, run, now),
        (State::Running { .. } | State::Queued(Queue::Start(..)), _) => stopping(session),
    }
}

fn queued(fleet: &Fleet, session: &Session, wanted: Wanted, now: Timestamp) -> String {
    let aim = match (wanted, session.state.placement()) {
        (_, None) => "it is placed",
        (Wanted::Running, Some(_)) => "it runs again",
        (Wanted::Ready | Wanted::Cleaned(_), Some(_)) => "its workspace is made",
    };
    let mut text = match placement::wait(fleet, session, now) {
        Some(wait) => format!("{aim} as soon as this is no longer so: {wait}"),
        None => format!("{aim} at once"),
    };
    if let Some(deadline) = session.queue_deadline() {
        let left = deadline.since(now).as_secs();
        let _ = write!(text, "; given up in {left} s, by its queue timeout");
    }
    text
}

fn running(fleet: &Fleet, session: &Session, run: &LiveRun, now: Timestamp) -> String {
    let mut parts = Vec::new();
    let node = session.state.placement().and_then(|placement| fleet.node(placement.node));
    if let Some(drain) = node.and_then(|node| node.drain.as_ref()) {
        parts.push(match drain.deadline {
            Some(deadline) => {
                format!(
                    "its node is being drained, so its run is stopped in {} s",
                    deadline.since(now).as_secs()
                )
            }
            None => "its node is being drained, so no other run begins there after it".to_owned(),
        });
    }
    match run.deadline {
        Some(deadline) => {
            let (left, most) = (deadline.since(now).as_secs(), session.spec.limits.max_extensions());
            let used = run.extensions;
            parts.push(format!(
                "its run is stopped in {left} s, by its timeout ({used} of {most} extensions used)"
            ));
        }
        None => parts.push("its run goes on until it ends".to_owned()),
    }
    if let Some(idle) = session.spec.limits.idle_timeout {
        parts.push(format!("it is stopped after {} s without a sign of life", idle.as_secs()));
    }
    match session.spec.restart {
        Restart::Never => {}
        Restart::OnFailure(most) => {
            parts.push(format!("if it fails it is started again, {} of {most} times used", session.failures));
        }
    }
    parts.push(match &session.spec.resume {
        Resume::Auto { .. } => "if its machine takes it along it is resumed".to_owned(),
        Resume::Never => "if its machine takes it along the session is ready".to_owned(),
    });
    parts.join("; ")
}

fn stopping(session: &Session) -> String {
    let by = session.halt.as_ref().map_or("somebody", |halt| &halt.by);
    let then = match session.wanted {
        Wanted::Cleaned(_) => "the session is removed",
        Wanted::Running => "it runs again",
        Wanted::Ready if session.wants_rebuild() => "its workspace is made anew",
        Wanted::Ready => "the session is ready",
    };
    format!("its run ends, as {by} asked; then {then}")
}
