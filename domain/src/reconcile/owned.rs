//! Sessions that belong to the node: whether what the registry says of them is so.

use crate::converge::Site;
use crate::finding::{Code, Cure, Finding, Severity};
use crate::inventory::{Inventory, Kind, LedgerView, RunTrace, Traces, Worktree};
use crate::session::{Handle, LiveRun, Queue, Session, State};
use crate::spec::WorkspaceKind;

use super::View;

/// What is wrong with a session that is placed on the node, if something is. One thing at a time: what is put right
/// first may be the cause of the other.
pub(super) fn finding(view: &View<'_>, session: &Session) -> Option<Finding> {
    // While it is away nothing is known; a fault is told already.
    match &session.state {
        State::Creating { .. } | State::Queued(Queue::Start(..)) => {
            stuck(view, session, Code::StuckCreating, "made")
        }
        State::Cleaning { .. } => stuck(view, session, Code::StuckCleaning, "removed"),
        State::Running { run, .. } => {
            running(view, session, run).or_else(|| without_workspace(view, session))
        }
        State::Ready { .. } | State::Queued(Queue::Slot(_)) => without_workspace(view, session),
        State::Queued(Queue::Place)
        | State::Cleaned { .. }
        | State::Error { .. }
        | State::Orphaned { .. } => None,
    }
}

fn stuck(view: &View<'_>, session: &Session, code: Code, what: &str) -> Option<Finding> {
    let waited = view.now.since(session.since);
    let is_idle =
        |inventory: &Inventory| !inventory.sessions.get(&session.id).is_some_and(Traces::is_in_hand);
    if waited < view.rules.stuck || !view.twice(is_idle) {
        return None;
    }
    let text = format!("it is to be {what}, and its node is not at it");
    Some(Finding {
        severity: Severity::Available,
        since: session.since,
        evidence: vec![session.state.kind().word().into(), "nothing is being done for it on its node".into()],
        hint: "droverctl repair lets its node try again".into(),
        cure: Some(Cure::Retry(session.id)),
        ..view.of_session(code, session, &text)
    })
}

fn running(view: &View<'_>, session: &Session, live: &LiveRun) -> Option<Finding> {
    let run = live.order.run;
    // Nothing is left of it, as far as everything could be seen.
    let is_empty = |inventory: &Inventory, traces: Option<&Traces>| {
        let is_left = |traces: &Traces| {
            let lives = |seen: &RunTrace| !seen.alive.is_absent();
            traces.is_in_hand() || !traces.processes.is_empty() || traces.run.as_ref().is_some_and(lives)
        };
        !traces.is_some_and(is_left) && inventory.sees(Kind::Processes) && inventory.sees(Kind::Runs)
    };
    let is_unheld = |inventory: &Inventory| {
        let traces = inventory.sessions.get(&session.id);
        let ledger = traces.and_then(|traces| traces.ledger.as_ref());
        ledger.is_none_or(|ledger| ledger.run != Some(run)) && is_empty(inventory, traces)
    };
    let is_dead = |inventory: &Inventory| {
        let traces = inventory.sessions.get(&session.id);
        let seen = traces.and_then(|traces| traces.run.as_ref());
        seen.is_some_and(|seen| seen.run == run) && is_empty(inventory, traces)
    };
    // A look may be older than the word that it began.
    let is_new = view.now.since(session.since) < view.rules.processes;
    let wrong = |code, text: &str, evidence: &str, cure| Finding {
        severity: Severity::Available,
        since: live.started,
        evidence: vec![format!("run {} ({run})", live.order.ordinal).into(), evidence.into()],
        hint: "droverctl repair puts it right; its workspace stays as it is".into(),
        cure: Some(cure),
        ..view.of_session(code, session, text)
    };
    if !is_new && view.twice(is_unheld) {
        let text = "it is recorded as running, and its node has no such run";
        let evidence = "neither the ledger nor a process knows of it, in two looks";
        return Some(wrong(Code::StuckRunning, text, evidence, Cure::Stop(session.id)));
    }
    if !is_new && view.twice(is_dead) {
        let text = "its run is recorded as live, and no process of it is left";
        let evidence = "its supervisor is gone and no process bears its mark, in two looks";
        return Some(wrong(Code::DeadRuntime, text, evidence, Cure::Stop(session.id)));
    }
    let has_handle = match &live.handle {
        Handle::Process { pid } => *pid != 0,
        Handle::Tmux { name } => !name.is_empty(),
        Handle::Container { id } => !id.is_empty(),
    };
    let text = "it runs, and nothing records what its process is called";
    (!has_handle).then(|| wrong(Code::MissingHandle, text, "its handle is empty", Cure::Tell(session.id)))
}

fn without_workspace(view: &View<'_>, session: &Session) -> Option<Finding> {
    // A clone is no worktree of another repository: what is seen says nothing of it.
    let workspace = session.workspace.as_ref().filter(|_| session.spec.workspace != WorkspaceKind::Clone)?;
    if !view.twice(|inventory| is_gone(inventory, session, &workspace.path)) {
        return None;
    }
    let text = format!("its workspace {} is gone", workspace.path);
    let saved =
        session.checkpoint.as_ref().map(|saved| format!("last checkpoint: {}", saved.reference).into());
    let has_entry = view.current.sessions.get(&session.id).is_some_and(|traces| !traces.worktrees.is_empty());
    let seen = if has_entry {
        "the directory was not there in two looks"
    } else {
        "no worktree bears its mark, in two looks"
    };
    Some(Finding {
        severity: Severity::Available,
        evidence: std::iter::once(seen.into()).chain(saved).collect(),
        hint: "droverctl cleanup removes the session; its branch stays if it has work, its last checkpoint goes to the \
               trash, and droverctl trash restore makes a session of it again"
            .into(),
        cure: Some(Cure::Remove(session.id)),
        ..view.of_session(Code::SessionWithoutWorkspace, session, &text)
    })
}

/// Seen, and not there.
fn is_gone(inventory: &Inventory, session: &Session, path: &str) -> bool {
    let Some(traces) = inventory.sessions.get(&session.id) else {
        // A node that knows nothing of its own session has lost its ledger: it is told of it before anything follows.
        return false;
    };
    let is_settled = traces.ledger.as_ref().is_some_and(LedgerView::is_settled);
    // One that was moved is not gone.
    let is_here = |worktree: &Worktree| !worktree.directory.is_absent();
    is_settled && !traces.worktrees.iter().any(is_here) && !is_hidden(inventory, traces, path)
}

/// Whether it may be where nobody could look. Its references tell the repository.
fn is_hidden(inventory: &Inventory, traces: &Traces, path: &str) -> bool {
    let repositories = || traces.references.iter().map(|references| &*references.repository);
    let is_blind = |kind| {
        let is_nowhere_seen = traces.references.is_empty() && !inventory.sees(kind);
        is_nowhere_seen
            || inventory.is_blind(kind, path)
            || repositories().any(|repository| inventory.is_blind(kind, repository))
    };
    is_blind(Kind::Worktrees) || is_blind(Kind::Directories)
}

impl Traces {
    /// Something is being done for it, or about to be.
    pub(super) fn is_in_hand(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.is_busy)
    }
}

impl LedgerView {
    /// The workspace was made, and nothing is being done with it.
    fn is_settled(&self) -> bool {
        !self.is_busy && self.site == Site::Made
    }
}

impl View<'_> {
    /// In this look and in the one before.
    pub(super) fn twice(&self, is_so: impl Fn(&Inventory) -> bool) -> bool {
        is_so(self.current) && self.before.is_some_and(is_so)
    }
}
