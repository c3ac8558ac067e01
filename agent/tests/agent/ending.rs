//! Stopping: when it returns, no process that descended from the run is left, wherever it went, and nobody else is hurt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use drover_agent::runtime::{Key, StopError};
use drover_domain::outcome::Outcome;
use rustix::process::Signal;

use crate::machine::{Groups, Machine, boot, eventually, key, outcome, soon};

/// A process of somebody else's.
struct Innocent(Child);

impl Innocent {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A plain child, one in its own session, a double fork, one behind nohup, one that ignores what it is told, one that is
/// stopped, and one that hides its mark.
const TREE: &str = r#"
sleep 1001 &
setsid sleep 1002 &
(setsid sh -c 'sleep 1003 & sleep 1003' &)
nohup sleep 1004 >/dev/null 2>&1 &
sh -c 'trap "" TERM INT HUP; while :; do sleep 1; done' &
sleep 1006 &
kill -STOP $!
env -i setsid sleep 1007 &
sleep 0.2
echo ready
wait
"#;

async fn a_tree_is_stopped(groups: Groups) {
    let machine = Machine::with(groups);
    let mut innocent = Innocent::new();
    machine.start(key(1), TREE).await;
    machine.until_it_says(key(1), "ready").await;
    let own = machine.supervisor(key(1));
    let tree: Vec<_> =
        drover_agent::process::descendants(own.pid).iter().map(|stat| stat.id(&boot())).collect();
    assert!(tree.len() >= 9, "{tree:?}");
    let stop = machine.processes.stop(key(1), "me", Duration::from_millis(500));
    let exit = soon("the stop", stop).await.unwrap().unwrap();
    for process in &tree {
        assert!(process.look(&boot()).is_absent(), "{process:?} is left");
    }
    assert_eq!(outcome(&exit), Outcome::Stopped("me".into()));
    assert!(innocent.is_alive());
    eventually("the supervisor is gone too", || own.look(&boot()).is_absent()).await;
}

#[tokio::test]
async fn nothing_of_a_tree_is_left_with_control_groups() {
    a_tree_is_stopped(Groups::With).await;
}

#[tokio::test]
async fn nothing_of_a_tree_is_left_without_control_groups() {
    a_tree_is_stopped(Groups::Without).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_ended_with_it() {
    for groups in [Groups::With, Groups::Without] {
        let machine = Machine::with(groups);
        let script = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & setsid sleep 600 & exit 7";
        let exit = machine.run(key(1), machine.job(script)).await;
        assert_eq!(outcome(&exit), Outcome::Failed(7));
        assert!(machine.processes_of(key(1)).is_empty());
    }
}

#[tokio::test]
async fn processes_that_are_reborn_all_the_time_are_caught() {
    for groups in [Groups::With, Groups::Without] {
        let machine = Machine::with(groups);
        fs::write(machine.workspace().join("hydra"), "trap '' TERM\nsh $0 &\nsh -c 'sleep 0.01'\n").unwrap();
        machine.start(key(1), "setsid sh hydra & echo ready; sleep 600").await;
        machine.until_it_says(key(1), "ready").await;
        let stop = machine.processes.stop(key(1), "me", Duration::ZERO);
        soon("the stop", stop).await.unwrap().unwrap();
        assert!(machine.processes_of(key(1)).is_empty(), "{groups:?}");
    }
}

#[tokio::test]
async fn a_command_that_cleans_up_when_asked_has_its_grace() {
    let machine = Machine::new();
    machine
        .start(key(1), "trap 'sleep 0.3; echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
        .await;
    machine.until_it_says(key(1), "ready").await;
    let stop = machine.processes.stop(key(1), "me", Duration::from_secs(30));
    let exit = soon("the stop", stop).await.unwrap().unwrap();
    assert_eq!((outcome(&exit), exit.code), (Outcome::Stopped("me".into()), Some(0)));
    assert!(machine.output(key(1)).contains("tidy"));
    // Asked again, the answer is the same.
    let again = machine.processes.stop(key(1), "another", Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(again, exit);
}

#[tokio::test]
async fn a_signal_to_the_supervisor_is_a_stop() {
    let machine = Machine::new();
    machine.start(key(1), "sleep 600").await;
    assert!(machine.supervisor(key(1)).signal(&boot(), Signal::TERM).is_present());
    let exit = soon("the end", machine.processes.ended(key(1))).await;
    assert_eq!(outcome(&exit), Outcome::Stopped("SIGTERM".into()));
}

#[tokio::test]
async fn a_supervisor_that_somebody_stopped_is_let_go_on() {
    let machine = Machine::new();
    machine.start(key(1), "sleep 600").await;
    assert!(machine.supervisor(key(1)).signal(&boot(), Signal::STOP).is_present());
    let stop = machine.processes.stop(key(1), "me", Duration::ZERO);
    let exit = soon("the stop", stop).await.unwrap().unwrap();
    assert_eq!(outcome(&exit), Outcome::Stopped("me".into()));
}

/// A group whose frozen processes not even SIGKILL ends.
struct Freezer(PathBuf);

impl Freezer {
    /// `None`: this machine has no freezer of the first version.
    fn with(pid: u32) -> Option<Self> {
        let path = Path::new("/sys/fs/cgroup/freezer").join(format!("drover-test-{pid}"));
        fs::create_dir(&path).ok()?;
        fs::write(path.join("cgroup.procs"), pid.to_string()).ok()?;
        fs::write(path.join("freezer.state"), "FROZEN").ok()?;
        Some(Self(path))
    }

    fn thaw(&self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn what_cannot_be_killed_is_stuck_and_never_called_stopped() {
    let machine = Machine::new();
    let pid = machine.start(key(1), "sleep 600").await;
    let Some(freezer) = Freezer::with(pid) else { return };
    let stop = machine.processes.stop(key(1), "me", Duration::ZERO);
    let stuck = soon("the answer", stop).await.unwrap_err();
    assert!(matches!(&stuck, StopError::Stuck { pids } if pids.contains(&pid)), "{stuck}");
    assert!(machine.directory(key(1)).exit().unwrap().is_none());
    freezer.thaw();
    let exit = soon("the end", machine.processes.ended(key(1))).await;
    assert_eq!(outcome(&exit), Outcome::Stopped("me".into()));
    eventually("it is gone", || is_gone(&machine, key(1))).await;
}

fn is_gone(machine: &Machine, key: Key) -> bool {
    machine.processes_of(key).is_empty()
}
