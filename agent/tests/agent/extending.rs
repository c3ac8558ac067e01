//! How long a run may go on: signs of life move its deadline up to a cap, a person grants more, a fence ends it; all of it
//! without the agent.

use std::time::Duration;

use drover_agent::runtime::{AskError, Job, Key};
use drover_agent::saga::{Extended, Runs};
use drover_agent::shim::record::{Exit, Limits, Signs};
use drover_daemon::clock::Clock;
use drover_domain::outcome::{Cause, Limit, Outcome};
use drover_domain::time::Timestamp;

use crate::machine::{Groups, Machine, eventually, key, outcome, soon};

const NONE: Signs = Signs { touch: false, output: false, cpu: false };
const OUTPUT: Signs = Signs { output: true, ..NONE };
const CPU: Signs = Signs { cpu: true, ..NONE };

/// Far longer than a busy machine keeps a program from its next sign.
const TIMEOUT: u64 = 1_500;

fn limited(machine: &Machine, script: &str, limits: Limits) -> Job {
    let job = machine.job(script);
    Job { limits: Limits { grace_ms: job.limits.grace_ms, log_bytes: job.limits.log_bytes, ..limits }, ..job }
}

fn extended_by(signs: Signs) -> Limits {
    Limits { timeout_ms: Some(TIMEOUT), extend_signs: signs, max_extensions: Some(1), ..Limits::default() }
}

/// The end of a run that no agent waits for.
async fn end_without_agent(machine: &Machine, key: Key, limits: Limits, script: &str) -> Exit {
    machine.processes.start(key, limited(machine, script, limits)).await.unwrap();
    let directory = machine.directory(key);
    eventually("the exit file is there", || directory.exit().unwrap().is_some()).await;
    directory.exit().unwrap().unwrap()
}

#[tokio::test]
async fn a_run_that_touches_its_heartbeat_lives_until_the_cap_while_there_is_no_agent() {
    let script = "while :; do touch $DROVER_HEARTBEAT; sleep 0.02; done";
    let machine = Machine::new();
    let exit = end_without_agent(&machine, key(1), extended_by(Signs::touch()), script).await;
    assert_eq!(outcome(&exit), Outcome::TimedOut(Limit::Cap));
    let lived = u64::try_from(exit.ended - exit.started.unwrap()).unwrap();
    assert!(lived > TIMEOUT * 3 / 2, "one timeout, and another from the last touch: {lived} ms");
}

#[tokio::test]
async fn a_run_that_gives_no_sign_that_counts_has_its_timeout_and_no_more() {
    // It says and does a lot.
    let script = "echo begun; touch $DROVER_HEARTBEAT; while :; do echo x; done";
    let machine = Machine::new();
    let exit = end_without_agent(&machine, key(1), extended_by(NONE), script).await;
    assert_eq!(outcome(&exit), Outcome::TimedOut(Limit::Run));
}

#[tokio::test]
async fn output_and_work_move_the_deadline_where_they_count() {
    let table = [
        (Groups::With, OUTPUT, "while :; do echo x; sleep 0.02; done", Limit::Cap),
        (Groups::With, CPU, "setsid sh -c 'while :; do :; done' & wait", Limit::Cap),
        (Groups::Without, CPU, "setsid sh -c 'while :; do :; done' & wait", Limit::Cap),
        // Work of many short programs, each of which is gone when it is looked at.
        (
            Groups::Without,
            CPU,
            "while :; do (i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done); done",
            Limit::Cap,
        ),
        (Groups::With, CPU, "sleep 600", Limit::Run),
        (Groups::Without, CPU, "sleep 600", Limit::Run),
    ];
    let ends = (0..).zip(table).map(async |(number, (groups, signs, script, limit))| {
        let machine = Machine::with(groups);
        let exit = end_without_agent(&machine, key(number), extended_by(signs), script).await;
        assert_eq!(outcome(&exit), Outcome::TimedOut(limit), "{script} {groups:?}");
    });
    futures::future::join_all(ends).await;
}

#[tokio::test]
async fn a_run_that_works_in_silence_is_not_idle_unless_only_words_count() {
    let script = "end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done";
    for groups in [Groups::With, Groups::Without] {
        let machine = Machine::with(groups);
        let idle = Limits { idle_ms: Some(600), ..Limits::default() };
        let exit = machine.run(key(1), limited(&machine, script, idle)).await;
        assert_eq!(outcome(&exit), Outcome::Succeeded, "{groups:?}");
        let words = Limits { idle_signs: OUTPUT, ..idle };
        let exit = machine.run(key(2), limited(&machine, "while :; do :; done", words)).await;
        assert_eq!(outcome(&exit), Outcome::TimedOut(Limit::Idle), "{groups:?}");
    }
}

