//! Agents and supervisors that die: runs go on without the agent, and what a dead supervisor left is found, ended, and told.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use drover_agent::process::{Boot, ProcessId, Stat};
use drover_agent::runtime::{Processes, Seen};
use drover_agent::shim::record::{Started, Supervisor, VERSION};
use drover_daemon::clock::Clock;
use drover_domain::outcome::{Cause, Outcome};
use drover_domain::presence::Presence;
use rustix::process::Signal;

use crate::machine::{Groups, Machine, boot, eventually, job, key, outcome, places, soon};

const DIRECTORY: &str = "DROVER_TEST_AGENT";

/// No test: what the next one runs as a process of its own, an agent that starts a run and then hangs.
#[tokio::test]
async fn an_agent_of_its_own() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let dir = Path::new(&dir);
    let processes = Processes::open(&places(dir, Groups::With), Clock::system()).unwrap();
    let key = serde_key(&fs::read_to_string(dir.join("key")).unwrap());
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done";
    processes.start(key, job(dir, script)).await.unwrap();
    if let Ok(fence) = fs::read_to_string(dir.join("fence")) {
        let until = Clock::system().boot() + Duration::from_millis(fence.parse().unwrap());
        processes.fence(key, until).await.unwrap();
    }
    fs::write(dir.join("started"), "").unwrap();
    std::future::pending::<()>().await;
}

/// The key of another process's test.
fn serde_key(text: &str) -> drover_agent::runtime::Key {
    let (session, run) = text.split_once(' ').unwrap();
    drover_agent::runtime::Key {
        session: session.parse().unwrap(),
        order: drover_domain::session::Order { run: run.parse().unwrap(), ordinal: 1 },
    }
}

/// An agent that is a process of its own, once it has started this run.
async fn agent_with_a_run(machine: &Machine, key: drover_agent::runtime::Key) -> Child {
    fs::write(machine.path().join("key"), format!("{} {}", key.session, key.order.run)).unwrap();
    let agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "surviving::an_agent_of_its_own"])
        .env(DIRECTORY, machine.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the agent started the run", || machine.path().join("started").exists()).await;
    agent
}

