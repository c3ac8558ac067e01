//! What is not as it should be on a node: the registry's word, the ledger's and the machine's, compared. Pure and total.
//!
//! Unknown is never taken for gone, and gone must have been seen twice. What is owned gets no cure that touches it; what
//! bears our mark and is recorded nowhere gets none at all, unless somebody names it.

mod owned;
mod remains;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::finding::{Code, Cure, Finding, Severity};
use crate::fleet::Fleet;
use crate::id::SessionId;
use crate::inventory::{Inventory, Kind, LockFile, Stray, Traces};
use crate::node::Node;
use crate::session::{Session, State};
use crate::time::Timestamp;

/// How long things are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Worktrees, branches and directories that nobody owns.
    pub workspaces: Duration,
    /// Processes that nobody owns.
    pub processes: Duration,
    /// A session that should be on its way somewhere, and is not.
    pub stuck: Duration,
    /// A lock file that nobody holds.
    pub locks: Duration,
}

impl Rules {
    pub const DEFAULT: Self = Self {
        workspaces: Duration::from_secs(600),
        processes: Duration::from_secs(60),
        stuck: Duration::from_secs(600),
        locks: Duration::from_secs(600),
    };
}

/// What the registry says of a session that a node has something of.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    Live(&'a Session),
    /// It was cleaned.
    Over(&'a Session),
    Never,
}

/// What is compared: one node, as it was seen now and the time before.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "holds a closure")]
pub struct View<'a> {
    pub fleet: &'a Fleet,
    pub node: &'a Node,
    pub current: &'a Inventory,
    /// None: this is the first look.
    pub before: Option<&'a Inventory>,
    /// Of sessions that the fleet does not have.
    pub past: &'a dyn Fn(SessionId) -> Option<&'a Session>,
    pub rules: Rules,
    pub now: Timestamp,
}

/// More sessions than this at once do not lose their workspaces or runs by chance.
const FEW: usize = 5;

/// Everything that is not as it should be there.
pub fn findings(view: &View<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        view.fleet.placed_on(view.node.id).filter_map(|session| owned::finding(view, session)).collect();
    let used = remains::Used::of(view);
    for (session, traces) in &view.current.sessions {
        remains::findings(view, &used, *session, traces, &mut found);
    }
    found.extend(view.current.locks.iter().filter_map(|lock| stale(view, lock)));
    found.extend(view.current.strays.iter().map(|stray| strange(view, stray)));
    brake(view, &mut found);
    tell_apart(&mut found);
    found
}

/// What is there without a mark may be on its way to get one.
fn strange(view: &View<'_>, stray: &Stray) -> Finding {
    let is_young = view.now.since(stray.since) < view.rules.workspaces;
    Finding {
        severity: if is_young { Severity::Info } else { Severity::Manual },
        since: stray.since,
        hint: "it is not Drover's: move it elsewhere, or delete it yourself".into(),
        ..view.finding(Code::WorktreeWithoutSession, &stray.path, &stray.what)
    }
}

/// No two findings of one look have the same key: a name or a path may have been used by many sessions.
fn tell_apart(found: &mut [Finding]) {
    let mut seen = BTreeSet::new();
    for finding in found {
        if seen.insert(finding.key()) {
            continue;
        }
        let of = finding.session.map(|session| session.to_string()).unwrap_or_default();
        let plain = finding.subject.clone();
        let more = (2_u32..).map(|number| format!("{plain} ({of} {number})").replace("( ", "("));
        let candidates = std::iter::once(format!("{plain} ({of})")).filter(|_| !of.is_empty()).chain(more);
        for subject in candidates {
            finding.subject = subject.into();
            if seen.insert(finding.key()) {
                break;
            }
        }
    }
}

/// When too much is gone at once it is more likely a mount, a disk or a mistake: then nothing is done by itself.
fn brake(view: &View<'_>, found: &mut [Finding]) {
    let is_loss = |finding: &Finding| {
        matches!(finding.code, Code::SessionWithoutWorkspace | Code::DeadRuntime | Code::StuckRunning)
    };
    let lost = found.iter().filter(|finding| is_loss(finding)).count();
    let there = view.fleet.placed_on(view.node.id).count();
    if lost <= FEW.max(there / 5) {
        return;
    }
    // What is gone of sessions that are over may be gone with it.
    let is_gone = |finding: &Finding| is_loss(finding) || finding.code == Code::PrunableWorktree;
    for finding in found.iter_mut().filter(|finding| is_gone(finding)) {
        finding.severity = Severity::Manual;
        finding.cure = None;
        finding.evidence.push(format!("so it is with {lost} of {there} sessions on this node").into());
        finding.hint =
            "so many at once have a cause of their own: look at the node's disk, mounts and processes".into();
    }
}

fn stale(view: &View<'_>, lock: &LockFile) -> Option<Finding> {
    let before = view.before?;
    // Whoever holds it is a process that could be seen.
    let is_seen =
        |look: &Inventory| look.sees(Kind::Processes) && !look.is_blind(Kind::Locks, &lock.repository);
    if !view.twice(is_seen) {
        return None;
    }
    let is_same = |other: &&LockFile| {
        (&other.repository, &other.name, &other.stamp) == (&lock.repository, &lock.name, &lock.stamp)
    };
    let was_free = before.locks.iter().find(is_same)?.holder.is_none();
    if !was_free || lock.holder.is_some() || view.now.since(lock.since) < view.rules.locks {
        return None;
    }
    let path = format!("{}/{}", lock.repository, lock.name);
    let text = format!("nobody holds the lock {path}, and it stays");
    let (severity, whose, hint) = if lock.is_ours {
        (Severity::Available, "a git of Drover's left it", "droverctl cleanup moves it aside")
    } else {
        (
            Severity::Manual,
            "nothing shows whose it is",
            "if you know that no git needs it: droverctl cleanup --repo R --force moves it aside",
        )
    };
    Some(Finding {
        severity,
        repository: Some(lock.repository.clone()),
        since: lock.since,
        evidence: vec![whose.into(), "no process has it open, and no git works in its repository".into()],
        hint: hint.into(),
        cure: Some(Cure::MoveLock(lock.clone())),
        ..view.finding(Code::StaleGitLock, &path, &text)
    })
}

impl<'a> View<'a> {
    fn known(&self, session: SessionId) -> Known<'a> {
        match self.fleet.session(session).map(|session| &**session).or_else(|| (self.past)(session)) {
            Some(session) if matches!(session.state, State::Cleaned { .. }) => Known::Over(session),
            Some(session) => Known::Live(session),
            None => Known::Never,
        }
    }

    /// What the look before saw of a session.
    fn earlier(&self, session: SessionId) -> Option<&'a Traces> {
        self.before?.sessions.get(&session)
    }

    /// The beginning of every finding here.
    fn finding(&self, code: Code, subject: &str, text: &str) -> Finding {
        Finding {
            code,
            severity: Severity::Info,
            node: Some(self.node.id),
            session: None,
            title: None,
            repository: None,
            subject: subject.into(),
            text: text.into(),
            evidence: Vec::new(),
            hint: "".into(),
            since: self.now,
            cure: None,
        }
    }

    fn of_session(&self, code: Code, session: &Session, text: &str) -> Finding {
        let title = session.title();
        Finding {
            session: Some(session.id),
            title: Some(title.as_str().into()),
            ..self.finding(code, &title, text)
        }
    }
}
