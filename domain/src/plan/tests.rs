//! What becomes of findings in a plan: done or left alone, why, in which order, and how much of a yes it needs.

use super::*;
use crate::finding::{Code, Remains, Severity};
use crate::id::SessionId;
use crate::inventory::{LockFile, Process};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(10_000);

fn session() -> SessionId {
    SessionId::from_random([1; 10])
}

fn remains() -> Remains {
    Remains {
        session: session(),
        repository: Some("/r/.git".into()),
        path: Some("/w/a".into()),
        branch: Some("drover/a".into()),
        label: None,
    }
}

fn clear() -> Cure {
    Cure::Clear(remains())
}

fn end() -> Cure {
    let process = Process { pid: 7, start: 1, run: None, name: "x".into(), since: NOW };
    Cure::EndProcesses(session(), vec![process])
}

fn move_lock() -> Cure {
    Cure::MoveLock(LockFile {
        repository: "/r/.git".into(),
        name: "index.lock".into(),
        since: NOW,
        holder: None,
        is_ours: true,
        stamp: "1".into(),
    })
}

/// Every cure there is.
fn cures() -> [Cure; 7] {
    let it = session();
    [clear(), Cure::Remove(it), move_lock(), end(), Cure::Tell(it), Cure::Retry(it), Cure::Stop(it)]
}

pub(crate) fn finding(code: Code, severity: Severity, cure: Option<Cure>) -> Finding {
    Finding {
        code,
        severity,
        node: None,
        session: Some(session()),
        title: Some("a".into()),
        repository: None,
        subject: "it".into(),
        text: "so it is".into(),
        evidence: vec![],
        hint: "do this".into(),
        since: NOW,
        cure,
    }
}

/// Nothing stands in the way, and nothing is there that must be saved.
fn clean() -> Assessment {
    Assessment { saves: None, branch: Branch::Goes, users: vec![], stamp: "s1".into(), obstacle: None }
}

fn made(purpose: Purpose, finding: Finding, seen: Option<Assessment>) -> Made {
    make(purpose, vec![finding], false, false, &|_, _| seen.clone())
}

/// The plan that a code belongs to, and what usually ends it.
fn usual(code: Code) -> (Option<Purpose>, Option<Cure>) {
    let (repair, cleanup, it) = (Some(Purpose::Repair), Some(Purpose::Cleanup), session());
    match code {
        Code::StuckRunning | Code::DeadRuntime => (repair, Some(Cure::Stop(it))),
        Code::StuckCreating | Code::StuckCleaning => (repair, Some(Cure::Retry(it))),
        Code::MissingHandle => (repair, Some(Cure::Tell(it))),
        Code::LedgerRegistryMismatch => (repair, None),
        Code::SessionWithoutWorkspace => (cleanup, Some(Cure::Remove(it))),
        Code::ProcessWithoutSession => (cleanup, Some(end())),
        Code::StaleGitLock => (cleanup, Some(move_lock())),
        Code::WorktreeWithoutSession
        | Code::BranchWithoutSession
        | Code::ContainerWithoutSession
        | Code::TmuxWithoutSession
        | Code::PrunableWorktree
        | Code::HalfCreated
        | Code::HalfCleaned
        | Code::FencedPlacement
        | Code::UnrecordedMark
        | Code::TrashExpired => (cleanup, Some(clear())),
        Code::NodeLost | Code::LowDisk | Code::BackupOverdue | Code::RegistryCorrupt => (None, None),
    }
}

#[test]
fn every_code_belongs_to_one_plan_or_to_none_with_its_cure_and_without() {
    for code in Code::ALL {
        let (belongs, cure) = usual(code);
        for purpose in [Purpose::Repair, Purpose::Cleanup] {
            let is_meant = belongs == Some(purpose);
            if cure.is_some() {
                let found = finding(code, Severity::Available, cure.clone());
                let made = made(purpose, found, Some(clean()));
                assert_eq!(made.actions.len(), usize::from(is_meant), "{code:?} in {purpose:?}");
                assert_eq!(made.kept, []);
            }
            let made = made(purpose, finding(code, Severity::Manual, None), Some(clean()));
            assert_eq!(made.kept.len(), usize::from(is_meant), "{code:?} in {purpose:?}, uncured");
            assert_eq!(made.actions, []);
        }
    }
}

