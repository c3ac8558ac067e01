//! What is left of sessions that do not belong to the node: over, placed elsewhere, or never heard of.

use crate::finding::{Code, Cure, Finding, Label, Remains, Severity};
use crate::id::SessionId;
use crate::inventory::{LedgerView, References, Traces, Worktree};
use crate::presence::Presence;
use crate::repository::Repository;
use crate::session::{Session, State};
use crate::time::Timestamp;

use super::{Known, View};

pub(super) fn findings(view: &View<'_>, id: SessionId, traces: &Traces, found: &mut Vec<Finding>) {
    match view.known(id) {
        Known::Live(session) if is_here(view, session) => {}
        // What the node was told last, and is doing about it, comes first.
        Known::Live(_) | Known::Over(_) if is_at_work(traces) => {}
        Known::Live(session) => fenced(view, session, traces, found),
        Known::Over(session) => over(view, session, traces, found),
        Known::Never => unheard(view, id, traces, found),
    }
}

fn is_here(view: &View<'_>, session: &Session) -> bool {
    session.state.placement().is_none_or(|placement| placement.node == view.node.id)
}

fn is_at_work(traces: &Traces) -> bool {
    traces.ledger.as_ref().is_some_and(|ledger| ledger.is_busy || ledger.is_assigned)
}

/// It was placed elsewhere since.
fn fenced(view: &View<'_>, session: &Session, traces: &Traces, found: &mut Vec<Finding>) {
    let Some(placement) = session.state.placement() else { return };
    for worktree in traces.worktrees.iter().filter(|worktree| worktree.fence < placement.fence) {
        let text = format!("an older placement of '{}' left a workspace here", session.title());
        let finding = view.remains(Code::FencedPlacement, Some(session), &text, worktree.since);
        found.push(worktree_finding(view, finding, session.id, Some(session), worktree));
    }
}

fn over(view: &View<'_>, session: &Session, traces: &Traces, found: &mut Vec<Finding>) {
    let title = session.title();
    if !traces.processes.is_empty() {
        found.push(processes(view, session, traces));
    }
    for worktree in &traces.worktrees {
        let (code, text) = match &worktree.directory {
            Presence::Present(()) => {
                (Code::WorktreeWithoutSession, format!("a workspace of '{title}', which was removed"))
            }
            Presence::Absent => {
                (Code::PrunableWorktree, format!("an entry of '{title}' whose directory is gone"))
            }
            // Nothing follows from what could not be seen.
            Presence::Unknown(_) => continue,
        };
        if worktree.directory.is_absent() && !was_absent(view, session.id, worktree) {
            continue;
        }
        let finding = view.remains(code, Some(session), &text, worktree.since);
        found.push(worktree_finding(view, finding, session.id, Some(session), worktree));
    }
    for away in &traces.away {
        let text = format!("the removal of '{title}' did not come to its end");
        let finding = view.remains(Code::HalfCleaned, Some(session), &text, away.since);
        let remains = Remains { path: None, ..remains(session.id, Some(session), None) };
        let grace = view.rules.workspaces;
        found.push(view.ripe(
            Finding { subject: away.path.clone(), ..finding },
            away.since,
            grace,
            Cure::Clear(remains),
        ));
    }
    if traces.worktrees.is_empty() {
        found.extend(traces.references.iter().map(|references| branch(view, session, references)));
    }
    half_done(view, session.id, Some(session), traces.ledger.as_ref(), found);
}

fn processes(view: &View<'_>, session: &Session, traces: &Traces) -> Finding {
    let since = traces.processes.iter().map(|process| process.since).max().unwrap_or(view.now);
    let text = format!("processes of '{}', which was removed", session.title());
    let names = traces.processes.iter().take(8);
    let evidence =
        names.map(|process| format!("process {} ({})", process.pid, process.name).into()).collect();
    let finding = view.remains(Code::ProcessWithoutSession, Some(session), &text, since);
    let cure = Cure::EndProcesses(session.id, traces.processes.clone());
    let subject = format!("processes of {}", session.id).into();
    view.ripe(Finding { evidence, subject, ..finding }, since, view.rules.processes, cure)
}

/// The branch of a session that was removed. One that was kept for its work is as it was meant, until it is merged:
/// that is seen when it is looked at closely.
fn branch(view: &View<'_>, session: &Session, references: &References) -> Finding {
    let branch =
        session.workspace.as_ref().map_or_else(|| session.branch().into(), |site| site.branch.clone());
    let was_kept = matches!(&session.state, State::Cleaned { kept } if kept.branch.is_some());
    let text = match (&references.base, was_kept) {
        (Some(_), true) => format!("the branch {branch} of '{}', kept for its commits", session.title()),
        (Some(_), false) => format!("the branch {branch} of '{}', which was removed", session.title()),
        (None, _) => {
            format!("{} checkpoints of '{}', which was removed", references.checkpoints, session.title())
        }
    };
    let code = if references.base.is_some() { Code::BranchWithoutSession } else { Code::HalfCleaned };
    let finding = view.remains(code, Some(session), &text, references.since);
    let repository: Option<&str> = Some(&references.repository);
    let cure = Cure::Clear(remains(session.id, Some(session), repository));
    let subject = format!("{branch} in {}", references.repository).into();
    let evidence: Vec<Box<str>> = references
        .base
        .iter()
        .map(|base| format!("its session began with {base}").into())
        .chain((references.checkpoints > 0).then(|| format!("{} checkpoints", references.checkpoints).into()))
        .collect();
    let finding = Finding { subject, evidence, repository: repository.map(Into::into), ..finding };
    let ripe = view.ripe(finding, references.since, view.rules.workspaces, cure);
    if was_kept {
        let hint = "droverctl cleanup deletes it once it is merged".into();
        return Finding { severity: Severity::Info, hint, ..ripe };
    }
    ripe
}

