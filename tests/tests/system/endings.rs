//! Ends in order: nothing that is open holds them up, and they leave runs going.

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{pid, script};
use drover_tests::gate::{Gate, counting, is_whole};
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::programs::{Program, is_alive};
use drover_tests::repository::Repository;

/// Ends it on a thread of its own, as streams have to be served meanwhile.
async fn ends_in_order(program: Program) {
    let log = program.log.clone();
    let status = tokio::task::spawn_blocking(|| program.terminate()).await.unwrap();
    let said = std::fs::read_to_string(log).unwrap();
    assert!(status.success(), "{status}: {said}");
    for complaint in ["had not ended", "was cut off", "panicked"] {
        assert!(!said.contains(complaint), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_and_controller_end_although_watches_and_followers_are_open_and_runs_go_on() {
    let mut there = Installation::start(1, 2).await;
    let repository = Repository::default();
    let mut gate = Gate::new(&there.path("gate"));
    let client = there.client();
    client.create(script("long", &repository.path, &counting(&gate, 5))).await.unwrap();
    let before = pid(&client.until("long", State::Running).await).unwrap();

    let mut sessions =
        client.sessions().watch_sessions(v1::WatchSessionsRequest::default()).await.unwrap().into_inner();
    let mut nodes = client.nodes().watch_nodes(v1::WatchNodesRequest::default()).await.unwrap().into_inner();
    let mut events =
        client.events().watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
    sessions.message().await.unwrap().unwrap();
    nodes.message().await.unwrap().unwrap();
    events.message().await.unwrap().unwrap();
    let follow = v1::StreamLogsRequest { session: "long".into(), follow: true, ..Default::default() };
    let mut logs = client.sessions().stream_logs(follow.clone()).await.unwrap().into_inner();
    logs.message().await.unwrap().unwrap();

    ends_in_order(there.agents[0].take().unwrap()).await;
    assert!(is_alive(before), "the run goes on without the agent");
    while let Ok(Some(_)) = logs.message().await {}
    there.start_agent(0, 2);
    let mut logs = eventually("it is followed again", || {
        let (mut client, follow) = (client.sessions(), follow.clone());
        async move { client.stream_logs(follow).await.ok() }
    })
    .await
    .into_inner();
    logs.message().await.unwrap().unwrap();

    ends_in_order(there.controller.take().unwrap()).await;
    assert!(is_alive(before), "the run goes on without the controller");
    // Each stream ends, and says that it is not the caller's fault.
    while let Ok(Some(_)) = logs.message().await {}
    while let Ok(Some(_)) = sessions.message().await {}
    while let Ok(Some(_)) = nodes.message().await {}
    while let Ok(Some(_)) = events.message().await {}

    there.start_controller().await;
    let after = client.until("long", State::Running).await;
    assert_eq!(pid(&after), Some(before));
    gate.open();
    let ended = client.until("long", State::Ready).await;
    assert_eq!(ended.last_run.unwrap().exit_code, Some(5));
    let log = eventually("the log can be read", || async { client.log("long").await.ok() }).await;
    is_whole(&log).unwrap();
}
