//! Runs that end by themselves, are timed out, or never begin.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use drover_agent::logs::Stream;
use drover_agent::runtime::{Job, Key, Seen};
use drover_agent::shim::record::{Limits, User};
use drover_domain::outcome::{Limit, Outcome};
use drover_domain::session::Order;

use crate::machine::{Machine, eventually, key, outcome, soon};

#[tokio::test]
async fn a_commands_code_or_signal_arrives() {
    let machine = Machine::new();
    let table = [
        ("exit 0", Outcome::Succeeded),
        ("exit 3", Outcome::Failed(3)),
        ("kill -9 $$", Outcome::Signalled(9)),
        ("kill -TERM $$", Outcome::Signalled(15)),
    ];
    for (number, (script, expected)) in (0..).zip(table) {
        let exit = machine.run(key(number), machine.job(script)).await;
        assert_eq!(outcome(&exit), expected, "{script}");
        let started = exit.started.unwrap();
        assert!(started > 1_700_000_000_000 && started <= exit.ended);
        assert!(exit.used.cpu_micros.is_some() && exit.used.peak_memory_bytes.is_some());
    }
}

#[tokio::test]
async fn it_works_in_its_directory_with_its_environment_and_marks_and_nothing_of_the_agents() {
    let machine = Machine::new();
    let job =
        machine.job("pwd; env; ls -l /proc/$$/fd; cat; touch $DROVER_HEARTBEAT; echo done > $DROVER_STATE");
    let exit = machine.run(key(1), job).await;
    assert_eq!(outcome(&exit), Outcome::Succeeded);
    let said = machine.output(key(1));
    let workspace = machine.workspace().display().to_string();
    assert!(said.starts_with(&format!("{workspace}\n")), "{said}");
    let run = key(1).order.run;
    for mark in [
        format!("DROVER_RUN={run}\n"),
        "DROVER_FENCE=1.1\n".into(),
        format!("DROVER_WORKSPACE={workspace}\n"),
    ] {
        assert!(said.contains(&mark), "{mark} in {said}");
    }
    assert!(!said.contains("CARGO"), "the agent's environment leaked: {said}");
    // Standard input is empty, and no descriptor of the supervisor is inherited.
    assert!(!said.contains("socket:") && !said.contains("signalfd") && !said.contains("run.json"), "{said}");
}

