//! A node is taken out of service and comes back, as its operator does it.

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{pid, script};
use drover_tests::gate::Gate;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::programs::is_alive;
use drover_tests::repository::Repository;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_ends_its_runs_with_their_work_saved_and_begins_none_until_it_is_uncordoned() {
    let mut there = Installation::start(1, 4).await;
    let repository = Repository::default();
    let mut gate = Gate::new(&there.path("gate"));
    let client = there.client();
    let work = "echo work > new.txt; echo ready; while :; do sleep 60; done";
    client.create(script("endless", &repository.path, work)).await.unwrap();
    client.create(script("short", &repository.path, &gate.wait())).await.unwrap();
    let endless = client.until("endless", State::Running).await;
    client.until("short", State::Running).await;
    eventually("it has worked", || async { (client.log("endless").await.ok()? == "ready\n").then_some(()) })
        .await;

    let ran = there.run(&["node", "drain", "node-0", "--wait-timeout", "100ms"]);
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    assert!(ran.stderr.contains("2 runs are left"), "{}", ran.stderr);
    // Neither forgets it.
    there.kill_controller();
    there.kill_and_start_agent(0);
    there.start_controller().await;
    there.all_linked().await;
    let ran = there.run(&["node", "ls"]);
    assert!(ran.stdout.contains("draining"), "{}", ran.stdout);
    assert!(is_alive(pid(&endless).unwrap()), "without a deadline nothing is stopped");
    gate.open();
    client.until("short", State::Ready).await;

    let ran = there.run(&["node", "drain", "node-0", "--deadline", "0s"]);
    assert_eq!(ran.code, 4, "it asks first: {}", ran.stderr);
    let ran = there.run(&["node", "drain", "node-0", "--deadline", "0s", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("endless: stopped"), "{}", ran.stderr);
    assert!(ran.stderr.contains("2 sessions keep their files"), "{}", ran.stderr);
    assert!(!is_alive(pid(&endless).unwrap()));
    let ended = client.until("endless", State::Ready).await;
    let run = ended.last_run.unwrap();
    assert_eq!(run.outcome(), v1::RunOutcome::Stopped);
    assert!(run.detail.contains("the drain of node-0"), "{}", run.detail);
    let saved = repository.git(&["show", &format!("{}:new.txt", ended.checkpoint.unwrap().reference)]);
    assert_eq!(saved, "work\n", "its work was saved before it was stopped");

    let ran = there.run(&["start", "short", "--no-wait"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = there.run(&["why", "short"]);
    assert!(ran.stdout.contains("draining"), "{}", ran.stdout);
    assert_eq!(client.get("short").await.unwrap().state(), State::Queued);
    assert_eq!(there.run(&["node", "uncordon", "node-0"]).code, 0);
    let again = client.until("short", State::Ready).await;
    assert_eq!(again.runs, 2);
}
