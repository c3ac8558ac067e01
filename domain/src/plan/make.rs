//! From findings to actions. Nothing is proposed for what is owned, in use, too young or unseen; what is risky needs to be
//! named, and forced; and nothing can switch off that work is saved first.

use crate::finding::{Code, Cure, Finding, Remains, Severity};

use super::{Action, Kept, KeptItem, Purpose, Risk};

/// What a close look at remains found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// What would be saved first, in words. None: there is nothing that would be lost.
    pub saves: Option<Box<str>>,
    pub branch: Branch,
    /// Who is inside.
    pub users: Vec<Box<str>>,
    pub stamp: Box<str>,
    /// Why it cannot be judged or removed.
    pub obstacle: Option<Box<str>>,
}

/// What becomes of the branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    Absent,
    /// It is merged or still at its base.
    Goes,
    Unmerged,
    CheckedOut,
}

/// What a plan is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    pub actions: Vec<Action>,
    pub kept: Vec<KeptItem>,
}

/// What would be done about these findings. `named`: a session, node and repository were named so closely that force means
/// just them.
pub fn make(
    purpose: Purpose,
    findings: Vec<Finding>,
    force: bool,
    named: bool,
    assessed: &dyn Fn(&Finding, &Remains) -> Option<Assessment>,
) -> Made {
    let mut made = Made::default();
    for finding in findings.into_iter().filter(|finding| belongs(finding, purpose)) {
        let subject = finding.subject.clone();
        match judged(finding, force && named, assessed) {
            Ok((action, kept)) => {
                made.kept.extend(kept);
                made.actions.push(action);
            }
            Err((code, reason)) => made.kept.push(KeptItem { subject, code, reason }),
        }
    }
    made.actions.sort_by_key(|action| order(&action.cure));
    made
}

/// Whether a plan of this purpose is about it.
fn belongs(finding: &Finding, purpose: Purpose) -> bool {
    match (finding.code, &finding.cure) {
        (_, Some(Cure::Stop(_) | Cure::Retry(_) | Cure::Tell(_))) => purpose == Purpose::Repair,
        (Code::SessionWithoutWorkspace, _) => purpose == Purpose::Cleanup,
        (code, _) if code.is_of_remains() => purpose == Purpose::Cleanup,
        (Code::NodeLost | Code::LowDisk | Code::BackupOverdue | Code::RegistryCorrupt, _) => false,
        (_, Some(_) | None) => purpose == Purpose::Repair,
    }
}

/// Runs first, then processes, then what they were in.
fn order(cure: &Cure) -> u8 {
    match cure {
        Cure::Stop(_) | Cure::Retry(_) | Cure::Tell(_) => 0,
        Cure::EndProcesses(..) => 1,
        Cure::MoveLock(_) => 2,
        Cure::Clear(_) => 3,
        Cure::Remove(_) => 4,
    }
}

type Verdict = Result<(Action, Option<KeptItem>), (Kept, Box<str>)>;

fn judged(
    finding: Finding,
    force: bool,
    assessed: &dyn Fn(&Finding, &Remains) -> Option<Assessment>,
) -> Verdict {
    let Some(cure) = finding.cure.clone() else {
        return Err((uncured(&finding), finding.hint));
    };
    let is_risky = finding.severity == Severity::Manual;
    if is_risky && !force {
        return Err((Kept::NeedsForce, finding.hint));
    }
    let risk = if is_risky { Risk::Force } else { risk(&cure) };
    proposed(finding, cure, risk, assessed)
}

/// Why a finding that nothing would end is left alone.
fn uncured(finding: &Finding) -> Kept {
    match (finding.severity, finding.code) {
        (Severity::Info, _) => Kept::Young,
        (
            _,
            Code::SessionWithoutWorkspace | Code::DeadRuntime | Code::StuckRunning | Code::PrunableWorktree,
        ) => Kept::Brake,
        (_, Code::WorktreeWithoutSession) => Kept::NotOurs,
        (Severity::Available | Severity::Required | Severity::Manual, _) => Kept::NoCure,
    }
}

