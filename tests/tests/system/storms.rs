//! Sessions that take all they can get: a fork bomb, a flood of output. Everybody else is served beside them, and what
//! they may take is bounded. `DROVER_STORM` says for how many seconds they last.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::follower::Follower;
use drover_tests::gate::{Gate, counting, is_whole};
use drover_tests::ground::processes_naming;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::repository::Repository;
use rustix::process::geteuid;

/// There is one on every system.
const USER: &str = "nobody";
const LEASE: Duration = Duration::from_secs(4);

/// Longer than a lease, so that no beat of before is what keeps the node.
fn length() -> Duration {
    let asked = std::env::var("DROVER_STORM").ok().map(|text| text.parse().unwrap());
    Duration::from_secs(asked.unwrap_or(6)).max(LEASE + LEASE / 4)
}

/// Forks as often as it is let and does not end when it is told to.
const BOMB: &str = r#"
exec prlimit --nproc=48 perl -e '
$SIG{TERM} = "IGNORE"; $| = 1; print "ready\n";
while (1) { my $child = fork; setpgrp if defined $child && !$child; }'
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "who lets it last wants to know how late a beat was")]
async fn beside_a_fork_bomb_beats_come_in_time_and_its_stop_leaves_nothing_of_it() {
    assert!(geteuid().is_root(), "only root can run sessions as others");
    let lease = format!("{}s", LEASE.as_secs());
    let terms = [
        ("DROVER_LEASE_HEARTBEAT", "500ms"),
        ("DROVER_LEASE_LEASE", lease.as_str()),
        ("DROVER_LEASE_LOST_AFTER", "10m"),
    ];
    let there = Installation::with(&terms, 1, 2).await;
    let repository = Repository::default();
    repository.give_to(USER);
    let client = there.client();
    let standings = || async { client.happened().await.unwrap().get("node_standing").copied() };
    let before = standings().await;
    let mut asked = script("bomb", &repository.path, BOMB);
    asked.spec.as_mut().unwrap().run_as = USER.into();
    client.create(asked).await.unwrap();
    let workspace = PathBuf::from(client.until("bomb", State::Running).await.workspace.unwrap().path);
    eventually("it has gone off", || async { (processes_naming(&workspace).len() >= 24).then_some(()) })
        .await;

    let clock = Clock::system();
    let (began, latest) = (clock.boot(), Cell::new(Duration::ZERO));
    eventually("it has raged for longer than a lease", || async {
        let ask = v1::GetNodeRequest { node: "node-0".into() };
        let node = client.nodes().get_node(ask).await.unwrap().into_inner().node.unwrap();
        assert_eq!(node.standing(), v1::NodeStanding::Reachable);
        latest.set(latest.get().max(node.heartbeat_age.unwrap().try_into().unwrap()));
        (clock.boot().saturating_sub(began) > length()).then_some(())
    })
    .await;
    assert!(processes_naming(&workspace).len() >= 24, "it rages still");

    let grace = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let ask = v1::StopSessionRequest { session: "bomb".into(), grace, ..Default::default() };
    client.sessions().stop_session(ask).await.unwrap();
    let ended = client.until("bomb", State::Ready).await;
    assert_eq!(processes_naming(&workspace), [0; 0]);
    assert_eq!(ended.last_run.unwrap().outcome(), v1::RunOutcome::Stopped);
    assert_eq!(standings().await, before, "its node was not given up for a moment");
    println!("the latest beat came after {:?} of a lease of {LEASE:?}", latest.get());
}

const CAP: u64 = 4 << 20;
/// Segments come and go while they are added up.
const MOST: u64 = CAP + CAP / 8;

/// Writes numbered lines as fast as it can until the gate opens, then how many there were into the file.
fn flood(gate: &Gate, counted: &Path) -> String {
    format!(
        "n=0; until {}; do seq -f 'line %099.0f' $((n+1)) $((n+1000)); n=$((n+1000)); done; echo $n > '{}'",
        gate.is_open(),
        counted.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "who lets it last wants to know how much came")]
async fn a_flood_stays_under_its_cap_all_along_and_the_lines_of_others_arrive_meanwhile() {
    let there = Installation::start(1, 2).await;
    let repository = Repository::default();
    let (mut end_of_flood, mut end_of_counting) =
        (Gate::new(&there.path("flood")), Gate::new(&there.path("counting")));
    let counted = there.path("counted");
    let client = there.client();
    client.create(script("other", &repository.path, &counting(&end_of_counting, 0))).await.unwrap();
    client.until("other", State::Running).await;
    let mut follower = Follower::start(&there, "other");
    let mut asked = script("flood", &repository.path, &flood(&end_of_flood, &counted));
    asked.spec.as_mut().unwrap().log_bytes = Some(CAP);
    let id = client.create(asked).await.unwrap().id;
    let runs = there.state_of(0).join("runs").join(id);
    eventually("its log is full", || async { (size(&runs) > CAP / 2).then_some(()) }).await;

    let clock = Clock::system();
    let (began, mut before, mut slowest) = (clock.boot(), clock.boot(), Duration::ZERO);
    let seen = follower.lines();
    while clock.boot().saturating_sub(began) < length() {
        follower.sees_more(1).await;
        let now = clock.boot();
        slowest = slowest.max(now.saturating_sub(before));
        before = now;
        let size = size(&runs);
        assert!(size <= MOST, "{size} bytes on the disk");
    }
    let seen = follower.lines() - seen;
    assert!(!counted.exists(), "it floods still");
    end_of_flood.open();
    client.until("flood", State::Ready).await;
    end_of_counting.open();
    assert!(follower.end().await.success());
    is_whole(&follower.printed()).unwrap();

    let lines: u64 = std::fs::read_to_string(&counted).unwrap().trim().parse().unwrap();
    let written = lines * ("line ".len() as u64 + 99 + 1);
    let (kept, dropped) = log_of(&there, "flood").await;
    assert_eq!(kept.len() as u64 + dropped, written, "every byte is kept or counted");
    assert!(size(&runs) <= MOST && dropped > 0, "{} kept, {dropped} dropped", kept.len());
    let text = String::from_utf8(kept).unwrap();
    let last = text.lines().next_back().unwrap();
    assert!(last.ends_with(&lines.to_string()), "what is newest is kept: {last}");
    println!(
        "{} MiB in {:?}; beside it {seen} lines, the slowest after {slowest:?}",
        written >> 20,
        length()
    );
}

/// What is kept of a log, and how much was dropped.
async fn log_of(there: &Installation, session: &str) -> (Vec<u8>, u64) {
    let ask = v1::StreamLogsRequest { session: session.into(), ..Default::default() };
    let mut stream = there.client().sessions().stream_logs(ask).await.unwrap().into_inner();
    let (mut kept, mut dropped) = (Vec::new(), 0);
    while let Some(piece) = stream.message().await.unwrap() {
        let chunk = piece.chunk.unwrap();
        kept.extend_from_slice(&chunk.data);
        dropped += chunk.dropped_bytes;
    }
    (kept, dropped)
}

/// The bytes of all files below; what goes meanwhile has none.
fn size(directory: &Path) -> u64 {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}
