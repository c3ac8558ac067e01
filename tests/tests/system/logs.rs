//! Logs as they are followed from far away: through the controller, over restarts of both sides.

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{Client, script};
use drover_tests::follower::Follower;
use drover_tests::gate::{Gate, counting, is_whole};
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::repository::Repository;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_lose_nothing_and_see_nothing_twice_over_restarts_of_agent_and_controller() {
    let mut there = Installation::start(1, 2).await;
    let repository = Repository::default();
    let mut gate = Gate::new(&there.path("gate"));
    let client = there.client();
    client.create(script("counted", &repository.path, &counting(&gate, 0))).await.unwrap();
    client.until("counted", State::Running).await;

    let mut droverctl = Follower::start(&there, "counted");
    let following = follow(client.clone());
    let restarts = async {
        droverctl.sees_more(10).await;
        there.kill_and_start_agent(0);
        droverctl.sees_more(10).await;
        there.kill_controller();
        there.start_controller().await;
        droverctl.sees_more(10).await;
        let agent = there.agents[0].take().unwrap();
        assert!(tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap().success());
        there.start_agent(0, 2);
        droverctl.sees_more(10).await;
        gate.open();
    };
    let (followed, ()) = tokio::join!(following, restarts);
    is_whole(&followed).unwrap_or_else(|why| panic!("who goes on by position: {why}"));
    assert!(droverctl.end().await.success());
    let printed = droverctl.printed();
    is_whole(&printed).unwrap_or_else(|why| panic!("droverctl logs -f: {why}"));
    assert_eq!(printed, followed);
}

/// Follows to the end of the run, and goes on where it was whenever it is cut off.
async fn follow(client: Client) -> String {
    let mut text = Vec::new();
    let mut after = None;
    loop {
        let ask = v1::StreamLogsRequest {
            session: "counted".into(),
            follow: true,
            after: after.clone(),
            ..Default::default()
        };
        let stream = eventually("the log is there", || {
            let (mut sessions, ask) = (client.sessions(), ask.clone());
            async move { sessions.stream_logs(ask).await.ok() }
        });
        let mut stream = stream.await.into_inner();
        loop {
            match stream.message().await {
                Ok(Some(piece)) => {
                    let chunk = piece.chunk.unwrap();
                    text.extend_from_slice(&chunk.data);
                    after = chunk.next;
                }
                Ok(None) => return String::from_utf8(text).unwrap(),
                Err(_) => break,
            }
        }
    }
}
