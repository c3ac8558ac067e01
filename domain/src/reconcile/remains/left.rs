//! What is left of a session that the registry knows: it is over, or live on another node.

use std::time::Duration;

use super::{Used, is_blind, is_certain, mark, recorded_branch, subject};
use crate::finding::{Code, Cure, Finding, Label, Remains, Severity};
use crate::inventory::{Away, LedgerView, References, Traces, Worktree};
use crate::presence::Presence;
use crate::reconcile::View;
use crate::repository::Repository;
use crate::session::{Session, State};
use crate::time::Timestamp;

pub(super) struct Left<'a, 'v> {
    pub view: &'a View<'v>,
    pub used: &'a Used,
    pub session: &'a Session,
    pub traces: &'a Traces,
    /// An older placement of it was here.
    pub is_elsewhere: bool,
}

impl Left<'_, '_> {
    pub(super) fn findings(&self, found: &mut Vec<Finding>) {
        if !self.traces.processes.is_empty() {
            found.push(self.processes());
        }
        let worktrees = self.traces.worktrees.iter();
        let certain = worktrees.filter(|worktree| is_certain(self.view, self.session.id, worktree));
        found.extend(certain.map(|worktree| self.worktree(worktree)));
        found.extend(self.traces.away.iter().map(|away| self.away(away)));
        if self.traces.worktrees.is_empty() {
            let seen = |at: &&References| !is_blind(self.view.current, Some(&at.repository));
            let references = self.traces.references.iter().filter(seen);
            found.extend(references.map(|references| self.references(references)));
        }
        found.extend(self.half_done());
    }

    fn processes(&self) -> Finding {
        let processes = &self.traces.processes;
        let since = processes.iter().map(|process| process.since).max().unwrap_or(self.view.now);
        let finding = Finding {
            subject: format!("processes of {}", self.session.id).into(),
            evidence: processes
                .iter()
                .take(8)
                .map(|process| format!("process {} ({})", process.pid, process.name).into())
                .collect(),
            ..self.finding(Code::ProcessWithoutSession, &format!("processes of {}", self.whose()), since)
        };
        if self.is_elsewhere && self.traces.ledger.is_none() {
            let hint = "no ledger says of which placement they are: look at them".into();
            return Finding { severity: Severity::Manual, hint, ..finding };
        }
        let cure = Cure::EndProcesses(self.session.id, processes.clone());
        self.ripe(finding, self.view.rules.processes, cure)
    }

    fn worktree(&self, worktree: &Worktree) -> Finding {
        let is_used = self.used.has_path(worktree.path.as_deref());
        let (code, what) = match &worktree.directory {
            _ if is_used => (Code::WorktreeWithoutSession, "an entry"),
            Presence::Present(()) => (Code::WorktreeWithoutSession, "a workspace"),
            Presence::Absent | Presence::Unknown(_) => {
                (Code::PrunableWorktree, "an entry without its directory")
            }
        };
        let finding = Finding {
            subject: subject(worktree).into(),
            repository: Some(worktree.repository.clone()),
            evidence: vec![mark(self.session.id, worktree)],
            ..self.finding(code, &format!("{what} of {}", self.whose()), worktree.since)
        };
        if is_used {
            let hint = "its directory is another session's now; look at the entry".into();
            return Finding { severity: Severity::Manual, hint, ..finding };
        }
        let remains = Remains { path: worktree.path.clone(), ..self.remains(Some(&worktree.repository)) };
        self.ripe(finding, self.view.rules.workspaces, Cure::Clear(remains))
    }

    fn away(&self, away: &Away) -> Finding {
        let text = format!("the removal of {} did not come to its end", self.whose());
        let finding =
            Finding { subject: away.path.clone(), ..self.finding(Code::HalfCleaned, &text, away.since) };
        self.ripe(finding, self.view.rules.workspaces, Cure::Clear(self.remains(None)))
    }

