//! Sessions that belong to the node: whether what the registry says of them is so.

use crate::converge::Site;
use crate::finding::{Code, Cure, Finding, Severity};
use crate::inventory::{Inventory, Kind, LedgerView, Traces};
use crate::presence::Presence;
use crate::repository::Repository;
use crate::session::{Handle, LiveRun, Queue, Session, State};

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
    let held = |inventory: &Inventory| inventory.sessions.get(&session.id).cloned().unwrap_or_default();
    let is_unheld = |inventory: &Inventory| {
        let traces = held(inventory);
        let is_known = traces.ledger.as_ref().is_some_and(|ledger| ledger.run == Some(run));
        !is_known && !traces.is_in_hand() && traces.processes.is_empty() && inventory.sees(Kind::Processes)
    };
    let is_dead = |inventory: &Inventory| {
        let traces = held(inventory);
        let is_absent =
            traces.run.as_ref().is_some_and(|seen| seen.run == run && seen.alive == Presence::Absent);
        is_absent && !traces.is_in_hand() && traces.processes.is_empty() && inventory.sees(Kind::Processes)
    };
    let wrong = |code, text: &str, evidence: &str, cure| Finding {
        severity: Severity::Available,
        since: live.started,
        evidence: vec![format!("run {} ({run})", live.order.ordinal).into(), evidence.into()],
        hint: "droverctl repair puts it right; its workspace stays as it is".into(),
        cure: Some(cure),
        ..view.of_session(code, session, text)
    };
    if view.twice(is_unheld) {
        let text = "it is recorded as running, and its node has no such run";
        let evidence = "neither the ledger nor a process knows of it, in two looks";
        return Some(wrong(Code::StuckRunning, text, evidence, Cure::Stop(session.id)));
    }
    if view.twice(is_dead) {
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
    let workspace = session.workspace.as_ref()?;
    if !view.twice(|inventory| is_gone(inventory, session, &workspace.path)) {
        return None;
    }
    let text = format!("its workspace {} is gone", workspace.path);
    let saved =
        session.checkpoint.as_ref().map(|saved| format!("last checkpoint: {}", saved.reference).into());
    let seen = "the directory was not there in two looks".into();
    Some(Finding {
        severity: Severity::Available,
        evidence: std::iter::once(seen).chain(saved).collect(),
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
    let is_here = |directory: &Presence<()>| !directory.is_absent();
    let is_seen = |found: &crate::inventory::Worktree| {
        found.path.as_deref().is_none_or(|at| at == path) && is_here(&found.directory)
    };
    is_settled && !traces.worktrees.iter().any(is_seen) && can_see(inventory, session)
}

/// Whether nothing that hides the session's repository was met.
fn can_see(inventory: &Inventory, session: &Session) -> bool {
    let hides = |place: &str| match &session.spec.repository {
        Repository::Path { path, .. } => place.starts_with(path.as_str()),
        // Where the node has its copy is the node's affair.
        Repository::Url(_) => true,
    };
    !inventory
        .blind
        .iter()
        .filter(|blind| matches!(blind.kind, Kind::Worktrees | Kind::Directories))
        .any(|blind| blind.place.as_deref().is_none_or(hides))
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
