//! What keeps the registry in order is kept with it.

use drover_domain::finding::{Code, Cure, Finding, Severity};
use drover_domain::fleet::Fleet;
use drover_domain::id::{NodeId, PlanId, TokenId};
use drover_domain::node::NodeFacts;
use drover_domain::plan::{self, Action, Plan, Purpose, Risk};
use drover_domain::{change, command};

use super::*;

fn at() -> Timestamp {
    Timestamp::from_millis(7)
}

fn session() -> SessionId {
    SessionId::from_random([1; 10])
}

fn node() -> NodeId {
    NodeId::from_random([3; 10])
}

fn finding() -> Finding {
    Finding {
        code: Code::StuckRunning,
        severity: Severity::Available,
        node: Some(node()),
        session: Some(session()),
        title: Some("s1".into()),
        repository: None,
        subject: "s1".into(),
        text: "it does not run".into(),
        evidence: vec!["e".into()],
        hint: "h".into(),
        since: at(),
        cure: None,
    }
}

fn a_plan(number: u8) -> Plan {
    let action = Action {
        finding: finding(),
        cure: Cure::Stop(session()),
        what: "w".into(),
        reason: "r".into(),
        preconditions: vec!["p".into()],
        risk: Risk::Safe,
        stamp: "".into(),
        result: None,
    };
    Plan {
        id: PlanId::from_random([number; 10]),
        purpose: Purpose::Repair,
        by: "me".into(),
        made: at(),
        expires: at().after(plan::GOOD_FOR),
        actions: vec![action.clone(), action],
        kept: vec![],
        digest: [number; 32],
        applied: None,
    }
}

fn enroll() -> [Wish; 2] {
    let token = TokenId::from_random([1; 10]);
    let (secret_hash, lasts) = ([1; 32], plan::GOOD_FOR);
    let facts = NodeFacts { hostname: "n".into(), ..NodeFacts::default() };
    let enrollment = command::Enrollment { token, secret_hash, node: node(), name: None, facts };
    [Wish::CreateToken { id: token, secret_hash, lasts }, Wish::Enroll(Box::new(enrollment))]
}

fn safe_mode(node: Option<NodeId>, on: bool) -> Wish {
    Wish::SetSafeMode { node, on, reason: "the disk is full".into(), automatic: false }
}

#[test]
fn plans_safe_modes_and_notes_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    let (plan, forgotten) = (a_plan(1), a_plan(2));
    let [token, enroll] = enroll();
    let wishes = [
        Wish::CreateSession(Box::new(new_session(1))),
        token,
        enroll,
        Wish::MakePlan(Box::new(plan.clone())),
        Wish::MakePlan(Box::new(forgotten.clone())),
        Wish::ForgetPlan { plan: forgotten.id },
        Wish::ApplyPlan { plan: plan.id, digest: plan.digest, only_safe: true },
        Wish::FinishAction { plan: plan.id, number: 1, result: plan::Outcome::Done, text: "ended".into() },
        safe_mode(None, true),
        safe_mode(None, false),
        safe_mode(None, true),
        safe_mode(Some(node()), true),
        Wish::Note { finding: Box::new(finding()), is_over: false },
    ];
    for wish in wishes {
        let (changes, _) = decide(&mut fleet, wish);
        store.commit(&changes, &[]).unwrap();
    }
    drop(store);
    let (mut store, again) = Store::open(dir.path(), installation()).unwrap();
    let plans = |fleet: &Fleet| fleet.plans().cloned().collect::<Vec<_>>();
    let modes = |fleet: &Fleet| fleet.safe_modes().cloned().collect::<Vec<_>>();
    assert_eq!((plans(&again.fleet), modes(&again.fleet)), (plans(&fleet), modes(&fleet)));
    let open: Vec<_> = again.fleet.plan(plan.id).unwrap().open().map(|(number, _)| number).collect();
    assert_eq!(open, [2], "it goes on where it was");
    let number = fleet.session(session()).unwrap().number;
    let log = |session| {
        let position = Position { after: 0, before: None, most: 99 };
        let rows = store.history().changes(session, position).unwrap();
        rows.into_iter().map(|row| (row.kind, row.note.map(String::from), row.node)).collect::<Vec<_>>()
    };
    let word = |kind: change::Kind| kind.word().to_owned();
    let of_session = log(Some(number));
    let told = Some("STUCK_RUNNING s1: it does not run".to_owned());
    assert_eq!(of_session.last(), Some(&(word(change::Kind::FindingAppeared), told, Some(node()))));
    let finished = of_session.iter().find(|(kind, ..)| *kind == word(change::Kind::ActionFinished)).unwrap();
    assert!(finished.1.as_deref().unwrap().ends_with("action 1 done: w; ended"), "{finished:?}");
    let on = log(None).into_iter().filter(|(kind, ..)| *kind == word(change::Kind::SafeModeOn));
    assert!(on.into_iter().all(|(_, note, _)| note.as_deref() == Some("the disk is full")));
    let (changes, _) = decide(&mut fleet, Wish::RemoveNode { node: node() });
    store.commit(&changes, &[]).unwrap();
    let loaded = store.load().unwrap().fleet;
    assert!(loaded.safe_mode(Some(node())).is_none() && loaded.safe_mode(None).is_some());
}