#[tokio::test]
async fn a_fence_holds_while_the_agent_is_stopped() {
    let machine = Machine::new();
    fs::write(machine.path().join("fence"), "1500").unwrap();
    let mut agent = agent_with_a_run(&machine, key(1)).await;
    let stopped = ProcessId::of(agent.id(), &boot()).unwrap();
    assert!(stopped.signal(&boot(), Signal::STOP).is_present());
    let directory = machine.directory(key(1));
    eventually("the run is ended", || directory.exit().unwrap().is_some()).await;
    assert_eq!(outcome(&directory.exit().unwrap().unwrap()), Outcome::Interrupted(Cause::Agent));
    assert!(machine.processes_of(key(1)).is_empty());
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[tokio::test]
async fn a_run_goes_on_when_its_agent_is_killed_and_the_next_agent_finds_the_same_process() {
    let mut machine = Machine::new();
    let key = key(1);
    let mut agent = agent_with_a_run(&machine, key).await;
    let pid = machine.directory(key).started().unwrap().unwrap().process;
    agent.kill().unwrap();
    agent.wait().unwrap();
    machine.restart_agent();
    let Presence::Present(Seen::Running(found)) = machine.processes.look(key) else { panic!("not adopted") };
    assert_eq!(found.process, pid);
    let before = machine.output(key).len();
    eventually("the log grows", || machine.output(key).len() > before).await;
    assert!(pid.look(&boot()).is_present());
    let stop = machine.processes.stop(key, "me", Duration::ZERO);
    let exit = soon("the stop", stop).await.unwrap().unwrap();
    assert_eq!(outcome(&exit), Outcome::Stopped("me".into()));
    let output = machine.output(key);
    let lines: Vec<_> = output.lines().collect();
    for (number, line) in (1..).zip(&lines) {
        assert_eq!(*line, format!("line {number}"));
    }
}

#[tokio::test]
async fn what_a_killed_supervisor_left_is_ended_and_the_run_called_interrupted() {
    for groups in [Groups::With, Groups::Without] {
        let machine = Machine::with(groups);
        let script = "trap '' PIPE; setsid sleep 1001 & setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo ready; wait";
        machine.start(key(1), script).await;
        machine.until_it_says(key(1), "ready").await;
        let left = machine.processes_of(key(1));
        assert!(left.len() >= 3, "{left:?}");
        assert!(machine.supervisor(key(1)).signal(&boot(), Signal::KILL).is_present());
        let exit = soon("the end", machine.processes.ended(key(1))).await;
        for process in &left {
            assert!(process.look(&boot()).is_absent(), "{process:?} is left");
        }
        assert_eq!(outcome(&exit), Outcome::Interrupted(Cause::Agent));
        assert!(exit.text.as_deref().unwrap().contains("what it left was ended"), "{exit:?}");
        assert!(exit.started.is_some());
        let had_group = machine.directory(key(1)).supervisor().unwrap().unwrap().cgroup;
        assert_eq!(exit.used.cpu_micros.is_some(), had_group, "what its group counted is told");
    }
}

#[tokio::test]
async fn a_stop_ends_what_a_killed_supervisor_left() {
    let machine = Machine::new();
    machine.start(key(1), "sleep 600").await;
    machine.supervisor(key(1)).signal(&boot(), Signal::KILL);
    let stop = machine.processes.stop(key(1), "me", Duration::ZERO);
    let exit = soon("the stop", stop).await.unwrap().unwrap();
    assert_eq!(outcome(&exit), Outcome::Stopped("me".into()));
    assert!(machine.processes_of(key(1)).is_empty());
}

/// Writes down a run as a dead supervisor would have left it.
async fn remains(machine: &Machine, boot: &Boot, command: Option<ProcessId>) {
    machine.run(key(1), machine.job("true")).await;
    let directory = machine.directory(key(1));
    fs::remove_file(directory.path().join("exit.json")).unwrap();
    let mut run = directory.run().unwrap().unwrap();
    run.boot = boot.clone();
    directory.write(&run).unwrap();
    let gone = command.clone().unwrap_or(ProcessId { boot: boot.clone(), pid: std::process::id(), start: 1 });
    directory.write(&Supervisor { version: VERSION, process: gone, launched: 1, cgroup: true }).unwrap();
    if let Some(process) = command {
        directory.write(&Started { version: VERSION, process, started: 2 }).unwrap();
    }
}

#[tokio::test]
async fn an_innocent_process_that_got_the_pid_is_not_touched() {
    let machine = Machine::new();
    let mut innocent = Command::new("sleep").arg("600").spawn().unwrap();
    let here = boot();
    let real = ProcessId::of(innocent.id(), &here).unwrap();
    let reused = ProcessId { start: real.start - 1, ..real.clone() };
    remains(&machine, &here, Some(reused)).await;
    let exit = soon("the end", machine.processes.ended(key(1))).await;
    assert_eq!(outcome(&exit), Outcome::Interrupted(Cause::Agent));
    assert!(exit.text.as_deref().unwrap().contains("nothing was left"), "{exit:?}");
    assert!(real.look(&boot()).is_present());
    // The right start time is what decides.
    remains_again(&machine, &here, &real).await;
    innocent.wait().unwrap();
}

async fn remains_again(machine: &Machine, boot: &Boot, real: &ProcessId) {
    let directory = machine.directory(key(1));
    fs::remove_file(directory.path().join("exit.json")).unwrap();
    directory.write(&Started { version: VERSION, process: real.clone(), started: 2 }).unwrap();
    assert_eq!(real.boot, *boot);
    soon("the end", machine.processes.ended(key(1))).await;
    // A zombie until the test waits for it.
    assert!(real.look(boot).is_absent());
}

#[tokio::test]
async fn after_a_reboot_a_run_is_interrupted_by_it_even_if_only_its_order_is_left() {
    let machine = Machine::new();
    let mut innocent = Command::new("sleep").arg("600").spawn().unwrap();
    let real = ProcessId::of(innocent.id(), &boot()).unwrap();
    remains(
        &machine,
        &"an-earlier-boot".into(),
        Some(ProcessId { boot: "an-earlier-boot".into(), ..real.clone() }),
    )
    .await;
    for file in ["shim.json", "started.json"] {
        assert_eq!(machine.processes.look(key(1)), Presence::Present(Seen::Orphaned));
        fs::remove_file(machine.directory(key(1)).path().join(file)).unwrap();
    }
    let exit = soon("the end", machine.processes.ended(key(1))).await;
    assert_eq!(outcome(&exit), Outcome::Interrupted(Cause::Reboot));
    assert!(real.look(&boot()).is_present());
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[tokio::test]
async fn a_run_that_a_reboot_took_along_is_interrupted_and_who_has_its_number_now_is_not_touched() {
    let mut machine = Machine::new();
    let mut innocent = Command::new("sleep").arg("600").spawn().unwrap();
    let real = ProcessId::of(innocent.id(), &boot()).unwrap();
    machine.start(key(1), "sleep 600").await;
    machine.reboot().await;
    // The same number, and even the same time since the boot.
    let directory = machine.directory(key(1));
    directory.write(&Started { version: VERSION, process: real.clone(), started: 2 }).unwrap();
    let supervisor = directory.supervisor().unwrap().unwrap();
    directory.write(&Supervisor { process: real.clone(), ..supervisor }).unwrap();
    let exit = soon("the end", machine.processes.ended(key(1))).await;
    assert_eq!(outcome(&exit), Outcome::Interrupted(Cause::Reboot));
    assert!(exit.text.as_deref().unwrap().contains("nothing was left"), "{exit:?}");
    assert!(innocent.try_wait().unwrap().is_none());
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[tokio::test]
async fn who_has_the_number_of_a_silent_supervisor_is_not_let_go_on() {
    let machine = Machine::new();
    let mut innocent = Command::new("sleep").arg("600").spawn().unwrap();
    let real = ProcessId::of(innocent.id(), &boot()).unwrap();
    remains(&machine, &boot(), Some(ProcessId { start: real.start - 1, ..real.clone() })).await;
    // Somebody holds the run and its socket and says nothing.
    let lock = machine.directory(key(1)).lock().unwrap().unwrap();
    let run = machine.directory(key(1)).run().unwrap().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&run.socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(real.signal(&boot(), Signal::STOP).is_present());
    let state = || Stat::of(real.pid).unwrap().state;
    eventually("it is stopped", || state() == 'T').await;
    let asked = async {
        let mut calls = Vec::new();
        // The second one comes after the first was given up and the supervisor was to be woken.
        eventually("it is asked twice", || {
            calls.extend(listener.accept().ok());
            calls.len() == 2
        })
        .await;
    };
    tokio::select! {
        stopped = machine.processes.stop(key(1), "me", Duration::ZERO) => panic!("{stopped:?}"),
        () = asked => {}
    }
    assert_eq!(state(), 'T');
    drop(lock);
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[tokio::test]
async fn an_order_that_no_supervisor_took_up_was_never_started() {
    let machine = Machine::new();
    machine.run(key(1), machine.job("true")).await;
    let directory = machine.directory(key(1));
    for file in ["exit.json", "started.json", "shim.json"] {
        fs::remove_file(directory.path().join(file)).unwrap();
    }
    assert_eq!(machine.processes.look(key(1)), Presence::Absent);
    // Cut off while it was written.
    fs::write(directory.path().join("run.json"), "{\"version\":1,").unwrap();
    assert_eq!(machine.processes.look(key(1)), Presence::Absent);
    let exit = machine.run(key(1), machine.job("exit 4")).await;
    assert_eq!(outcome(&exit), Outcome::Failed(4));
}

#[tokio::test]
async fn what_a_newer_supervisor_wrote_is_unknown_and_not_gone() {
    let machine = Machine::new();
    machine.run(key(1), machine.job("true")).await;
    let path = machine.directory(key(1)).path().join("exit.json");
    fs::write(path, "{\"version\":2,\"anything\":1}").unwrap();
    let Presence::Unknown(why) = machine.processes.look(key(1)) else { panic!("it was understood") };
    assert!(why.contains("is of version 2, this program knows 1"), "{why}");
    assert!(machine.processes.start(key(1), machine.job("true")).await.is_err());
}