#[test]
fn what_has_no_cure_is_kept_with_the_reason_that_it_told() {
    let rows = [
        (Code::WorktreeWithoutSession, Severity::Info, Kept::Young),
        (Code::SessionWithoutWorkspace, Severity::Manual, Kept::Brake),
        (Code::PrunableWorktree, Severity::Manual, Kept::Brake),
        (Code::WorktreeWithoutSession, Severity::Manual, Kept::NotOurs),
        (Code::UnrecordedMark, Severity::Manual, Kept::NoCure),
        (Code::FencedPlacement, Severity::Manual, Kept::NoCure),
    ];
    for (code, severity, expected) in rows {
        let kept = made(Purpose::Cleanup, finding(code, severity, None), Some(clean())).kept;
        assert_eq!(
            (kept[0].code, &*kept[0].reason, &*kept[0].subject),
            (expected, "do this", "it"),
            "{code:?}"
        );
    }
    for code in [Code::DeadRuntime, Code::StuckRunning] {
        let made = made(Purpose::Repair, finding(code, Severity::Manual, None), None);
        assert_eq!(made.kept[0].code, Kept::Brake, "{code:?}");
    }
}

#[test]
fn what_a_close_look_finds_in_the_way_keeps_it() {
    let seen = clean();
    let obstacle = Assessment { obstacle: Some("it cannot be read".into()), ..seen.clone() };
    let users = Assessment { users: vec!["bash (7)".into(), "vim (8)".into()], ..seen.clone() };
    let unmerged = Assessment { branch: Branch::Unmerged, ..seen.clone() };
    let elsewhere = Assessment { branch: Branch::CheckedOut, ..seen.clone() };
    let rows = [
        (None, Code::WorktreeWithoutSession, 0, Some(Kept::NodeAway)),
        (Some(obstacle), Code::WorktreeWithoutSession, 0, Some(Kept::Unknown)),
        (Some(users), Code::WorktreeWithoutSession, 0, Some(Kept::InUse)),
        (Some(unmerged.clone()), Code::WorktreeWithoutSession, 1, Some(Kept::Unmerged)),
        (Some(elsewhere.clone()), Code::WorktreeWithoutSession, 1, Some(Kept::CheckedOut)),
        (Some(unmerged), Code::BranchWithoutSession, 0, Some(Kept::Unmerged)),
        (Some(elsewhere), Code::BranchWithoutSession, 0, Some(Kept::CheckedOut)),
        (Some(seen), Code::BranchWithoutSession, 1, None),
    ];
    for (seen, code, actions, kept) in rows {
        let told = format!("{code:?} {seen:?}");
        let made = made(Purpose::Cleanup, finding(code, Severity::Available, Some(clear())), seen);
        assert_eq!(made.actions.len(), actions, "{told}");
        assert_eq!(made.kept.first().map(|item| item.code), kept, "{told}");
        assert!(
            made.actions.iter().all(|action| !action.what.contains("delete the branch") || kept.is_none())
        );
    }
}

#[test]
fn an_action_says_what_it_saves_removes_and_deletes_and_is_bound_to_what_was_seen() {
    let what = |code, seen| {
        let made = made(Purpose::Cleanup, finding(code, Severity::Available, Some(clear())), Some(seen));
        let action = made.actions.into_iter().next().expect("it is one");
        assert_eq!(&*action.stamp, "s1");
        assert!(action.preconditions.iter().any(|condition| condition.contains("s1")));
        action.what
    };
    let work = |branch| Assessment { saves: Some("2 files".into()), branch, ..clean() };
    let (tree, branch) = (Code::WorktreeWithoutSession, Code::BranchWithoutSession);
    let all = "save 2 files to the trash, remove /w/a, delete the branch drover/a";
    assert_eq!(&*what(tree, work(Branch::Goes)), all);
    assert_eq!(&*what(tree, work(Branch::Unmerged)), "save 2 files to the trash, remove /w/a");
    assert_eq!(&*what(branch, clean()), "delete the branch drover/a");
    let gone = Assessment { branch: Branch::Absent, ..clean() };
    assert_eq!(&*what(branch, gone), "forget that drover/a was a session's", "never nothing");
}