#[tokio::test]
async fn both_streams_are_told_apart() {
    let machine = Machine::new();
    machine.run(key(1), machine.job("echo one; sleep 0.05; echo two >&2")).await;
    let seen: Vec<_> = machine.log(key(1)).into_iter().map(|chunk| (chunk.stream, chunk.data)).collect();
    assert_eq!(seen, [(Stream::Output, "one\n".into()), (Stream::Error, "two\n".into())]);
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_an_end_with_a_reason() {
    let machine = Machine::new();
    let plain = machine.workspace().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let broken = machine.workspace().join("broken");
    fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let gone = Job { workspace: machine.path().join("gone"), ..machine.job("true") };
    let named = |name: &str| Job { command: vec![name.to_owned()], ..machine.job("") };
    let table = [
        (named("no-such-command"), 127, "in none of the directories of PATH"),
        (named("/no/such/command"), 127, "is not there"),
        (named(plain.to_str().unwrap()), 126, "may not be run"),
        (named(broken.to_str().unwrap()), 127, "the interpreter it names is not"),
        (gone, 126, "is gone"),
    ];
    for (number, (job, code, words)) in (0..).zip(table) {
        let key = key(number);
        let Seen::Ended(exit) = machine.processes.start(key, job).await.unwrap() else { panic!("it runs") };
        assert_eq!((outcome(&exit), exit.started), (Outcome::Failed(code), None));
        assert!(exit.text.as_deref().unwrap().contains(words), "{exit:?}");
        let log = machine.log(key);
        assert_eq!(log[0].stream, Stream::Drover);
        assert!(machine.output(key).contains(words));
        assert!(machine.directory(key).started().unwrap().is_none());
    }
}

#[tokio::test]
async fn a_run_past_its_timeout_is_ended_and_says_so() {
    let machine = Machine::new();
    let job = machine.job("while :; do echo x; sleep 0.05; done");
    let limits = Limits { timeout_ms: Some(300), idle_ms: Some(60_000), ..job.limits };
    let exit = machine.run(key(1), Job { limits, ..job }).await;
    assert_eq!(outcome(&exit), Outcome::TimedOut(Limit::Run));
    assert!(machine.processes_of(key(1)).is_empty());
}

#[tokio::test]
async fn an_idle_run_is_ended_but_output_and_heartbeats_keep_it() {
    let machine = Machine::new();
    let job = |script: &str| {
        let job = machine.job(script);
        Job { limits: Limits { idle_ms: Some(500), ..job.limits }, ..job }
    };
    let exit = machine.run(key(1), job("sleep 600")).await;
    assert_eq!(outcome(&exit), Outcome::TimedOut(Limit::Idle));
    let busy = ["echo x", "touch $DROVER_HEARTBEAT"];
    for (number, sign) in (2..).zip(busy) {
        let script = format!("for i in 1 2 3 4 5 6 7 8; do {sign}; sleep 0.2; done");
        let exit = machine.run(key(number), job(&script)).await;
        assert_eq!(outcome(&exit), Outcome::Succeeded, "{sign}");
    }
}

#[tokio::test]
async fn a_run_is_started_once_however_often_it_is_ordered() {
    let machine = Machine::new();
    let job = || machine.job("echo once >> started; echo up; sleep 600");
    let starts = (0..4).map(|_| machine.processes.start(key(1), job()));
    for seen in futures::future::join_all(starts).await {
        assert!(matches!(seen.unwrap(), Seen::Running(_)));
    }
    assert!(matches!(machine.processes.start(key(1), job()).await.unwrap(), Seen::Running(_)));
    machine.until_it_says(key(1), "up").await;
    machine.processes.stop(key(1), "me", std::time::Duration::ZERO).await.unwrap().unwrap();
    assert!(matches!(machine.processes.start(key(1), job()).await.unwrap(), Seen::Ended(_)));
    assert_eq!(fs::read_to_string(machine.workspace().join("started")).unwrap(), "once\n");
}

#[tokio::test]
async fn another_user_gets_its_groups_its_heartbeat_and_no_more() {
    if !rustix::process::geteuid().is_root() {
        // Who is not root can run things as nobody else, and is told so.
        let root = drover_agent::runtime::account::find("root").unwrap();
        assert_eq!(root.uid, 0);
        return;
    }
    let machine = Machine::new();
    fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(machine.workspace(), fs::Permissions::from_mode(0o777)).unwrap();
    let user = User { name: "nobody".into(), uid: 65_534, gid: 65_534, groups: vec![65_534, 100] };
    let script = "id -u; id -G; touch $DROVER_HEARTBEAT && echo working > $DROVER_STATE && echo heard; \
                  cat $0 ../state/runs/*/*/run.json; ls ../sockets; touch made; umask";
    let job = Job { user: Some(user), ..machine.job(script) };
    let exit = machine.run(key(1), job).await;
    assert_eq!(outcome(&exit), Outcome::Succeeded);
    let said: String = machine
        .log(key(1))
        .iter()
        .filter(|chunk| chunk.stream == Stream::Output)
        .map(|chunk| String::from_utf8_lossy(&chunk.data).into_owned())
        .collect();
    assert_eq!(said, "65534\n65534 100\nheard\n0022\n", "{}", machine.output(key(1)));
}

#[tokio::test]
async fn a_run_that_was_forgotten_leaves_nothing() {
    let machine = Machine::new();
    let exit = machine.run(key(1), machine.job("true")).await;
    assert_eq!(outcome(&exit), Outcome::Succeeded);
    let run = machine.directory(key(1)).run().unwrap().unwrap();
    assert_eq!(machine.processes.all().unwrap(), [key(1)]);
    // As its supervisor holds it for another moment.
    let mut held = None;
    eventually("the supervisor has let go", || {
        held = machine.directory(key(1)).lock().unwrap();
        held.is_some()
    })
    .await;
    machine.processes.forget(key(1)).unwrap();
    drop(held);
    machine.processes.forget(key(1)).unwrap();
    assert!(machine.processes.all().unwrap().is_empty());
    for path in [Some(run.socket), Some(run.desk), run.cgroup].into_iter().flatten() {
        assert!(!path.exists(), "{} is left", path.display());
    }
    // One that never was there has nothing to stop.
    let stop = machine.processes.stop(key(1), "me", std::time::Duration::ZERO);
    assert_eq!(soon("a stop of nothing", stop).await.unwrap(), None);
}

#[tokio::test]
async fn no_run_starts_beside_an_older_one_and_what_lives_is_not_forgotten() {
    let machine = Machine::new();
    let first = key(1);
    let second = Key { order: Order { ordinal: 2, ..key(2).order }, ..first };
    let pid = machine.start(first, "sleep 600").await;
    let refused = machine.processes.start(second, machine.job("true")).await.unwrap_err();
    assert!(refused.to_string().contains("run 1"), "{refused}");
    assert!(machine.processes.forget(first).unwrap_err().to_string().contains("still lives"));
    assert!(machine.directory(first).started().unwrap().is_some(), "nothing was deleted");
    assert!(drover_agent::process::Stat::of(pid).is_some());
    soon("the stop", machine.processes.stop(first, "me", Duration::ZERO)).await.unwrap();
    machine.processes.start(second, machine.job("true")).await.unwrap();
    machine.processes.forget(first).unwrap();
}

#[tokio::test]
async fn a_command_has_nothing_open_that_its_agent_was_started_with() {
    let machine = Machine::new();
    // As a careless starter leaves it: open in every program that is started from here.
    let left_open = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::empty()).unwrap();
    let key = key(1);
    machine.processes.start(key, machine.job("ls -l /proc/self/fd | grep -c ' [0-9]* ->'")).await.unwrap();
    soon("the end", machine.processes.ended(key)).await;
    // The three of every program, and the directory that `ls` looks at.
    assert_eq!(machine.output(key).trim(), "4");
}
