//! Agents that die on the way: what was begun is found again, and is done once.

use super::*;

#[test]
fn an_agent_that_dies_again_and_again_does_everything_once() {
    let machine = Machine::new();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, running(1)));
    agent.dies();
    for pause in [1_u64, 5, 20, 40, 80] {
        let agent = machine.start();
        std::thread::sleep(Duration::from_millis(pause));
        agent.dies();
    }
    let agent = machine.start();
    eventually("live", || matches!(agent.local(1).run, LocalRun::Live(_)));
    machine.runs.end(1, Outcome::Succeeded);
    agent.hears("ended", |seen| matches!(seen, Observation::RunEnded { .. }));
    assert_eq!(machine.runs.starts.load(Ordering::SeqCst), 1);
    agent.assign(&machine.assignment(1, cleaned()));
    agent.dies();
    for pause in [1_u64, 5, 20, 40] {
        let agent = machine.start();
        std::thread::sleep(Duration::from_millis(pause));
        agent.dies();
    }
    let agent = machine.start();
    agent.hears("removed", |seen| matches!(seen, Observation::Removed(_)));
    assert_eq!(agent.observations().len(), 4, "{:?}", agent.observations());
    assert_eq!(git(&machine.repository(), &["branch", "--list", "drover/*"]), "");
}

#[test]
fn a_run_that_ended_while_the_agent_was_dead_is_told_when_it_is_back() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    agent.dies();
    machine.runs.end(1, Outcome::Failed(9));
    let agent = machine.start();
    agent.hears("ended", |seen| matches!(seen, Observation::RunEnded { outcome: Outcome::Failed(9), .. }));
    assert_eq!(machine.runs.starts.load(Ordering::SeqCst), 1);
}

#[test]
fn a_run_whose_start_the_agent_did_not_survive_is_stopped_if_it_is_not_wanted_any_more() {
    let machine = Machine::new();
    machine.runs.hang();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, running(1)));
    eventually("begun", || machine.runs.runs.lock().unwrap().contains_key(&1));
    let stop = convert::assignment::to_wire(&machine.assignment(1, Target::Ready { stop: Some(order(1)) }));
    let write = Write::Assign {
        session: SessionId::from_random([1; 10]),
        assignment: Some(stop.encode_to_vec().into()),
    };
    agent.runtime.as_ref().unwrap().block_on(agent.converge.means().ledger.commit(vec![write])).unwrap();
    agent.dies();
    let agent = machine.start();
    agent.hears("stopped", |seen| matches!(seen, Observation::RunEnded { started: Some(_), .. }));
    assert!(machine.runs.runs.lock().unwrap()[&1].is_some(), "told as ended while it is alive");
}