#[tokio::test]
async fn what_is_granted_moves_the_deadline_once_and_is_known_to_the_next_agent() {
    let mut machine = Machine::new();
    let minute = Limits { timeout_ms: Some(60_000), ..Limits::default() };
    machine.processes.start(key(1), limited(&machine, "sleep 600", minute)).await.unwrap();
    let began = machine.directory(key(1)).started().unwrap().unwrap().started;
    let (session, order) = (key(1).session, key(1).order);
    let (hour, two) = (Duration::from_secs(3_600), Duration::from_secs(7_200));
    let table =
        [(hour, 1, 3_660_000, 1), (hour, 1, 3_660_000, 1), (two, 3, 7_260_000, 3), (hour, 1, 7_260_000, 3)];
    for (total, grants, deadline, extensions) in table {
        let runs = &machine.processes as &dyn Runs;
        let news = runs.extend(session, order, total, grants).await.unwrap();
        assert_eq!(news.extensions, extensions, "{total:?}");
        assert_near(news.deadline.unwrap(), began + deadline);
    }
    machine.restart_agent();
    let runs = &machine.processes as &dyn Runs;
    let told = soon("how it stands", runs.extended(session, order, 2)).await;
    assert_eq!(told.extensions, 3);
    let news = runs.extended(session, order, 3);
    let grant = async { runs.extend(session, order, two + hour, 4).await.unwrap() };
    let (news, granted) = soon("the news", futures::future::join(news, grant)).await;
    assert_eq!((news.extensions, granted.extensions), (4, 4));
    assert_near(news.deadline.unwrap(), granted.deadline.unwrap().millis());
    machine.processes.stop(key(1), "me", Duration::ZERO).await.unwrap();
    let fault = runs.extend(session, order, two, 9).await.unwrap_err();
    assert!(!fault.retryable && fault.text.contains("is over"), "{fault:?}");
}

/// The wall clock and the clock that counts from boot are read one after the other.
fn assert_near(told: Timestamp, expected: i64) {
    assert!((told.millis() - expected).abs() < 2_000, "{told:?} is not {expected}");
}

#[tokio::test]
async fn who_waits_is_told_when_a_sign_of_life_moves_the_deadline() {
    let machine = Machine::new();
    let script = "while :; do touch $DROVER_HEARTBEAT; sleep 0.02; done";
    let limits = Limits { max_extensions: None, ..extended_by(Signs::touch()) };
    machine.processes.start(key(1), limited(&machine, script, limits)).await.unwrap();
    let began = machine.directory(key(1)).started().unwrap().unwrap().started;
    let first = soon("the first", machine.processes.extended(key(1), 0)).await;
    let Extended { deadline: Some(deadline), extensions } = first else { panic!("{first:?}") };
    assert!(extensions >= 1 && deadline.millis() > began + 1_500, "{first:?} of {began}");
    let second = soon("the second", machine.processes.extended(key(1), extensions)).await;
    assert!(second.extensions > extensions && second.deadline > first.deadline, "{second:?}");
    machine.processes.stop(key(1), "me", Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_fence_that_passes_ends_the_run_and_one_that_is_renewed_does_not() {
    let machine = Machine::new();
    let (runs, order, session) = (&machine.processes as &dyn Runs, key(1).order, key(1).session);
    machine.start(key(1), "sleep 600").await;
    let begin = Clock::system().boot();
    let (early, late) = (begin + Duration::from_millis(1_000), begin + Duration::from_millis(3_000));
    for until in [early, late, early] {
        runs.fence(session, order, until).await.unwrap();
    }
    let exit = soon("the end", machine.processes.ended(key(1))).await;
    assert!(Clock::system().boot() >= late, "it was ended too early");
    assert_eq!(outcome(&exit), Outcome::Interrupted(Cause::Agent));
    assert!(exit.text.as_deref().unwrap().contains("lost contact"), "{exit:?}");
    let refused = machine.processes.fence(key(1), late).await.unwrap_err();
    assert!(matches!(refused, AskError::Over), "{refused}");
}
