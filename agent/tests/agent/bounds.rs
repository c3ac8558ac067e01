//! What a run and its supervisor may take: little memory for who only watches, an end for who takes all it can get, and an
//! account of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use drover_agent::process;
use drover_agent::runtime::Job;
use drover_agent::shim::record::User;
use drover_domain::outcome::Outcome;

use crate::machine::{Groups, Machine, eventually, key, outcome, soon};

/// What of a process's memory begins with this word, in KiB.
fn memory(pid: u32, word: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    text.lines().filter(|line| line.starts_with(word)).filter_map(of).sum()
}

#[tokio::test]
async fn a_supervisor_that_only_watches_has_little_memory_of_its_own() {
    const MOST: u64 = 3 * 1024;
    /// What was not optimised is larger; most of it can be read again from the program's file at any time.
    const MOST_WITH_PROGRAM: u64 = if cfg!(debug_assertions) { 2 * MOST } else { MOST };
    let machine = Machine::new();
    // What two of them share is none's own.
    for number in [1, 2] {
        machine.start(key(number), "echo ready; sleep 600").await;
        machine.until_it_says(key(number), "ready").await;
    }
    for number in [1, 2] {
        let pid = machine.supervisor(key(number)).pid;
        let (written, all) = (memory(pid, "Private_Dirty"), memory(pid, "Private_"));
        assert!(written > 0 && written <= MOST, "{written} KiB");
        assert!(all <= MOST_WITH_PROGRAM, "{all} KiB");
    }
    for number in [1, 2] {
        machine.processes.stop(key(number), "me", Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_run_used_is_told_without_controllers_too() {
    // Five that sleep, one that holds 48 MiB at once, and some work.
    let script = "for i in 1 2 3 4 5; do setsid sleep 600 & done; head -c 50331648 /dev/zero | tail -c 50331647 | wc -c; \
                  i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo ready; wait";
    for groups in [Groups::With, Groups::Without] {
        let machine = Machine::with(groups);
        machine.start(key(1), script).await;
        machine.until_it_says(key(1), "ready").await;
        let stop = machine.processes.stop(key(1), "me", Duration::ZERO);
        let exit = soon("the stop", stop).await.unwrap().unwrap();
        let used = exit.used;
        assert!(used.peak_processes.is_some_and(|most| (6..60).contains(&most)), "{groups:?} {used:?}");
        assert!(used.peak_memory_bytes.is_some_and(|peak| peak > 40 << 20), "{groups:?} {used:?}");
        assert!(used.cpu_micros.is_some_and(|micros| micros > 20_000), "{groups:?} {used:?}");
        assert_eq!((exit.code, exit.signal), (None, Some(15)));
    }
}

#[tokio::test]
async fn a_run_that_was_over_at_once_had_one_process() {
    let machine = Machine::new();
    let exit = machine.run(key(1), Job { command: vec!["true".into()], ..machine.job("") }).await;
    assert_eq!(exit.used.peak_processes, Some(1));
}

/// Forks as often as it is let and does not end when it is told to.
const BOMB: &str = r#"
exec prlimit --nproc=48 perl -e '
$SIG{TERM} = "IGNORE"; $| = 1; print "ready\n";
while (1) { my $child = fork; setpgrp if defined $child && !$child; }'
"#;

#[tokio::test]
async fn of_a_fork_bomb_nothing_is_left_when_its_stop_returns() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for groups in [Groups::With, Groups::Without] {
        let machine = Machine::with(groups);
        fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(machine.workspace(), fs::Permissions::from_mode(0o777)).unwrap();
        // Nobody else's, so that the limit counts these processes alone.
        let uid = 2_000_000 + std::process::id();
        let user = User { name: "bomber".into(), uid, gid: uid, groups: vec![uid] };
        let job = Job { user: Some(user), ..machine.job(BOMB) };
        machine.processes.start(key(1), job).await.unwrap();
        eventually("it has gone off", || of_user(uid) >= 48).await;
        let stop = machine.processes.stop(key(1), "me", Duration::ZERO);
        let exit = soon("the stop", stop).await.unwrap().unwrap();
        assert_eq!(of_user(uid), 0, "{groups:?}");
        assert_eq!(outcome(&exit), Outcome::Stopped("me".into()));
        assert!(exit.used.peak_processes.is_some_and(|most| most >= 40), "{:?}", exit.used);
    }
}

fn of_user(uid: u32) -> usize {
    let is_of_user = |stat: &process::Stat| {
        fs::metadata(format!("/proc/{}", stat.pid)).is_ok_and(|found| found.uid() == uid)
    };
    process::all().iter().filter(|stat| is_of_user(stat)).count()
}
