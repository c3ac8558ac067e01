//! Logs as they are followed from far away: through the controller, over restarts of both sides.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{Client, script};
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

    let output = there.path("followed");
    let mut droverctl = there.droverctl(&["logs", "counted", "-f"]);
    droverctl.stdout(File::create(&output).unwrap()).stderr(Stdio::null());
    let mut droverctl = Reaped(droverctl.spawn().unwrap());
    let following = follow(client.clone());
    let restarts = async {
        grows(&output).await;
        there.kill_and_start_agent(0);
        grows(&output).await;
        there.kill_controller();
        there.start_controller().await;
        grows(&output).await;
        let agent = there.agents[0].take().unwrap();
        assert!(tokio::task::spawn_blocking(|| agent.terminate()).await.unwrap().success());
        there.start_agent(0, 2);
        grows(&output).await;
        gate.open();
    };
    let (followed, ()) = tokio::join!(following, restarts);
    is_whole(&followed).unwrap_or_else(|why| panic!("who goes on by position: {why}"));
    let ended = eventually("droverctl ends with the run", || {
        let status = droverctl.0.try_wait().unwrap();
        async move { status }
    });
    assert!(ended.await.success());
    let printed = std::fs::read_to_string(&output).unwrap();
    is_whole(&printed).unwrap_or_else(|why| panic!("droverctl logs -f: {why}"));
    assert_eq!(printed, followed);
}

/// Waits for ten more lines.
async fn grows(output: &Path) {
    let lines = || std::fs::read_to_string(output).unwrap().lines().count();
    let goal = lines() + 10;
    eventually("the follower sees more", || async { (lines() >= goal).then_some(()) }).await;
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

/// Killed if the test fails before it has ended.
struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_kept_up_to_its_cap_and_what_is_dropped_is_told() {
    const LINES: usize = 20_000;
    const CAP: usize = 256 * 1024;
    let there = Installation::start(1, 2).await;
    let repository = Repository::default();
    let client = there.client();
    let text = format!("seq -f 'line %099g' {LINES}");
    let mut asked = script("flood", &repository.path, &text);
    asked.spec.as_mut().unwrap().log_bytes = Some(CAP as u64);
    client.create(asked).await.unwrap();
    client.until("flood", State::Ready).await;

    let ask = v1::StreamLogsRequest { session: "flood".into(), ..Default::default() };
    let mut stream = client.sessions().stream_logs(ask).await.unwrap().into_inner();
    let (mut kept, mut dropped) = (Vec::new(), 0);
    while let Some(piece) = stream.message().await.unwrap() {
        let chunk = piece.chunk.unwrap();
        kept.extend_from_slice(&chunk.data);
        dropped += chunk.dropped_bytes;
    }
    let line = "line ".len() + 99 + 1;
    assert!(dropped > 0 && kept.len() <= CAP, "{} kept, {dropped} dropped", kept.len());
    assert_eq!(kept.len() + usize::try_from(dropped).unwrap(), LINES * line, "every byte is kept or counted");
    let text = String::from_utf8(kept).unwrap();
    let last = text.lines().next_back().unwrap();
    assert!(last.ends_with(&LINES.to_string()), "what is newest is kept: {last}");
}