/// What is done, and what must still be so.
fn proposed(
    finding: Finding,
    cure: Cure,
    risk: Risk,
    assessed: &dyn Fn(&Finding, &Remains) -> Option<Assessment>,
) -> Verdict {
    let title = finding.title.as_deref().unwrap_or(&finding.subject);
    let (what, precondition) = match &cure {
        Cure::Clear(remains) => {
            let Some(seen) = assessed(&finding, remains) else {
                return Err((Kept::NodeAway, "its node could not be asked what is in it".into()));
            };
            return clear(finding, remains.clone(), risk, seen);
        }
        Cure::Stop(_) => (
            format!("end what may be left of the run of '{title}', and make it ready"),
            "its run is still not there",
        ),
        Cure::Retry(_) => (format!("let its node try again with '{title}'"), "its node is still not at it"),
        Cure::Tell(_) => {
            (format!("have its node look at the run of '{title}' again"), "its handle is still missing")
        }
        Cure::Remove(_) => (
            format!("remove the session '{title}'; its last checkpoint, if it has one, goes to the trash"),
            "its workspace is still gone",
        ),
        Cure::EndProcesses(_, processes) => {
            let pids: Vec<_> = processes.iter().map(|process| process.pid.to_string()).collect();
            let what = format!("end the processes {} with everything below them", pids.join(", "));
            (what, "they are still the same processes, and their session is still over, or elsewhere")
        }
        Cure::MoveLock(lock) => (
            format!("move the lock {}/{} aside", lock.repository, lock.name),
            "it is still the same file, and nobody has it open",
        ),
    };
    let action = Action {
        what: what.into(),
        reason: finding.text.clone(),
        preconditions: vec![precondition.into()],
        risk,
        stamp: "".into(),
        result: None,
        cure,
        finding,
    };
    Ok((action, None))
}

/// Of what may be done without force.
fn risk(cure: &Cure) -> Risk {
    match cure {
        Cure::Remove(_) => Risk::Confirm,
        Cure::Stop(_)
        | Cure::Retry(_)
        | Cure::Tell(_)
        | Cure::EndProcesses(..)
        | Cure::Clear(_)
        | Cure::MoveLock(_) => Risk::Safe,
    }
}

fn clear(finding: Finding, remains: Remains, risk: Risk, found: Assessment) -> Verdict {
    if let Some(obstacle) = found.obstacle {
        return Err((Kept::Unknown, obstacle));
    }
    if !found.users.is_empty() {
        let reason = format!("somebody is inside: {}", found.users.join(", "));
        return Err((Kept::InUse, reason.into()));
    }
    let branch = remains.branch.as_deref().unwrap_or("its branch");
    let kept = match found.branch {
        Branch::Absent | Branch::Goes => None,
        Branch::Unmerged => {
            Some((Kept::Unmerged, format!("the branch {branch} has commits that are nowhere else")))
        }
        Branch::CheckedOut => {
            Some((Kept::CheckedOut, format!("the branch {branch} is checked out elsewhere")))
        }
    };
    let is_branch_only = finding.code == Code::BranchWithoutSession;
    if let (true, Some((code, reason))) = (is_branch_only, &kept) {
        return Err((*code, reason.as_str().into()));
    }
    let mut parts: Vec<String> =
        found.saves.iter().map(|saves| format!("save {saves} to the trash")).collect();
    if !is_branch_only {
        parts.push(format!("remove {}", remains.path.as_deref().unwrap_or(&finding.subject)));
    }
    if found.branch == Branch::Goes {
        parts.push(format!("delete the branch {branch}"));
    }
    if parts.is_empty() {
        parts.push(format!("forget that {branch} was a session's"));
    }
    let whose = match risk {
        Risk::Force => "it is still recorded nowhere",
        Risk::Safe | Risk::Confirm => "its session is still over, or elsewhere",
    };
    let kept = kept.map(|(code, reason)| KeptItem { subject: branch.into(), code, reason: reason.into() });
    let action = Action {
        what: parts.join(", ").into(),
        reason: finding.text.clone(),
        preconditions: vec![
            whose.into(),
            "no process is inside".into(),
            format!("it is as it was seen ({})", found.stamp).into(),
        ],
        risk,
        stamp: found.stamp,
        result: None,
        cure: Cure::Clear(remains),
        finding,
    };
    Ok((action, kept))
}
