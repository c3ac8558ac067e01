//! Watches: nothing is missed and nothing comes twice, also over a pause and a restart, and they end with the controller.

use std::time::Duration;

use drover_proto::node_v1::link_request::Message as Up;
use drover_proto::node_v1::link_response::Message as Down;
use drover_proto::node_v1::{Heartbeat, LinkRequest};
use drover_proto::v1;
use drover_proto::v1::watch_nodes_response::Item as NodeItem;
use drover_proto::v1::watch_sessions_response::Item;
use tonic::{Code, Streaming};

use crate::harness::{Agent, controller, create, enroll, link, nodes, sessions};

async fn until_caught_up(watch: &mut Streaming<v1::WatchSessionsResponse>) -> (Vec<String>, String) {
    let mut names = Vec::new();
    loop {
        let next =
            tokio::time::timeout(Duration::from_secs(20), watch.message()).await.expect("something comes");
        let next = next.unwrap().unwrap();
        match next.item.unwrap() {
            Item::Session(session) => names.push(session.name),
            Item::CaughtUp(_) => return (names, next.resume_position),
            Item::Removed(_) | Item::Bookmark(_) => {}
        }
    }
}

async fn next_name(watch: &mut Streaming<v1::WatchSessionsResponse>) -> (String, String) {
    loop {
        let next = watch.message().await.unwrap().unwrap();
        if let Some(Item::Session(session)) = next.item {
            return (session.name, next.resume_position);
        }
    }
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_changes() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    client.create_session(create("a")).await.unwrap();
    let mut watch = client.watch_sessions(v1::WatchSessionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(until_caught_up(&mut watch).await.0, ["a"]);
    client.create_session(create("b")).await.unwrap();
    assert_eq!(next_name(&mut watch).await.0, "b");
}

#[tokio::test]
async fn a_watch_resumes_where_it_was_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = controller(dir.path()).await;
    let mut client = sessions(&first).await;
    client.create_session(create("a")).await.unwrap();
    let mut watch = client.watch_sessions(v1::WatchSessionsRequest::default()).await.unwrap().into_inner();
    let (_, position) = until_caught_up(&mut watch).await;
    client.create_session(create("b")).await.unwrap();
    assert!(first.shutdown().await);
    let second = controller(dir.path()).await;
    let mut client = sessions(&second).await;
    let resume = v1::WatchSessionsRequest { resume_position: position, ..Default::default() };
    let mut watch = client.watch_sessions(resume).await.unwrap().into_inner();
    until_caught_up(&mut watch).await;
    assert_eq!(next_name(&mut watch).await.0, "b", "and not a, which was told before");
}

#[tokio::test]
async fn a_position_of_another_registry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    for position in ["7-1", "1-ffff", "nonsense"] {
        let resume = v1::WatchSessionsRequest { resume_position: position.into(), ..Default::default() };
        assert_eq!(
            client.watch_sessions(resume).await.map(drop).unwrap_err().code(),
            Code::OutOfRange,
            "{position}"
        );
    }
}

#[tokio::test]
async fn a_shutdown_ends_although_watches_are_open_and_tells_them() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    let mut watch = client.watch_sessions(v1::WatchSessionsRequest::default()).await.unwrap().into_inner();
    until_caught_up(&mut watch).await;
    assert!(running.shutdown().await, "it ended in time");
    let end = watch.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_watch_with_a_filter_says_what_no_longer_matches() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    let ask = v1::WatchSessionsRequest { filter: "state=queued".into(), ..Default::default() };
    let mut watch = client.watch_sessions(ask).await.unwrap().into_inner();
    until_caught_up(&mut watch).await;
    let id = client.create_session(create("a")).await.unwrap().into_inner().session.unwrap().id;
    assert_eq!(next_name(&mut watch).await.0, "a");
    client
        .delete_session(v1::DeleteSessionRequest { session: "a".into(), ..Default::default() })
        .await
        .unwrap();
    let gone = watch.message().await.unwrap().unwrap().item.unwrap();
    assert_eq!(gone, Item::Removed(id));
}

/// Says how busy the node is, and waits until that is known.
async fn beat(agent: &mut Agent, load: v1::NodeLoad) {
    let beat = Heartbeat { number: 1, load: Some(load) };
    agent.up.send(LinkRequest { message: Some(Up::Heartbeat(beat)) }).await.unwrap();
    while !matches!(agent.next().await, Down::HeartbeatSeen(_)) {}
}

async fn next_node(watch: &mut Streaming<v1::WatchNodesResponse>) -> (v1::Node, String) {
    loop {
        let next =
            tokio::time::timeout(Duration::from_secs(20), watch.message()).await.expect("something comes");
        let next = next.unwrap().unwrap();
        if let Some(NodeItem::Node(node)) = next.item {
            return (node, next.resume_position);
        }
    }
}

#[tokio::test]
async fn a_watch_of_nodes_tells_what_they_are_and_how_they_are_heard_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let (_, identity) = enroll(&running).await;
    let mut agent = link(&running, identity, vec![]).await.unwrap();
    let load = v1::NodeLoad { runs: 3, ..v1::NodeLoad::default() };
    beat(&mut agent, load).await;
    let mut client = nodes(&running).await;
    let mut watch = client.watch_nodes(v1::WatchNodesRequest::default()).await.unwrap().into_inner();
    let (node, _) = next_node(&mut watch).await;
    assert_eq!((node.facts.unwrap().slots, node.cordoned, node.load), (100, false, Some(load)));

    let cordon = v1::CordonNodeRequest { node: node.id.clone(), ..Default::default() };
    client.cordon_node(cordon).await.unwrap();
    let (changed, position) = next_node(&mut watch).await;
    assert_eq!((changed.facts.unwrap().slots, changed.cordoned, changed.load), (100, true, Some(load)));
    assert!(changed.heartbeat_age.is_some());

    let uncordon = v1::UncordonNodeRequest { node: node.id, ..Default::default() };
    client.uncordon_node(uncordon).await.unwrap();
    let resume = v1::WatchNodesRequest { resume_position: position };
    let mut watch = client.watch_nodes(resume).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap().item;
    assert!(matches!(first, Some(NodeItem::CaughtUp(_))), "what it was told before does not come again");
    assert!(!next_node(&mut watch).await.0.cordoned);
    let odd = v1::WatchNodesRequest { resume_position: "1-ffff".into() };
    assert_eq!(client.watch_nodes(odd).await.map(drop).unwrap_err().code(), Code::OutOfRange);
}
