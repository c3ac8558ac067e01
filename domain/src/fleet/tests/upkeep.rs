//! Plans in the registry: applied once, for as long as they are good, as they were shown, and resumed where they were.

use super::*;
use crate::finding::{Code, Severity};
use crate::plan::tests::{finding, plan};
use crate::plan::{self, GOOD_FOR, Plan, Risk};

fn world(risks: &[Risk]) -> (World, Plan) {
    let mut world = World::new(1, 1);
    let plan = Plan { made: world.now, expires: world.now.after(GOOD_FOR), ..plan(risks) };
    world.user(Wish::MakePlan(Box::new(plan.clone()))).unwrap();
    (world, plan)
}

fn apply(plan: &Plan, only_safe: bool) -> Wish {
    Wish::ApplyPlan { plan: plan.id, digest: plan.digest, only_safe }
}

fn finish(plan: &Plan, number: u32, result: plan::Outcome) -> Wish {
    Wish::FinishAction { plan: plan.id, number, result, text: "so".into() }
}

/// What is answered is what the fleet has, after a change and without one.
fn told(world: &mut World, wish: Wish) -> (Arc<Plan>, bool) {
    let before = world.fleet.revision();
    let answer = world.user(wish).unwrap();
    let answered = answer.plan().expect("a plan").clone();
    assert_eq!(world.fleet.plan(answered.id), Some(&answered));
    (answered, world.fleet.revision() > before)
}

#[test]
fn applying_a_plan_again_changes_nothing_but_may_say_yes_to_more() {
    let (mut world, plan) = world(&[Risk::Safe, Risk::Confirm]);
    let (first, is_news) = told(&mut world, apply(&plan, true));
    assert!(is_news && first.applied.as_ref().is_some_and(|applied| applied.only_safe));
    assert_eq!(&*first.applied.as_ref().unwrap().by, "user:me");
    world.now = world.now.after(SECOND);
    assert_eq!(told(&mut world, apply(&plan, true)), (first.clone(), false));
    let (more, is_news) = told(&mut world, apply(&plan, false));
    assert!(is_news && more.open().count() == 2);
    assert_eq!(told(&mut world, apply(&plan, true)), (more.clone(), false), "a yes is not taken back");
    world.now = world.now.after(GOOD_FOR);
    assert_eq!(told(&mut world, apply(&plan, false)), (more, false), "it was applied in time");
}

#[test]
fn a_plan_is_applied_as_it_was_shown_and_while_it_is_good() {
    let (mut world, plan) = world(&[Risk::Safe, Risk::Confirm]);
    let other = Wish::ApplyPlan { plan: plan.id, digest: [8; 32], only_safe: true };
    assert_eq!(world.user(other), Err(Refused::PlanChanged(plan.id)));
    let unknown = PlanId::from_random([8; 10]);
    let wish = Wish::ApplyPlan { plan: unknown, digest: plan.digest, only_safe: true };
    assert_eq!(world.user(wish), Err(Refused::PlanUnknown(unknown)));
    world.now = plan.expires.after(Duration::ZERO);
    assert_eq!(world.user(apply(&plan, true)), Err(Refused::PlanExpired(plan.id)));
    world.now = Timestamp::from_millis(plan.expires.millis() - 1);
    world.user(apply(&plan, true)).unwrap();
    world.now = plan.expires;
    assert_eq!(world.user(apply(&plan, false)), Err(Refused::PlanExpired(plan.id)), "more is too late");
}

#[test]
fn the_first_word_on_an_action_counts() {
    let (mut world, plan) = world(&[Risk::Safe, Risk::Safe, Risk::Force]);
    assert!(!told(&mut world, finish(&plan, 1, plan::Outcome::Done)).1, "nobody said yes to any");
    world.user(apply(&plan, true)).unwrap();
    assert!(!told(&mut world, finish(&plan, 3, plan::Outcome::Done)).1, "nobody said yes to this one");
    let (after, is_news) = told(&mut world, finish(&plan, 1, plan::Outcome::Skipped));
    assert!(is_news && !after.is_over());
    let note = world.changes.last().and_then(|change| change.note.clone()).unwrap();
    assert!(note.text.contains("action 1 skipped: stop it; so"), "{}", note.text);
    let (again, is_news) = told(&mut world, finish(&plan, 1, plan::Outcome::Done));
    assert_eq!((again.actions[0].result.as_ref().unwrap().result, is_news), (plan::Outcome::Skipped, false));
    for odd in [0, 4, u32::MAX] {
        assert!(!told(&mut world, finish(&plan, odd, plan::Outcome::Done)).1, "there is no action {odd}");
    }
    let (last, _) = told(&mut world, finish(&plan, 2, plan::Outcome::Failed));
    assert!(last.is_over());
}

#[test]
fn a_plan_is_made_once_and_there_are_not_too_many() {
    let (mut world, plan) = world(&[Risk::Safe]);
    let wish = |plan: &Plan| Wish::MakePlan(Box::new(plan.clone()));
    assert_eq!(world.user(wish(&plan)), Err(Refused::PlanIdTaken(plan.id)));
    for number in 1..1_000_u16 {
        let [high, low] = number.to_be_bytes();
        let id = PlanId::from_random([9, high, low, 0, 0, 0, 0, 0, 0, 0]);
        world.user(wish(&Plan { id, ..plan.clone() })).unwrap();
    }
    let one_more = Plan { id: PlanId::from_random([1; 10]), ..plan.clone() };
    assert!(matches!(world.user(wish(&one_more)), Err(Refused::LimitReached { most: 1_000, .. })));
    world.user(Wish::ForgetPlan { plan: plan.id }).unwrap();
    assert_eq!(world.fleet.plan(plan.id), None);
    world.user(wish(&one_more)).unwrap();
}

#[test]
fn the_log_says_what_was_found_and_of_which_session_and_node() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    let number = world.fleet.session(id).unwrap().number;
    let mut finding = finding(Code::StuckRunning, Severity::Available, None);
    (finding.session, finding.node) = (Some(id), Some(world.nodes[0].id));
    let wish = |is_over| Wish::Note { finding: Box::new(finding.clone()), is_over };
    for (is_over, kind) in [(false, Kind::FindingAppeared), (true, Kind::FindingEnded)] {
        world.must(Actor::Controller, wish(is_over));
        let change = world.changes.last().unwrap();
        let note = change.note.as_ref().unwrap();
        assert_eq!((change.kind, &*note.text), (kind, "STUCK_RUNNING it: so it is"));
        assert_eq!((note.session, note.node), (Some(number), finding.node));
    }
}

#[test]
fn trying_again_raises_the_attempt_of_what_is_on_its_way_only() {
    let mut world = World::new(1, 1);
    let id = world.create("a", |_| {}).unwrap();
    let attempt = |world: &mut World| {
        let answer = world.must(Actor::Controller, Wish::RetrySession { session: id });
        answer.session().unwrap().attempt
    };
    assert_eq!(attempt(&mut world), 0, "no node has it");
    world.schedule();
    assert_eq!(attempt(&mut world), 1);
    world.user(Wish::StopSession { session: id, grace: None }).unwrap();
    for _ in 0..2 {
        world.converge(0, false);
        world.deliver(0, false);
    }
    assert_eq!(attempt(&mut world), 1, "it is ready");
}