#[test]
fn only_the_removal_of_a_session_needs_a_yes_of_its_own() {
    for cure in cures() {
        let expected = if matches!(cure, Cure::Remove(_)) { Risk::Confirm } else { Risk::Safe };
        let purposes = [Purpose::Repair, Purpose::Cleanup];
        let of = |purpose| {
            let found = finding(Code::SessionWithoutWorkspace, Severity::Available, Some(cure.clone()));
            made(purpose, found, Some(clean())).actions
        };
        let actions: Vec<_> = purposes.into_iter().flat_map(of).collect();
        assert_eq!(actions.len(), 1, "{cure:?} is in one plan");
        assert_eq!(actions[0].risk, expected, "{cure:?}");
        assert!(!actions[0].what.is_empty() && actions[0].preconditions.iter().all(|it| !it.is_empty()));
    }
}

#[test]
fn force_counts_only_for_what_is_named_and_still_saves_the_work() {
    let seen = Assessment { saves: Some("2 files".into()), branch: Branch::Unmerged, ..clean() };
    for (force, named, is_done) in
        [(false, false, false), (true, false, false), (false, true, false), (true, true, true)]
    {
        let found = finding(Code::UnrecordedMark, Severity::Manual, Some(clear()));
        let made = make(Purpose::Cleanup, vec![found], force, named, &|_, _| Some(seen.clone()));
        let kept = if is_done { Kept::Unmerged } else { Kept::NeedsForce };
        assert_eq!(made.kept.first().map(|item| item.code), Some(kept), "{force} {named}");
        assert_eq!(made.actions.len(), usize::from(is_done), "{force} {named}");
        for action in made.actions {
            assert_eq!(action.risk, Risk::Force);
            assert!(action.what.starts_with("save 2 files to the trash"), "{}", action.what);
        }
    }
    let users = Assessment { users: vec!["bash".into()], ..clean() };
    let found = finding(Code::UnrecordedMark, Severity::Manual, Some(clear()));
    let made = make(Purpose::Cleanup, vec![found], true, true, &|_, _| Some(users.clone()));
    assert_eq!((made.actions.len(), made.kept[0].code), (0, Kept::InUse), "nobody is thrown out");
}

#[test]
fn runs_end_before_processes_and_processes_before_what_they_are_in() {
    let of = |cure: Cure| finding(Code::SessionWithoutWorkspace, Severity::Available, Some(cure));
    let order = |purpose| {
        let made = make(purpose, cures().map(of).into(), false, false, &|_, _| Some(clean()));
        made.actions.into_iter().map(|action| action.cure).collect::<Vec<_>>()
    };
    let it = session();
    assert_eq!(
        order(Purpose::Repair),
        [Cure::Tell(it), Cure::Retry(it), Cure::Stop(it)],
        "as they were found"
    );
    let expected = [end(), move_lock(), clear(), Cure::Remove(it)];
    assert_eq!(order(Purpose::Cleanup), expected);
}

pub(crate) fn plan(risks: &[Risk]) -> Plan {
    let action = |risk: &Risk| Action {
        finding: finding(Code::StuckRunning, Severity::Available, None),
        cure: Cure::Stop(session()),
        what: "stop it".into(),
        reason: "r".into(),
        preconditions: vec![],
        risk: *risk,
        stamp: "".into(),
        result: None,
    };
    Plan {
        id: PlanId::from_random([3; 10]),
        purpose: Purpose::Repair,
        by: "me".into(),
        made: NOW,
        expires: NOW.after(GOOD_FOR),
        actions: risks.iter().map(action).collect(),
        kept: vec![],
        digest: [7; 32],
        applied: None,
    }
}

#[test]
fn what_is_open_is_what_was_said_yes_to_and_is_not_done() {
    let applied = |only_safe| Some(Applied { by: "me".into(), at: NOW, only_safe });
    let numbers = |plan: &Plan| plan.open().map(|(number, _)| number).collect::<Vec<_>>();
    let mut plan = plan(&[Risk::Confirm, Risk::Safe, Risk::Force, Risk::Safe]);
    assert_eq!((numbers(&plan), plan.is_over()), (vec![], false), "nobody said yes");
    plan.applied = applied(true);
    assert_eq!((numbers(&plan), plan.is_over()), (vec![2, 4], false));
    let done = Done { result: Outcome::Skipped, text: "t".into(), at: NOW };
    plan.actions[1].result = Some(done.clone());
    assert_eq!((numbers(&plan), plan.is_over()), (vec![4], false));
    plan.actions[3].result = Some(done);
    assert_eq!((numbers(&plan), plan.is_over()), (vec![], true));
    plan.applied = applied(false);
    assert_eq!((numbers(&plan), plan.is_over()), (vec![1, 3], false), "more was said yes to");
}
