//! What is there of sessions that do not belong to the node: over, placed elsewhere, or never heard of. Whatever one of the
//! node's own sessions uses is that session's, whatever else may point at it.

mod left;

use std::collections::BTreeSet;

use crate::finding::{Code, Cure, Finding, Remains, Severity};
use crate::id::SessionId;
use crate::inventory::{Inventory, Kind, Traces, Worktree};
use crate::presence::Presence;
use crate::session::Session;

use super::{Known, View};
use left::Left;

/// What the node's own sessions use.
pub(super) struct Used {
    paths: BTreeSet<Box<str>>,
    branches: BTreeSet<Box<str>>,
}

impl Used {
    pub(super) fn of(view: &View<'_>) -> Self {
        let here = || view.fleet.placed_on(view.node.id);
        let reported = here().filter_map(|session| Some(session.workspace.as_ref()?.path.clone()));
        let held = view.current.sessions.values().filter(|traces| is_at_work(traces));
        let held = held.filter_map(|traces| traces.ledger.as_ref()?.path.clone());
        Self {
            paths: reported.chain(held).collect(),
            branches: here().map(|session| recorded_branch(session)).collect(),
        }
    }

    fn has_path(&self, path: Option<&str>) -> bool {
        path.is_some_and(|path| self.paths.contains(path))
    }
}

pub(super) fn findings(
    view: &View<'_>,
    used: &Used,
    id: SessionId,
    traces: &Traces,
    found: &mut Vec<Finding>,
) {
    match view.known(id) {
        Known::Live(session) if is_here(view, session) => {}
        // What the node was told last, and is doing about it, comes first.
        Known::Live(_) | Known::Over(_) if is_at_work(traces) => {}
        Known::Live(session) if is_older(session, traces) => {
            Left { view, used, session, traces, is_elsewhere: true }.findings(found);
        }
        Known::Live(session) => found.push(newer(view, session)),
        Known::Over(session) => Left { view, used, session, traces, is_elsewhere: false }.findings(found),
        Known::Never => unheard(view, used, id, traces, found),
    }
}

fn is_here(view: &View<'_>, session: &Session) -> bool {
    session.state.placement().is_none_or(|placement| placement.node == view.node.id)
}

fn is_at_work(traces: &Traces) -> bool {
    traces.ledger.as_ref().is_some_and(|ledger| ledger.is_busy || ledger.is_assigned)
}

/// Whether all that bears a fence bears one from before the placement that counts.
fn is_older(session: &Session, traces: &Traces) -> bool {
    let Some(placement) = session.state.placement() else { return false };
    let ledger = traces.ledger.iter().map(|ledger| ledger.fence);
    let mut fences = traces.worktrees.iter().map(|worktree| worktree.fence).chain(ledger);
    fences.all(|fence| fence < placement.fence)
}

/// The node knows of a placement that the registry does not.
fn newer(view: &View<'_>, session: &Session) -> Finding {
    let text = format!("the node has a placement of '{}' that the registry does not know", session.title());
    Finding {
        severity: Severity::Manual,
        session: Some(session.id),
        title: Some(session.title().into()),
        hint: "nothing of it is touched; was the registry replaced by an older one?".into(),
        ..view.finding(Code::LedgerRegistryMismatch, &session.id.to_string(), &text)
    }
}

/// Bears our mark; the registry has never heard of it.
fn unheard(view: &View<'_>, used: &Used, id: SessionId, traces: &Traces, found: &mut Vec<Finding>) {
    if traces.ledger.is_some() {
        let text = "the node holds a session that the registry has never heard of";
        found.push(Finding {
            severity: Severity::Manual,
            session: Some(id),
            hint: "nothing of it is touched; was the registry replaced by an older one?".into(),
            ..view.finding(Code::LedgerRegistryMismatch, &id.to_string(), text)
        });
        return;
    }
    let worktrees = traces.worktrees.iter().filter(|worktree| is_certain(view, id, worktree));
    let before = found.len();
    found.extend(worktrees.map(|worktree| unrecorded(view, used, id, worktree)));
    let is_loose = !traces.processes.is_empty() || !traces.away.is_empty() || !traces.references.is_empty();
    if found.len() == before && is_loose {
        let text = "what bears this node's mark is of a session that no record knows";
        let processes = traces.processes.iter().take(8);
        let processes = processes.map(|it| format!("process {} ({})", it.pid, it.name).into());
        let away = traces.away.iter().map(|away| away.path.clone());
        let references = traces.references.iter().map(|it| format!("references in {}", it.repository).into());
        found.push(Finding {
            severity: Severity::Manual,
            session: Some(id),
            evidence: processes.chain(away).chain(references).collect(),
            hint: "look at it; nothing of Drover's ends or removes it by itself".into(),
            ..view.finding(Code::UnrecordedMark, &id.to_string(), text)
        });
    }
}

/// No branch is named: what no record knows is not ours, whatever is checked out there.
fn unrecorded(view: &View<'_>, used: &Used, id: SessionId, worktree: &Worktree) -> Finding {
    let text = "it bears this node's mark, and is recorded neither by the registry nor by the ledger";
    let remains = Remains {
        session: id,
        repository: Some(worktree.repository.clone()),
        path: worktree.path.clone(),
        branch: None,
        label: None,
    };
    let is_ripe = view.now.since(worktree.since) >= view.rules.workspaces;
    let is_used = used.has_path(worktree.path.as_deref());
    let hint = if is_used {
        "its directory is another session's now; look at the entry".to_owned()
    } else {
        format!("look at it; droverctl cleanup --session {id} --force saves its work and removes it")
    };
    Finding {
        severity: Severity::Manual,
        session: Some(id),
        repository: Some(worktree.repository.clone()),
        evidence: vec![mark(id, worktree)],
        hint: hint.into(),
        since: worktree.since,
        cure: (is_ripe && !is_used).then_some(Cure::Clear(remains)),
        ..view.finding(Code::UnrecordedMark, subject(worktree), text)
    }
}

/// Whether a worktree's directory was seen, or seen to be gone twice. Nothing follows from what could not be seen.
fn is_certain(view: &View<'_>, id: SessionId, worktree: &Worktree) -> bool {
    let was_absent = |earlier: &Traces| {
        let same = earlier.worktrees.iter().find(|other| other.entry == worktree.entry);
        same.is_some_and(|other| other.directory.is_absent())
    };
    match &worktree.directory {
        Presence::Present(()) => true,
        Presence::Absent => view.earlier(id).is_some_and(was_absent),
        Presence::Unknown(_) => false,
    }
}

/// Whether a worktree may be there that was not seen.
fn is_blind(inventory: &Inventory, repository: Option<&str>) -> bool {
    match repository {
        Some(repository) => inventory.is_blind(Kind::Worktrees, repository),
        None => !inventory.sees(Kind::Worktrees),
    }
}

fn subject(worktree: &Worktree) -> &str {
    worktree.path.as_deref().unwrap_or(&worktree.entry)
}

fn mark(id: SessionId, worktree: &Worktree) -> Box<str> {
    format!("{} bears the mark of {id}", worktree.entry).into()
}

/// As the registry has it. Only that one is a session's own, whatever is checked out where it worked.
fn recorded_branch(session: &Session) -> Box<str> {
    session.workspace.as_ref().map_or_else(|| session.branch().into(), |site| site.branch.clone())
}
