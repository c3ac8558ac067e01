//! Plans, safe modes and inventories: what is kept comes back as it was, and what cannot be read says where.

use drover_domain::converge::Site;
use drover_domain::finding::{Code, Cure, Finding, Label, Remains, Severity};
use drover_domain::id::PlanId;
use drover_domain::inventory::{Inventory, Kind, LockFile, Process};
use drover_domain::node::SafeMode;
use drover_domain::plan::{self as domain, Action, Applied, Done, KeptItem, Plan, Purpose, Risk};
use drover_domain::presence::Presence;
use proptest::collection::vec;
use proptest::sample::select;

use super::*;
use crate::convert::{Invalid, inventory, plan};
use crate::{node_v1, store_v1};

/// Through the bytes, as the store has it.
fn stored<M: Message + Default>(row: &M) -> M {
    M::decode(row.encode_to_vec().as_slice()).unwrap()
}

fn session_id() -> impl Strategy<Value = SessionId> {
    any::<[u8; 10]>().prop_map(SessionId::from_random)
}

fn remains() -> impl Strategy<Value = Remains> {
    let label = (name(), name(), text()).prop_map(|(project, name, origin)| Label { project, name, origin });
    (session_id(), of(text()), of(text()), of(text()), of(label)).prop_map(
        |(session, repository, path, branch, label)| Remains { session, repository, path, branch, label },
    )
}

/// Of a plan that was made then: how old processes and locks were is not kept.
fn cure(made: Timestamp) -> impl Strategy<Value = Cure> {
    let process =
        (any::<(u32, u64)>(), of(any::<[u8; 10]>()), text()).prop_map(move |((pid, start), run, name)| {
            Process { pid, start, run: run.map(RunId::from_random), name, since: made }
        });
    let lock = (text(), text(), of(text()), any::<bool>(), text()).prop_map(
        move |(repository, name, holder, is_ours, stamp)| LockFile {
            repository,
            name,
            since: made,
            holder,
            is_ours,
            stamp,
        },
    );
    prop_oneof![
        session_id().prop_map(Cure::Stop),
        session_id().prop_map(Cure::Retry),
        session_id().prop_map(Cure::Remove),
        session_id().prop_map(Cure::Tell),
        (session_id(), vec(process, 0..3)).prop_map(|(session, found)| Cure::EndProcesses(session, found)),
        remains().prop_map(Cure::Clear),
        lock.prop_map(Cure::MoveLock),
    ]
}

/// Its cure is kept beside it.
fn finding() -> impl Strategy<Value = Finding> {
    let whose = (of(any::<[u8; 10]>()), of(session_id()), of(text()), of(text()));
    let words = (text(), text(), texts(), text(), at());
    (select(Code::ALL.as_slice()), select(Severity::ALL.as_slice()), whose, words).prop_map(
        |(code, severity, (node, session, title, repository), (subject, text, evidence, hint, since))| {
            Finding {
                code,
                severity,
                node: node.map(NodeId::from_random),
                session,
                title,
                repository,
                subject,
                text,
                evidence,
                hint,
                since,
                cure: None,
            }
        },
    )
}

fn action(made: Timestamp) -> impl Strategy<Value = Action> {
    let outcomes = [domain::Outcome::Done, domain::Outcome::Skipped, domain::Outcome::Failed];
    let result = (select(outcomes.to_vec()), text(), at());
    let result = of(result.prop_map(|(result, text, at)| Done { result, text, at }));
    let risk = select(vec![Risk::Safe, Risk::Confirm, Risk::Force]);
    (finding(), cure(made), (text(), text(), texts(), text()), risk, result).prop_map(
        |(finding, cure, (what, reason, preconditions, stamp), risk, result)| Action {
            finding,
            cure,
            what,
            reason,
            preconditions,
            risk,
            stamp,
            result,
        },
    )
}

fn a_plan() -> impl Strategy<Value = Plan> {
    at().prop_flat_map(|made| {
        let kept = (text(), select(domain::Kept::ALL.as_slice()), text());
        let kept = kept.prop_map(|(subject, code, reason)| KeptItem { subject, code, reason });
        let applied = (text(), at(), any::<bool>());
        let applied = applied.prop_map(|(by, at, only_safe)| Applied { by, at, only_safe });
        let whose = (any::<[u8; 10]>(), select(vec![Purpose::Repair, Purpose::Cleanup]), text(), at());
        (whose, vec(action(made), 0..3), vec(kept, 0..3), any::<[u8; 32]>(), of(applied)).prop_map(
            move |((id, purpose, by, expires), actions, kept, digest, applied)| Plan {
                id: PlanId::from_random(id),
                purpose,
                by,
                made,
                expires,
                actions,
                kept,
                digest,
                applied,
            },
        )
    })
}

