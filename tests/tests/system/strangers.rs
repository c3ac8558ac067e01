//! Whoever means no good or is of another installation: kept out, in words, and at nobody else's cost.

use drover_proto::v1;
use drover_proto::v1::NodeStanding;
use drover_tests::client::{Client, script};
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::repository::Repository;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tonic::Code;

/// Often enough that a test sees several, with a lease that a busy machine can keep.
const BEATS: [(&str, &str); 3] =
    [("DROVER_LEASE_HEARTBEAT", "500ms"), ("DROVER_LEASE_LEASE", "20s"), ("DROVER_LEASE_LOST_AFTER", "60s")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_another_installation_and_a_client_that_trusts_another_are_kept_out() {
    let (there, mut another) = (Installation::start(0, 0).await, Installation::start(1, 1).await);
    let ca = another.path("controller").join("ca.crt").display().to_string();
    let ran = there.run(&["--ca", &ca, "ps"]);
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    assert!(ran.stderr.contains("certificate"), "{}", ran.stderr);

    // The other one's agent comes to this controller.
    another.agents[0].take().unwrap().kill();
    let mut astray = another.command("drover-agent");
    astray.args(["--controller", &there.address()]).arg("--state-dir").arg(another.state_of(0));
    let log = another.path("astray.log");
    let program = drover_tests::programs::Program::spawn(astray, &log);
    eventually("it says why it is not let in", || async {
        program.said().contains("certificate").then_some(())
    })
    .await;
    let nodes =
        there.client().nodes().list_nodes(v1::ListNodesRequest::default()).await.unwrap().into_inner();
    assert_eq!(nodes.nodes, vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_silent_connections_and_messages_that_are_too_long_delay_no_heartbeat() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let there = Installation::with(&BEATS, 1, 1).await;
    let client = there.client();
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(TcpStream::connect(there.address()).await.unwrap());
    }
    for _ in 0..3 {
        let mut asked = script("long", &there.path("none"), "true");
        asked.secrets.insert("A".into(), "x".repeat(5 << 20));
        let status = there.client().create(asked).await.unwrap_err();
        assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
        it_beats(&client).await;
    }
    assert_eq!(client.all().await.unwrap(), vec![]);
    let lost = client.happened().await.unwrap().get("node_standing").copied();
    assert_eq!(lost, None, "the node was reachable all the time");
    // The crowd is still there, and work gets through.
    let repository = Repository::default();
    client.create(script("work", &repository.path, "true")).await.unwrap();
    client.until("work", v1::SessionState::Ready).await;
    drop(crowd);
}

/// Waits for three heartbeats.
async fn it_beats(client: &Client) {
    let mut last = None;
    let mut beats = 0;
    while beats < 3 {
        let age = eventually("the node's age is known", || async {
            let asked = v1::GetNodeRequest { node: "node-0".into() };
            let node = client.nodes().get_node(asked).await.ok()?.into_inner().node?;
            assert_eq!(node.standing(), NodeStanding::Reachable);
            let age = node.heartbeat_age?;
            let millis = age.seconds * 1000 + i64::from(age.nanos / 1_000_000);
            (Some(millis) != last).then_some(millis)
        })
        .await;
        // Younger than before: it was heard again.
        beats += usize::from(last.is_some_and(|last| age < last));
        last = Some(age);
    }
}