    /// The branch of a session that was removed. One that was kept for its work is as it was meant, until it is merged:
    /// that is seen when it is looked at closely.
    fn references(&self, references: &References) -> Finding {
        let branch = recorded_branch(self.session);
        let (code, what) = match &references.base {
            Some(_) => (Code::BranchWithoutSession, format!("the branch {branch}")),
            None => (Code::HalfCleaned, "checkpoints".to_owned()),
        };
        let base = references.base.iter().map(|base| format!("its session began with {base}").into());
        let checkpoints = references.checkpoints;
        let checkpoints = (checkpoints > 0).then(|| format!("{checkpoints} checkpoints").into());
        let subject = match &references.base {
            Some(_) => format!("{branch} in {}", references.repository),
            None => format!("checkpoints of {} in {}", self.session.title(), references.repository),
        };
        let finding = Finding {
            subject: subject.into(),
            evidence: base.chain(checkpoints).collect(),
            repository: Some(references.repository.clone()),
            ..self.finding(code, &format!("{what} of {}", self.whose()), references.since)
        };
        if self.is_elsewhere {
            let hint = "droverctl cleanup removes it when its session is over".into();
            return Finding { severity: Severity::Info, hint, ..finding };
        }
        let cure = Cure::Clear(self.remains(Some(&references.repository)));
        let ripe = self.ripe(finding, self.view.rules.workspaces, cure);
        let was_kept = matches!(&self.session.state, State::Cleaned { kept } if kept.branch.is_some());
        if was_kept {
            let hint = "droverctl cleanup deletes it once it is merged".into();
            return Finding { severity: Severity::Info, hint, ..ripe };
        }
        ripe
    }

    /// Steps that the ledger began, and nothing goes on with: so it was in the look before.
    fn half_done(&self) -> Option<Finding> {
        let (ledger, before) = (begun(self.traces)?, begun(self.view.earlier(self.session.id)?)?);
        let is_unseen = |worktree: &Worktree| matches!(worktree.directory, Presence::Unknown(_));
        let is_hidden = self.traces.worktrees.iter().any(is_unseen) || is_blind(self.view.current, None);
        if before.is_busy || before.is_assigned || is_hidden || self.used.has_path(ledger.path.as_deref()) {
            return None;
        }
        let has = |name: &str| ledger.sagas.iter().any(|saga| &**saga == name);
        let code = if has("workspace") && !has("removal") { Code::HalfCreated } else { Code::HalfCleaned };
        let sagas = ledger.sagas.join(", ");
        let text = format!("the ledger holds steps for {} that were not finished: {sagas}", self.whose());
        let finding = Finding {
            subject: format!("steps of {}", self.session.id).into(),
            ..self.finding(code, &text, self.view.now)
        };
        let remains = Remains { path: ledger.path.clone(), ..self.remains(None) };
        Some(self.ripe(finding, Duration::ZERO, Cure::Clear(remains)))
    }

    fn whose(&self) -> String {
        let became = if self.is_elsewhere { "which is on another node now" } else { "which was removed" };
        format!("'{}', {became}", self.session.title())
    }

    fn finding(&self, code: Code, text: &str, since: Timestamp) -> Finding {
        let code = if self.is_elsewhere { Code::FencedPlacement } else { code };
        Finding {
            session: Some(self.session.id),
            title: Some(self.session.title().into()),
            since,
            ..self.view.finding(code, "", text)
        }
    }

    /// Ready to be cleaned up, once it is older than its grace.
    fn ripe(&self, finding: Finding, grace: Duration, cure: Cure) -> Finding {
        let left = grace.saturating_sub(self.view.now.since(finding.since));
        if left.is_zero() {
            let hint = "droverctl cleanup saves what work is in it, and removes it".into();
            return Finding { severity: Severity::Available, hint, cure: Some(cure), ..finding };
        }
        let hint = format!("it is left alone until it is {} s old", grace.as_secs()).into();
        Finding { severity: Severity::Info, hint, ..finding }
    }

    /// A branch that a session of today has by the same name is that one's.
    fn remains(&self, repository: Option<&str>) -> Remains {
        let session = self.session;
        let origin = match &session.spec.repository {
            Repository::Url(url) => url.as_str().into(),
            Repository::Path { path, .. } => path.as_str().into(),
        };
        let branch = Some(recorded_branch(session)).filter(|branch| !self.used.branches.contains(branch));
        Remains {
            session: session.id,
            repository: repository.map(Into::into),
            path: None,
            branch,
            label: Some(Label { project: session.project.clone(), name: session.name.clone(), origin }),
        }
    }
}

fn begun(traces: &Traces) -> Option<&LedgerView> {
    traces.ledger.as_ref().filter(|ledger| !ledger.sagas.is_empty())
}
