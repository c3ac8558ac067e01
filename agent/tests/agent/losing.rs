//! Runs of which nothing is kept any more: as long as something of them lives they go on, afterwards they are lost.

use std::fs;

use drover_agent::saga::Runs;
use drover_domain::outcome::Outcome;
use drover_domain::presence::Presence;
use rustix::process::Signal;

use super::machine::{Groups, Machine, boot, eventually, key, soon};

async fn loses(groups: Groups, number: u8) {
    let machine = Machine::with(groups);
    let key = key(number);
    machine.start(key, "exec sleep 600").await;
    let settle = || machine.processes.settle(key.session, key.order);
    assert_eq!(settle().await.unwrap(), None, "it goes on");
    assert_eq!(machine.processes.lives(key.session, key.order), Presence::Present(()));
    let (supervisor, group) =
        (machine.supervisor(key), machine.directory(key).run().unwrap().unwrap().cgroup);
    let processes = machine.processes_of(key);
    fs::remove_dir_all(machine.directory(key).path()).unwrap();
    assert_eq!(settle().await.unwrap(), None, "its processes live");
    for process in processes.iter().chain([&supervisor]) {
        process.signal(&boot(), Signal::KILL);
    }
    eventually("nothing of it lives", || {
        machine.processes_of(key).is_empty() && supervisor.look(&boot()).is_absent()
    })
    .await;
    let ended = soon("its end", async {
        loop {
            if let Some(ended) = settle().await.unwrap() {
                return ended;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ended.outcome, Outcome::Lost);
    assert_eq!(machine.processes.lives(key.session, key.order), Presence::Absent);
    if let Some(group) = group {
        let group = drover_agent::cgroup::Cgroup::at(group);
        eventually("its group goes", || !group.path().exists() || group.remove().is_ok()).await;
    }
}

#[tokio::test]
async fn a_run_whose_directory_was_deleted_is_lost_once_nothing_of_it_lives() {
    loses(Groups::With, 71).await;
}

#[tokio::test]
async fn the_same_holds_without_control_groups() {
    loses(Groups::Without, 72).await;
}

#[tokio::test]
async fn a_run_whose_supervisor_was_killed_is_settled_and_is_not_lost() {
    let machine = Machine::new();
    let key = key(73);
    machine.start(key, "exec sleep 600").await;
    machine.supervisor(key).signal(&boot(), Signal::KILL);
    eventually("it is gone", || machine.supervisor(key).look(&boot()).is_absent()).await;
    let ended = soon("its end", machine.processes.settle(key.session, key.order)).await.unwrap().unwrap();
    assert!(matches!(ended.outcome, Outcome::Interrupted(_)), "{ended:?}");
    assert!(machine.processes_of(key).is_empty());
}
