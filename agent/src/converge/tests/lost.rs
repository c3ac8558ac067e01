//! Ledgers that are lost, or not believed: what is here is looked for, nothing is done twice, nothing removed.

use super::*;

#[test]
fn without_its_ledger_an_agent_adopts_what_is_there() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    let workspace = agent.workspace(1);
    agent.dies();
    machine.lose_ledger();
    let agent = machine.start();
    assert!(agent.converge.held().is_empty());
    agent.assign(&Assignment { workspace, ..machine.assignment(1, running(1)) });
    eventually("adopted", || matches!(agent.local(1).run, LocalRun::Live(_)));
    assert_eq!(machine.runs.starts.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read(machine.worktree(1).join("b.txt")).unwrap(), b"mine");
}

#[test]
fn a_run_is_stopped_for_real_although_the_ledger_that_knew_of_it_is_lost() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    let workspace = agent.workspace(1);
    agent.dies();
    machine.lose_ledger();
    let agent = machine.start();
    let stop = Target::Ready { stop: Some(order(1)) };
    agent.assign(&Assignment { workspace, ..machine.assignment(1, stop) });
    let was_running = |seen: &Observation| matches!(seen, Observation::RunEnded { started: Some(_), .. });
    agent.hears("the end of a run that had started", was_running);
    assert!(machine.runs.runs.lock().unwrap()[&1].is_some(), "it was ended");
}

#[test]
fn a_ledger_that_is_not_believed_starts_nothing_twice_and_removes_nothing() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    let workspace = agent.workspace(1);
    let ledger = agent.converge.means().ledger.clone();
    let copy = agent.runtime.as_ref().unwrap().block_on(ledger.distrust()).unwrap();
    assert!(copy.is_file(), "what it said is kept");
    drop(ledger);
    agent.assign(&Assignment { workspace, ..machine.assignment(1, running(1)) });
    eventually("found again", || {
        matches!(agent.local(1).run, LocalRun::Live(_)) && agent.local(1).site == Site::Made
    });
    assert_eq!(machine.runs.starts.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read(machine.worktree(1).join("b.txt")).unwrap(), b"mine");
}

#[test]
fn a_session_whose_repository_is_gone_can_be_removed_and_its_files_stay() {
    let machine = Machine::new();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, Target::Ready { stop: None }));
    eventually("it is ready", || agent.local(1).site == Site::Made);
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    fs::remove_dir_all(machine.dir.path().join("repository")).unwrap();
    agent.assign(&machine.assignment(1, cleaned()));
    let is_told = |seen: &Observation| matches!(seen, Observation::Removed(kept) if kept.reasons.len() == 1);
    agent.hears("it is removed", is_told);
    let kept = SessionId::from_random([1; 10]);
    let kept = machine.dir.path().join(format!("state/worktrees/.kept-{kept}/b.txt"));
    assert_eq!(fs::read(kept).unwrap(), b"mine");
}
