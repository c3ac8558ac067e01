//! An inventory as it is said to the controller. Stamps become ages: nobody compares two clocks.

use std::time::Duration;

use drover_domain::id::SessionId;
use drover_domain::inventory::{
    Away, Blind, Inventory, LedgerView, LockFile, Process, References, RunTrace, Stray, Traces, Worktree,
};
use drover_domain::presence::Presence;
use drover_domain::time::Timestamp;

use crate::convert::time::length;
use crate::node_v1;

/// All of it, in one piece.
pub fn whole(inventory: &Inventory, now: Timestamp) -> node_v1::InventoryPiece {
    node_v1::InventoryPiece {
        sessions: inventory.sessions.iter().map(|(session, traces)| of(*session, traces, now)).collect(),
        gone: vec![],
        locks: inventory.locks.iter().map(|found| lock(found, Some(now))).collect(),
        strays: inventory.strays.iter().map(|found| stray(found, now)).collect(),
        blind: inventory.blind.iter().map(blind).collect(),
    }
}

/// Without what changes by itself.
pub fn ageless(traces: &node_v1::SessionTraces) -> node_v1::SessionTraces {
    let mut traces = traces.clone();
    traces.worktrees.iter_mut().for_each(|worktree| worktree.age = None);
    traces.away.iter_mut().for_each(|away| away.age = None);
    traces.references.iter_mut().for_each(|references| references.age = None);
    traces.processes.iter_mut().for_each(|process| process.age = None);
    traces
}

fn of(session: SessionId, traces: &Traces, now: Timestamp) -> node_v1::SessionTraces {
    node_v1::SessionTraces {
        session_id: session.to_string(),
        ledger: traces.ledger.as_ref().map(ledger),
        worktrees: traces.worktrees.iter().map(|found| worktree(found, now)).collect(),
        away: traces.away.iter().map(|found| away(found, now)).collect(),
        references: traces.references.iter().map(|found| references(found, now)).collect(),
        run: traces.run.as_ref().map(run),
        processes: traces.processes.iter().map(|found| process(found, Some(now))).collect(),
    }
}

fn ledger(view: &LedgerView) -> node_v1::LedgerView {
    node_v1::LedgerView {
        generation: view.fence.generation,
        epoch: view.fence.epoch,
        is_assigned: view.is_assigned,
        site: view.site.word().to_owned(),
        path: text(view.path.as_deref()),
        run_id: view.run.map(|run| run.to_string()).unwrap_or_default(),
        is_busy: view.is_busy,
        sagas: view.sagas.iter().map(ToString::to_string).collect(),
    }
}

fn worktree(found: &Worktree, now: Timestamp) -> node_v1::WorktreeTrace {
    node_v1::WorktreeTrace {
        repository: found.repository.to_string(),
        entry: found.entry.to_string(),
        path: text(found.path.as_deref()),
        directory: presence(&found.directory).0.into(),
        branch: text(found.branch.as_deref()),
        generation: found.fence.generation,
        epoch: found.fence.epoch,
        age: age(found.since, now),
    }
}

fn away(found: &Away, now: Timestamp) -> node_v1::AwayTrace {
    node_v1::AwayTrace { path: found.path.to_string(), is_saved: found.is_saved, age: age(found.since, now) }
}

fn references(found: &References, now: Timestamp) -> node_v1::ReferenceTrace {
    node_v1::ReferenceTrace {
        repository: found.repository.to_string(),
        base: text(found.base.as_deref()),
        checkpoints: found.checkpoints,
        age: age(found.since, now),
    }
}

fn run(found: &RunTrace) -> node_v1::RunTrace {
    let (alive, why) = presence(&found.alive);
    node_v1::RunTrace { run_id: found.run.to_string(), alive: alive.into(), why }
}

/// Whoever tells a node of what it told itself knows no age: what counts is who it is.
pub fn process(found: &Process, now: Option<Timestamp>) -> node_v1::ProcessTrace {
    node_v1::ProcessTrace {
        pid: found.pid,
        start: found.start,
        run_id: found.run.map(|run| run.to_string()).unwrap_or_default(),
        name: found.name.to_string(),
        age: now.and_then(|now| age(found.since, now)),
    }
}

/// The same: what counts is its stamp.
pub fn lock(found: &LockFile, now: Option<Timestamp>) -> node_v1::LockFile {
    node_v1::LockFile {
        repository: found.repository.to_string(),
        name: found.name.to_string(),
        age: now.and_then(|now| age(found.since, now)),
        holder: text(found.holder.as_deref()),
        is_ours: found.is_ours,
        stamp: found.stamp.to_string(),
    }
}

fn stray(found: &Stray, now: Timestamp) -> node_v1::Stray {
    node_v1::Stray { path: found.path.to_string(), what: found.what.to_string(), age: age(found.since, now) }
}

fn blind(found: &Blind) -> node_v1::Blind {
    node_v1::Blind {
        kind: found.kind.word().to_owned(),
        place: text(found.place.as_deref()),
        why: found.why.to_string(),
    }
}

fn presence(presence: &Presence<()>) -> (node_v1::Presence, String) {
    match presence {
        Presence::Present(()) => (node_v1::Presence::Present, String::new()),
        Presence::Absent => (node_v1::Presence::Absent, String::new()),
        Presence::Unknown(why) => (node_v1::Presence::Unknown, why.clone()),
    }
}

/// What is from the future has no age.
fn age(since: Timestamp, now: Timestamp) -> Option<prost_types::Duration> {
    let millis = u64::try_from(now.millis().saturating_sub(since.millis())).unwrap_or(0);
    Some(length(Duration::from_millis(millis)))
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}
