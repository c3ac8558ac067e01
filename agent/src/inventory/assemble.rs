//! From what is on the machine and what the ledger says to one inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use drover_domain::id::SessionId;
use drover_domain::inventory::{Blind, Inventory, Kind, LockFile, RunTrace, Stray, Traces};
use drover_domain::presence::Presence;
use drover_domain::session::Order;
use drover_domain::time::Timestamp;

use super::ledger_view::Known;
use super::machine::{Machine, changed};
use crate::git::left::Left;

/// Of each session's processes only so many are told, the oldest first.
const MOST_PROCESSES: usize = 256;
const MOST_STRAYS: usize = 1_000;
const MOST_LOCKS: usize = 1_000;

/// `only`: what is about this repository.
pub(super) fn assemble(machine: Machine, known: Known, only: Option<&Path>) -> Inventory {
    let Machine { worktrees, references, directories, locks, census, runs, blind } = machine;
    let mut inventory = Inventory { blind, ..Inventory::default() };
    inventory.blind.extend(directories.blind);
    inventory.blind.extend(census.blind);
    let mut sessions: BTreeMap<SessionId, Traces> = BTreeMap::new();
    let pointed: BTreeSet<PathBuf> =
        worktrees.iter().filter_map(|(_, worktree)| Some(PathBuf::from(worktree.path.as_deref()?))).collect();
    for (session, worktree) in worktrees {
        sessions.entry(session).or_default().worktrees.push(worktree);
    }
    for (session, references) in references {
        sessions.entry(session).or_default().references.push(references);
    }
    for (session, away) in directories.away {
        sessions.entry(session).or_default().away.push(away);
    }
    for (session, process) in census.marked {
        sessions.entry(session).or_default().processes.push(process);
    }
    for session in known.held.keys().copied().chain(known.with_sagas()).collect::<Vec<_>>() {
        sessions.entry(session).or_default();
    }
    let sees_processes = inventory.sees(Kind::Processes);
    for (session, order, alive) in runs {
        // It may have ended while the machine was looked at.
        if known.run(session) == Some(order) {
            let traces = sessions.entry(session).or_default();
            traces.run = Some(run(order, alive, traces, sees_processes));
        }
    }
    for (session, traces) in &mut sessions {
        traces.ledger = known.view(*session);
        traces.processes.sort_by_key(|process| (process.start, process.pid));
        traces.processes.truncate(MOST_PROCESSES);
    }
    inventory.locks = locks.into_iter().map(|left| lock(left, &sessions)).take(MOST_LOCKS).collect();
    let paths: BTreeSet<PathBuf> = known.paths().into_iter().chain(pointed).collect();
    let filled = directories.filled.into_iter().filter(|filled| !paths.contains(&filled.path));
    let filled = filled.map(|filled| {
        let what = match filled.common {
            Some(common) => format!("a worktree of {} without this agent's mark", common.display()),
            None => "a directory with files".to_owned(),
        };
        (filled.path, what)
    });
    let others = directories.others.into_iter().map(|(path, what)| (path, what.to_owned()));
    inventory.strays = filled.chain(others).map(stray).take(MOST_STRAYS).collect();
    inventory.sessions = sessions.into_iter().collect();
    if let Some(only) = only {
        narrow(&mut inventory, &known, only);
    }
    inventory
}

/// Marked processes of a run live, whatever is kept of it.
fn run(order: Order, alive: Presence<()>, traces: &Traces, sees_processes: bool) -> RunTrace {
    let is_marked = traces.processes.iter().any(|process| process.run == Some(order.run));
    let alive = match alive {
        Presence::Absent if is_marked => Presence::Present(()),
        Presence::Absent if !sees_processes => {
            Presence::Unknown("its supervisor is gone, and not every process can be looked into".into())
        }
        alive => alive,
    };
    RunTrace { run: order.run, alive }
}

/// A lock is ours if our own git announced it, or if it lies in an entry of ours where nobody is at work.
fn lock(left: Left, sessions: &BTreeMap<SessionId, Traces>) -> LockFile {
    let repository: Box<str> = left.common.to_string_lossy().into();
    let at = left.common.join(&left.name);
    let is_in_entry = |traces: &Traces| {
        let is_idle = traces.processes.is_empty();
        is_idle && traces.worktrees.iter().any(|worktree| at.parent() == Some(Path::new(&*worktree.entry)))
    };
    let is_free = left.holder.is_none();
    let is_ours = is_free && (left.is_announced || sessions.values().any(is_in_entry));
    LockFile {
        repository,
        name: left.name.into(),
        since: Timestamp::from_millis(left.changed_millis),
        holder: left.holder.map(Into::into),
        is_ours,
        stamp: left.stamp.into(),
    }
}

fn stray((path, what): (PathBuf, String)) -> Stray {
    Stray { since: changed(&path), path: path.to_string_lossy().into(), what: what.into() }
}

/// Only what is about one repository.
fn narrow(inventory: &mut Inventory, known: &Known, only: &Path) {
    let named = only.to_string_lossy();
    let is_there = |session: &SessionId, traces: &Traces| {
        traces.worktrees.iter().any(|worktree| *worktree.repository == *named)
            || traces.references.iter().any(|references| *references.repository == *named)
            || known.common(*session) == Some(only)
    };
    let sessions = std::mem::take(&mut inventory.sessions);
    inventory.sessions = sessions.into_iter().filter(|(session, traces)| is_there(session, traces)).collect();
    inventory.strays.clear();
    let is_about = |blind: &Blind| blind.place.as_deref().is_none_or(|place| place == named);
    inventory.blind.retain(is_about);
}