proptest! {
    #[test]
    fn a_plan_is_kept_as_it_was(given in a_plan()) {
        prop_assert_eq!(plan::from_record(&stored(&plan::record(&given))), Ok(given));
    }

    #[test]
    fn a_safe_mode_is_kept_as_it_was(
        node in of(any::<[u8; 10]>()), reason in text(), by in text(), since in at(), automatic in any::<bool>()
    ) {
        let given = SafeMode { node: node.map(NodeId::from_random), reason, by, since, automatic };
        prop_assert_eq!(plan::safe_mode_from(&stored(&plan::safe_mode_record(&given))), Ok(given));
    }
}

fn fields(invalid: &Invalid) -> Vec<&str> {
    invalid.0.iter().map(|violation| violation.field.as_str()).collect()
}

#[test]
fn a_plan_that_cannot_be_read_says_where() {
    let good = store_v1::PlanRecord {
        id: PlanId::from_random([1; 10]).to_string(),
        purpose: "repair".into(),
        digest: vec![0; 32],
        actions: vec![store_v1::ActionRecord {
            finding: Some(store_v1::FindingRecord {
                code: "STUCK_RUNNING".into(),
                severity: "available".into(),
                ..Default::default()
            }),
            cure: Some(store_v1::CureRecord {
                session: SessionId::from_random([1; 10]).to_string(),
                cure: Some(store_v1::cure_record::Cure::Stop(store_v1::StopCure {})),
            }),
            risk: "safe".into(),
            ..Default::default()
        }],
        kept: vec![store_v1::KeptItemRecord { code: "YOUNG".into(), ..Default::default() }],
        ..Default::default()
    };
    plan::from_record(&good).unwrap();
    let check = |change: &dyn Fn(&mut store_v1::PlanRecord), expected: &str| {
        let mut wire = good.clone();
        change(&mut wire);
        assert_eq!(fields(&plan::from_record(&wire).unwrap_err()), [expected]);
    };
    fn finding(plan: &mut store_v1::PlanRecord) -> &mut store_v1::FindingRecord {
        plan.actions[0].finding.as_mut().unwrap()
    }
    fn cure(plan: &mut store_v1::PlanRecord) -> &mut store_v1::CureRecord {
        plan.actions[0].cure.as_mut().unwrap()
    }
    let done = |result: &str| Some(store_v1::DoneRecord { result: result.into(), ..Default::default() });
    let clear = |remains| Some(store_v1::cure_record::Cure::Clear(remains));
    let named = || node_v1::Remains {
        session_id: SessionId::from_random([1; 10]).to_string(),
        name: "-x".into(),
        project: "p".into(),
        ..Default::default()
    };
    check(&|p| p.id = "ses_x".into(), "id");
    check(&|p| p.purpose = "tidy".into(), "purpose");
    check(&|p| p.digest = vec![0; 31], "digest");
    check(&|p| p.kept[0].code = "young".into(), "kept.code");
    check(&|p| p.actions[0].finding = None, "actions.finding");
    check(&|p| p.actions[0].cure = None, "actions.cure");
    check(&|p| p.actions[0].risk = "none".into(), "actions.risk");
    check(&|p| p.actions[0].done = done("maybe"), "actions.done.result");
    check(&|p| finding(p).code = "ODD".into(), "actions.finding.code");
    check(&|p| finding(p).severity = "odd".into(), "actions.finding.severity");
    check(&|p| finding(p).node = "x".into(), "actions.finding.node");
    check(&|p| finding(p).session = "x".into(), "actions.finding.session");
    check(&|p| cure(p).session = "".into(), "actions.cure.session");
    check(&|p| cure(p).cure = None, "actions.cure.cure");
    check(&|p| cure(p).cure = clear(node_v1::Remains::default()), "actions.cure.session_id");
    check(&|p| cure(p).cure = clear(named()), "actions.cure.name");
}

const NOW: Timestamp = Timestamp::from_millis(100_000);