/// Bears our mark; the registry has never heard of it.
fn unheard(view: &View<'_>, id: SessionId, traces: &Traces, found: &mut Vec<Finding>) {
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
    for worktree in &traces.worktrees {
        let text = "it bears this node's mark, and is recorded neither by the registry nor by the ledger";
        let finding = view.remains(Code::UnrecordedMark, None, text, worktree.since);
        found.push(Finding {
            severity: Severity::Manual,
            session: Some(id),
            hint: format!(
                "look at it; droverctl cleanup --session {id} --force saves its work and removes it"
            )
            .into(),
            ..worktree_finding(view, finding, id, None, worktree)
        });
    }
    let loose = !traces.processes.is_empty() || !traces.away.is_empty();
    if traces.worktrees.is_empty() && loose {
        let text = "processes or directories bear this node's mark, and no record knows their session";
        found.push(Finding {
            severity: Severity::Manual,
            session: Some(id),
            evidence: traces
                .processes
                .iter()
                .map(|it| format!("process {} ({})", it.pid, it.name).into())
                .collect(),
            hint: "look at them; nothing of Drover's ends them by itself".into(),
            ..view.finding(Code::UnrecordedMark, &id.to_string(), text)
        });
    }
}

/// Steps that the ledger began for a session that is over, and nothing goes on with.
fn half_done(
    view: &View<'_>,
    id: SessionId,
    session: Option<&Session>,
    ledger: Option<&LedgerView>,
    found: &mut Vec<Finding>,
) {
    let Some(ledger) = ledger.filter(|ledger| !ledger.sagas.is_empty()) else { return };
    let is_making = ledger.sagas.iter().any(|saga| &**saga == "workspace");
    let is_removing = ledger.sagas.iter().any(|saga| &**saga == "removal");
    let code = if is_making && !is_removing { Code::HalfCreated } else { Code::HalfCleaned };
    let text =
        format!("the ledger holds steps that were begun and not finished: {}", ledger.sagas.join(", "));
    let finding = view.remains(code, session, &text, view.now);
    let remains = Remains { path: ledger.path.clone(), ..remains(id, session, None) };
    let subject = format!("steps of {id}").into();
    found.push(view.ripe(
        Finding { subject, ..finding },
        view.now,
        std::time::Duration::ZERO,
        Cure::Clear(remains),
    ));
}

fn worktree_finding(
    view: &View<'_>,
    finding: Finding,
    id: SessionId,
    session: Option<&Session>,
    worktree: &Worktree,
) -> Finding {
    let cure = Remains {
        path: worktree.path.clone(),
        branch: worktree.branch.clone().or_else(|| remains(id, session, None).branch),
        ..remains(id, session, Some(&worktree.repository))
    };
    let finding = Finding {
        subject: worktree.path.clone().unwrap_or_else(|| worktree.entry.clone()),
        repository: Some(worktree.repository.clone()),
        evidence: vec![format!("{} bears the mark of {id}", worktree.entry).into()],
        ..finding
    };
    view.ripe(finding, worktree.since, view.rules.workspaces, Cure::Clear(cure))
}

fn was_absent(view: &View<'_>, session: SessionId, worktree: &Worktree) -> bool {
    view.earlier(session).is_some_and(|earlier| {
        let same = earlier.worktrees.iter().find(|other| other.entry == worktree.entry);
        same.is_some_and(|other| other.directory.is_absent())
    })
}

fn remains(id: SessionId, session: Option<&Session>, repository: Option<&str>) -> Remains {
    let label = session.map(|session| Label {
        project: session.project.clone(),
        name: session.name.clone(),
        origin: match &session.spec.repository {
            Repository::Url(url) => url.as_str().into(),
            Repository::Path { path, .. } => path.as_str().into(),
        },
    });
    let recorded = |session: &Session| {
        session.workspace.as_ref().map_or_else(|| session.branch().into(), |site| site.branch.clone())
    };
    Remains {
        session: id,
        repository: repository.map(Into::into),
        path: None,
        branch: session.map(recorded),
        label,
    }
}

impl View<'_> {
    fn remains(&self, code: Code, session: Option<&Session>, text: &str, since: Timestamp) -> Finding {
        Finding {
            session: session.map(|session| session.id),
            title: session.map(|session| session.title().into()),
            since,
            ..self.finding(code, "", text)
        }
    }

    /// Ready to be cleaned up, once it is older than its grace.
    fn ripe(&self, finding: Finding, since: Timestamp, grace: std::time::Duration, cure: Cure) -> Finding {
        let left = grace.saturating_sub(self.now.since(since));
        if left.is_zero() {
            let hint = "droverctl cleanup saves what work is in it, and removes it".into();
            return Finding { severity: Severity::Available, hint, cure: Some(cure), ..finding };
        }
        let hint = format!("it is left alone until it is {} s old", grace.as_secs()).into();
        Finding { severity: Severity::Info, hint, ..finding }
    }
}
