//! A registry that was put back from an older copy of itself, and nodes that know more than it does.

use super::*;

/// One session that is ready, and the fleet as it was then.
fn with_backup() -> (World, SessionId, Fleet) {
    let mut world = World::new(1, 2);
    let id = world.create("a", |_| {}).unwrap();
    world.user(Wish::StopSession { session: id, grace: None }).unwrap();
    advance(&mut world);
    assert_eq!(world.fleet.session(id).unwrap().state.kind(), StateKind::Ready);
    let backup = world.fleet.clone();
    (world, id, backup)
}

fn advance(world: &mut World) {
    world.schedule();
    world.converge(0, false);
    world.converge(0, false);
    world.deliver(0, false);
}

fn link(world: &mut World) -> Result<Answer, Refused> {
    let node = &world.nodes[0];
    let wish = Wish::Link {
        node: node.id,
        facts: Box::new(facts(2)),
        shown: node.cookie,
        next: [7; 32],
        witness: Box::new(node.witness()),
    };
    world.submit(Actor::Node(world.nodes[0].id), wish)
}

#[test]
fn a_registry_that_knows_less_of_a_node_than_it_once_told_it_does_not_link_it() {
    let (mut world, id, backup) = with_backup();
    world.user(Wish::StartSession { session: id, resume: false }).unwrap();
    advance(&mut world);
    assert!(matches!(world.nodes[0].local[&id].run, LocalRun::Live(_)));
    world.fleet = backup;
    // Whatever cookie it shows.
    for cookie in [world.nodes[0].cookie, None, Some([9; 32])] {
        world.nodes[0].cookie = cookie;
        let refused = link(&mut world).unwrap_err();
        assert_eq!(refused.code(), "REGISTRY_OLDER");
        assert!(refused.to_string().contains("it acknowledged 2 reports"), "{refused}");
    }
}

#[test]
fn what_was_ordered_and_not_yet_reported_shows_that_the_registry_is_older() {
    let (mut world, id, backup) = with_backup();
    world.user(Wish::StartSession { session: id, resume: false }).unwrap();
    world.schedule();
    world.converge(0, false);
    assert!(matches!(world.nodes[0].local[&id].run, LocalRun::Live(_)));
    world.fleet = backup;
    let refused = link(&mut world).unwrap_err();
    assert!(
        refused.to_string().contains("it ordered run 1 of 'a' there and does not know of it"),
        "{refused}"
    );
}

#[test]
fn a_run_that_was_ordered_anew_under_the_number_of_one_that_goes_on_does_not_take_its_place() {
    let (mut world, id, backup) = with_backup();
    world.user(Wish::StartSession { session: id, resume: false }).unwrap();
    world.schedule();
    world.converge(0, false);
    world.fleet = backup;
    // Its node is not heard yet, and is believed to be there.
    world.user(Wish::StartSession { session: id, resume: false }).unwrap();
    world.now = world.now.after(SECOND);
    world.schedule();
    let (order, session) = (world.nodes[0].local[&id].run, world.fleet.session(id).unwrap());
    assert!(matches!(order, LocalRun::Live(order) if order.ordinal == session.runs));
    assert_eq!(link(&mut world).unwrap_err().code(), "REGISTRY_OLDER");
}

#[test]
fn a_node_that_knows_as_much_as_the_registry_or_less_is_linked() {
    let (mut world, _, _) = with_backup();
    link(&mut world).unwrap();
    world.nodes[0].cookie = Some([7; 32]);
    // Its ledger was lost.
    world.nodes[0].acknowledged = 0;
    world.nodes[0].local.clear();
    link(&mut world).unwrap();
}