fn id() -> SessionId {
    SessionId::from_random([1; 10])
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// One of everything.
fn piece() -> node_v1::InventoryPiece {
    let age = || seconds(5);
    let run_id = RunId::from_random([2; 10]).to_string();
    let session = node_v1::SessionTraces {
        session_id: id().to_string(),
        ledger: Some(node_v1::LedgerView {
            site: "made".into(),
            run_id: run_id.clone(),
            epoch: 3,
            sagas: vec!["removal".into()],
            ..Default::default()
        }),
        worktrees: vec![node_v1::WorktreeTrace {
            entry: "/r/worktrees/a".into(),
            directory: node_v1::Presence::Absent.into(),
            age: age(),
            ..Default::default()
        }],
        away: vec![node_v1::AwayTrace { path: "/w/x".into(), is_saved: true, age: age() }],
        references: vec![node_v1::ReferenceTrace { base: "b".into(), age: age(), ..Default::default() }],
        run: Some(node_v1::RunTrace {
            run_id: run_id.clone(),
            alive: node_v1::Presence::Unknown.into(),
            why: "no".into(),
        }),
        processes: vec![node_v1::ProcessTrace { pid: 7, age: age(), ..Default::default() }],
    };
    node_v1::InventoryPiece {
        sessions: vec![session],
        gone: vec![],
        locks: vec![node_v1::LockFile { name: "index.lock".into(), age: age(), ..Default::default() }],
        strays: vec![node_v1::Stray { path: "/w/y".into(), age: age(), ..Default::default() }],
        blind: vec![node_v1::Blind { kind: "locks".into(), ..Default::default() }],
    }
}

#[test]
fn an_inventory_is_taken_in_by_pieces_on_the_clock_of_who_takes_it() {
    let mut found = Inventory::default();
    inventory::take(&mut found, &piece(), NOW).unwrap();
    let then = Timestamp::from_millis(95_000);
    let traces = &found.sessions[&id()];
    let ledger = traces.ledger.as_ref().unwrap();
    assert_eq!((ledger.site, ledger.path.as_deref(), ledger.fence.epoch), (Site::Made, None, 3));
    assert_eq!(ledger.run, Some(RunId::from_random([2; 10])));
    assert_eq!((&traces.worktrees[0].directory, &traces.worktrees[0].path), (&Presence::Absent, &None));
    assert_eq!(traces.run.as_ref().unwrap().alive, Presence::Unknown("no".into()));
    let stamps = [
        traces.worktrees[0].since,
        traces.away[0].since,
        traces.references[0].since,
        traces.processes[0].since,
        found.locks[0].since,
        found.strays[0].since,
    ];
    assert_eq!(stamps, [then; 6]);
    assert_eq!((found.blind[0].kind, &found.blind[0].place), (Kind::Locks, &None));
    let gone = node_v1::InventoryPiece { gone: vec![id().to_string()], ..Default::default() };
    inventory::take(&mut found, &gone, NOW).unwrap();
    assert!(found.sessions.is_empty());
}

#[test]
fn what_is_not_said_of_a_presence_is_unknown_and_an_age_that_is_not_said_is_none() {
    let mut wire = piece();
    wire.sessions[0].worktrees[0].directory = node_v1::Presence::Unspecified.into();
    wire.sessions[0].worktrees[0].age = None;
    let mut found = Inventory::default();
    inventory::take(&mut found, &wire, NOW).unwrap();
    let worktree = &found.sessions[&id()].worktrees[0];
    assert!(matches!(worktree.directory, Presence::Unknown(_)));
    assert_eq!(worktree.since, NOW, "it is young");
}

#[test]
fn an_inventory_that_cannot_be_read_says_where() {
    let check = |change: &dyn Fn(&mut node_v1::InventoryPiece), expected: &str| {
        let mut wire = piece();
        change(&mut wire);
        let refused = inventory::take(&mut Inventory::default(), &wire, NOW).unwrap_err();
        assert_eq!(fields(&refused), [expected]);
    };
    fn ledger(piece: &mut node_v1::InventoryPiece) -> &mut node_v1::LedgerView {
        piece.sessions[0].ledger.as_mut().unwrap()
    }
    fn run(piece: &mut node_v1::InventoryPiece) -> &mut node_v1::RunTrace {
        piece.sessions[0].run.as_mut().unwrap()
    }
    check(&|p| p.sessions[0].session_id = "run_x".into(), "sessions.session_id");
    check(&|p| ledger(p).site = "melted".into(), "sessions.ledger.site");
    check(&|p| ledger(p).run_id = "x".into(), "sessions.ledger.run_id");
    check(&|p| p.sessions[0].worktrees[0].directory = 9, "sessions.worktrees.directory");
    check(&|p| p.sessions[0].worktrees[0].age = seconds(-1), "sessions.worktrees.age");
    check(&|p| p.sessions[0].away[0].age = seconds(-1), "sessions.away.age");
    check(&|p| p.sessions[0].references[0].age = seconds(-1), "sessions.references.age");
    check(&|p| run(p).run_id = "".into(), "sessions.run.run_id");
    check(&|p| run(p).alive = 9, "sessions.run.alive");
    check(&|p| p.sessions[0].processes[0].run_id = "x".into(), "sessions.processes.run_id");
    check(&|p| p.sessions[0].processes[0].age = seconds(-1), "sessions.processes.age");
    check(&|p| p.gone = vec!["x".into()], "gone");
    check(&|p| p.locks[0].age = seconds(-1), "locks.age");
    check(&|p| p.strays[0].age = seconds(-1), "strays.age");
    check(&|p| p.blind[0].kind = "moons".into(), "blind.kind");
}
