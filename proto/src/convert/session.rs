//! A session as clients see it. What is derived (why it waits, its conditions) is derived here, from the fleet.

use drover_domain::condition::{self, Truth};
use drover_domain::fleet::Fleet;
use drover_domain::node::Node;
use drover_domain::placement;
use drover_domain::session::{Hold, Placement, Progress, Session, State, StateKind, Wanted};
use drover_domain::time::Timestamp;

use super::time::stamp;
use super::{run, spec};
use crate::v1;

/// `session` as it stands in `fleet`.
pub fn render(fleet: &Fleet, session: &Session, now: Timestamp) -> v1::Session {
    let placement = session.state.placement();
    let node = placement.and_then(|placement| fleet.node(placement.node)).map(|node| &**node);
    let mut wire = v1::Session {
        id: session.id.to_string(),
        name: session.name.to_string(),
        project: session.project.to_string(),
        owner: session.owner.to_string(),
        number: session.number,
        revision: session.revision,
        create_time: Some(stamp(session.created)),
        spec: Some(spec::to_wire(&session.spec)),
        wanted: wanted(session.wanted).into(),
        state: state(session.state.kind()).into(),
        state_time: Some(stamp(session.since)),
        wait_reason: placement::wait(fleet, session, now).map(|wait| wait.to_string()).unwrap_or_default(),
        hold: session.hold.as_ref().filter(|_| session.is_held(now)).map(hold),
        placement: placement.map(|placement| placed(placement, node)),
        workspace: session.workspace.as_ref().map(run::workspace),
        last_run: session.last_run.as_ref().map(run::ended),
        runs: session.runs,
        failures: session.failures,
        checkpoint: session.checkpoint.as_ref().map(run::checkpoint),
        restored_from: session.origin.as_deref().unwrap_or_default().to_owned(),
        resumes: session.resumes,
        interruptions: session.interruptions,
        rebuilds: session.rebuilds,
        conditions: condition::of(session, node, now).into_iter().map(conditioned).collect(),
        ..v1::Session::default()
    };
    fill_state(&mut wire, &session.state);
    wire
}

fn fill_state(wire: &mut v1::Session, state: &State) {
    wire.current_run = state.order().map(run::ordered);
    let begun = |progress: &Progress| (progress.of > 0).then(|| run::progress(progress));
    match state {
        State::Creating { progress, .. } | State::Cleaning { progress, .. } => {
            wire.progress = begun(progress)
        }
        State::Running { run, .. } => wire.current_run = Some(run::live(run)),
        State::Cleaned { kept } => wire.kept = Some(run::kept(kept)),
        State::Error { fault, .. } => wire.fault = Some(run::fault(fault)),
        State::Orphaned { was, evidence } => {
            fill_state(wire, was);
            wire.orphan_evidence = evidence.to_string();
        }
        State::Queued(_) | State::Ready { .. } => {}
    }
}

fn placed(placement: &Placement, node: Option<&Node>) -> v1::Placement {
    v1::Placement {
        node_id: placement.node.to_string(),
        node: node.map(|node| node.name.to_string()).unwrap_or_default(),
        generation: placement.fence.generation,
        epoch: placement.fence.epoch,
    }
}

fn hold(hold: &Hold) -> v1::Hold {
    v1::Hold { until_time: hold.until.map(stamp), reason: hold.reason.to_string() }
}

fn conditioned(condition: condition::Condition) -> v1::Condition {
    let status = match condition.truth {
        Truth::True => v1::ConditionStatus::True,
        Truth::False => v1::ConditionStatus::False,
        Truth::Unknown => v1::ConditionStatus::Unknown,
    };
    v1::Condition {
        r#type: condition.kind.word().to_owned(),
        status: status.into(),
        reason: condition.reason.to_owned(),
        message: String::new(),
        change_time: Some(stamp(condition.since)),
    }
}

pub fn state(state: StateKind) -> v1::SessionState {
    match state {
        StateKind::Queued => v1::SessionState::Queued,
        StateKind::Creating => v1::SessionState::Creating,
        StateKind::Ready => v1::SessionState::Ready,
        StateKind::Running => v1::SessionState::Running,
        StateKind::Cleaning => v1::SessionState::Cleaning,
        StateKind::Cleaned => v1::SessionState::Cleaned,
        StateKind::Error => v1::SessionState::Error,
        StateKind::Orphaned => v1::SessionState::Orphaned,
    }
}

pub fn wanted(wanted: Wanted) -> v1::SessionWanted {
    match wanted {
        Wanted::Running => v1::SessionWanted::Running,
        Wanted::Ready => v1::SessionWanted::Ready,
        Wanted::Cleaned(_) => v1::SessionWanted::Cleaned,
    }
}
