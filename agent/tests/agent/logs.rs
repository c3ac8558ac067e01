//! Logs of real runs: floods stay under their cap, and followers see everything once.

use std::fs;
use std::time::Duration;

use drover_agent::logs::From;
use drover_agent::runtime::Job;
use drover_agent::shim::record::Limits;
use drover_domain::outcome::Outcome;

use crate::machine::{Machine, key, outcome, soon, text};

#[tokio::test]
async fn a_flood_stays_under_its_cap_and_what_is_dropped_is_counted() {
    let machine = Machine::new();
    let job = machine.job("head -c 40000000 /dev/zero | tr '\\0' 'y'; echo; echo the end");
    let cap = 1_000_000;
    let exit = machine.run(key(1), Job { limits: Limits { log_bytes: cap, ..job.limits }, ..job }).await;
    assert_eq!(outcome(&exit), Outcome::Succeeded);
    let directory = machine.directory(key(1)).log();
    let on_disk: u64 =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk <= cap && on_disk > cap / 2, "{on_disk}");
    let chunks = machine.log(key(1));
    let kept: u64 = chunks.iter().map(|chunk| chunk.data.len() as u64).sum();
    let dropped: u64 = chunks.iter().map(|chunk| chunk.dropped).sum();
    assert_eq!(kept + dropped, 40_000_009);
    assert_eq!((exit.log_bytes, exit.log_dropped), (Some(40_000_009), Some(dropped)));
    assert!(text(&chunks).ends_with("y\nthe end\n"));
}

#[tokio::test]
async fn a_follower_that_is_begun_anew_sees_every_line_once_and_ends_with_the_run() {
    let mut machine = Machine::new();
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; sleep 0.2; echo last";
    machine.start(key(1), script).await;
    let (mut seen, mut from, mut is_over) = (String::new(), From::Beginning, false);
    while !is_over {
        let reader = machine.processes.read_log(key(1), &[from]).unwrap();
        let mut follow = machine.processes.follow(key(1), reader);
        for _ in 0..300 {
            let Some(chunk) = soon("more", follow.next()).await.unwrap() else {
                is_over = true;
                break;
            };
            seen += &String::from_utf8_lossy(&chunk.data);
            from = From::After(chunk.next);
            assert_eq!(chunk.dropped, 0);
        }
        machine.restart_agent();
    }
    let wanted: String = (1..=3000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(seen, wanted + "last\n");
}

#[tokio::test]
async fn a_follower_that_stops_waiting_loses_nothing() {
    let machine = Machine::new();
    machine.start(key(1), "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done").await;
    let reader = machine.processes.read_log(key(1), &[]).unwrap();
    let mut follow = machine.processes.follow(key(1), reader);
    let mut seen = String::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(1), follow.next()).await {
            Ok(Ok(Some(chunk))) => seen += &String::from_utf8_lossy(&chunk.data),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => {}
        }
    }
    assert_eq!(seen, "1\n2\n3\n4\n5\n");
}
