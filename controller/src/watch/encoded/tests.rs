//! Many watchers of one registry: what changed is encoded once for all of them, what is not in the registry is told to
//! each as it is when it is told, and what they get is the message that the contract has.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_domain::change::Change;
use drover_domain::command::{Enrollment, NewSession, Wish};
use drover_domain::id::{InstallationId, TokenId};
use drover_domain::lease::Terms;
use drover_domain::name::Name;
use drover_domain::node::NodeFacts;
use drover_domain::spec::Secrets;
use drover_proto::convert::node::render;
use drover_proto::convert::spec;
use drover_proto::v1;
use drover_proto::v1::watch_nodes_response::Item as NodeItem;
use drover_proto::v1::watch_sessions_response::Item as SessionItem;
use futures::StreamExt;

use super::*;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::pki::Authority;
use crate::registry::{Owner, Published, Registry};
use crate::tunnel::Tunnels;
use crate::watch::Subject;
use crate::watch::nodes::Nodes;

const NODE: NodeId = NodeId::from_random([1; 10]);
const SESSION: SessionId = SessionId::from_random([1; 10]);
const WATCHERS: usize = 50;

/// A controller that nobody can call.
fn plane(directory: &Path, clock: &Clock) -> (Plane, Owner) {
    let (installation, metrics) = (InstallationId::from_random([1; 10]), Metrics::default());
    let (registry, owner) = Registry::open(directory, installation, clock.clone(), metrics.clone()).unwrap();
    let authority = Arc::new(Authority::open(directory, installation, clock.clone()).unwrap());
    let plane = Plane {
        registry,
        links: Links::default(),
        tunnels: Tunnels::default(),
        shelf: Shelf::default(),
        terms: Terms::DEFAULT,
        clock: clock.clone(),
        tasks: Tasks::new(),
        metrics,
        authority,
        upkeep: crate::upkeep::Terms::DEFAULT,
        looks: crate::upkeep::Looks::default(),
        data_dir: directory.into(),
    };
    (plane, owner)
}

async fn enroll(plane: &Plane) {
    let (token, secret_hash) = (TokenId::from_random([1; 10]), [1; 32]);
    let lasts = Duration::from_secs(60);
    plane.wish(Wish::CreateToken { id: token, secret_hash, lasts }).await.unwrap();
    let facts = NodeFacts { hostname: "box".into(), slots: 7, ..NodeFacts::default() };
    let asked = Enrollment { token, secret_hash, node: NODE, name: None, facts };
    plane.wish(Wish::Enroll(Box::new(asked))).await.unwrap();
}

async fn create(plane: &Plane) {
    let wire = v1::SessionSpec {
        repository: "https://example.org/a.git".into(),
        command: vec!["true".into()],
        ..v1::SessionSpec::default()
    };
    let new = NewSession {
        id: SESSION,
        project: Name::default_project(),
        name: Name::new("a").unwrap(),
        owner: "me".into(),
        spec: Arc::new(spec::from_wire("spec", wire).unwrap()),
        secrets: Secrets::default(),
        start: true,
        origin: None,
    };
    plane.wish(Wish::CreateSession(Box::new(new))).await.unwrap();
}

/// What many watchers of an empty registry are told of one change.
async fn told<Q: Default>(plane: &Plane, watch: Watch<Q>, change: impl Future<Output = ()>) -> Vec<Piece> {
    let mut watches: Vec<_> =
        (0..WATCHERS).map(|_| watch(plane, &Q::default()).unwrap().into_inner()).collect();
    for watch in &mut watches {
        let _caught_up = watch.next().await.unwrap().unwrap();
    }
    change.await;
    let mut told = Vec::new();
    for watch in &mut watches {
        told.push(watch.next().await.unwrap().unwrap());
    }
    told
}

fn decoded<M: Message + Default>(piece: &Piece) -> M {
    M::decode([piece.own.clone(), piece.shared.clone()].concat().as_slice()).unwrap()
}

/// The same bytes in the same place: they were made once.
fn is_shared(told: &[Piece]) -> bool {
    told.iter().all(|piece| !piece.shared.is_empty() && piece.shared.as_ptr() == told[0].shared.as_ptr())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_changed_is_encoded_once_for_all_its_watchers() {
    let dir = tempfile::tempdir().unwrap();
    let (plane, _owner) = plane(dir.path(), &Clock::system());
    let told = told(&plane, nodes::watch, enroll(&plane)).await;
    assert_eq!(told.len(), WATCHERS);
    assert!(is_shared(&told), "each watcher's node was encoded for itself");
    let said: v1::WatchNodesResponse = decoded(&told[0]);
    assert_eq!(said.resume_position, "1-2");
    assert!(matches!(said.item, Some(NodeItem::Node(node)) if node.id == NODE.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_changed_is_encoded_once_for_all_its_watchers() {
    let dir = tempfile::tempdir().unwrap();
    let (plane, _owner) = plane(dir.path(), &Clock::system());
    let told = told(&plane, session_reads::watch, create(&plane)).await;
    assert_eq!(told.len(), WATCHERS);
    assert!(is_shared(&told), "each watcher's session was encoded for itself");
    let said: v1::WatchSessionsResponse = decoded(&told[0]);
    assert_eq!(said.resume_position, "1-1");
    assert!(matches!(said.item, Some(SessionItem::Session(session)) if session.id == SESSION.to_string()));
}

/// What a watcher is told of the node who looks now.
fn look(plane: &Plane, published: &Published, changes: &[Arc<Change>]) -> (Piece, v1::Node) {
    let told = Nodes(plane.clone()).changed(published, changes).remove(0);
    let piece = Nodes::message("1-2".into(), told);
    let Some(NodeItem::Node(node)) = decoded::<v1::WatchNodesResponse>(&piece).item else {
        panic!("it is a node");
    };
    (piece, node)
}

#[tokio::test]
async fn what_a_watcher_is_told_of_heartbeats_is_as_of_its_own_look() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000);
    let (plane, _owner) = plane(dir.path(), &clock);
    enroll(&plane).await;
    let published = plane.registry.now();
    let changes: Vec<_> = published.recent.after(0, 2).unwrap().cloned().collect();
    let whole = || {
        render(
            &published.fleet,
            published.fleet.node(NODE).unwrap(),
            plane.links.heard_of(NODE, clock.boot()),
        )
    };

    let (first, node) = look(&plane, &published, &changes);
    assert_eq!((node.heartbeat_age, node.load), (None, None), "it was not heard yet");
    assert_eq!(node, whole());
    let load = |runs: u32| Some(v1::NodeLoad { runs, ..v1::NodeLoad::default() });
    plane.links.heard(NODE, clock.boot(), load(3));
    clock.advance(Duration::from_secs(2));
    let (second, node) = look(&plane, &published, &changes);
    assert_eq!((node.heartbeat_age.unwrap().seconds, node.load), (2, load(3)));
    assert_eq!(node, whole());
    plane.links.heard(NODE, clock.boot(), load(4));
    let (third, node) = look(&plane, &published, &changes);
    assert_eq!((node.heartbeat_age.unwrap().seconds, node.load), (0, load(4)));
    assert_eq!(node, whole());
    assert!(is_shared(&[first, second, third]), "the registry's part is the same");
}

#[test]
fn many_who_come_at_once_have_a_thing_encoded_once() {
    let (shelf, made, start) = (Shelf::default(), AtomicUsize::new(0), Barrier::new(8));
    let fleet = Fleet::new(InstallationId::from_random([1; 10]), 1);
    let render = || {
        made.fetch_add(1, Ordering::Relaxed);
        // Takes long enough for the others to come meanwhile.
        (0..10_000).for_each(|_| std::thread::yield_now());
        v1::Node { name: "box".into(), ..v1::Node::default() }
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                shelf.encoded(&fleet, Thing::Node(NODE), Looking::WithOthers, render);
            });
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 1);
}

#[test]
fn a_session_and_a_node_of_the_same_revision_are_two_things() {
    let shelf = Shelf::default();
    let fleet = Fleet::new(InstallationId::from_random([1; 10]), 1);
    let of = |thing, name: &str| {
        let render = || v1::Node { name: name.into(), ..v1::Node::default() };
        shelf.encoded(&fleet, thing, Looking::WithOthers, render)
    };
    let session = of(Thing::Session(SESSION), "a");
    assert_ne!(of(Thing::Node(NODE), "b"), session);
    assert_eq!(of(Thing::Session(SESSION), "c"), session, "it was encoded before");
}

#[test]
fn pieces_are_the_message_that_the_contract_has() {
    let session = v1::Session { id: "ses_a".into(), name: "a".into(), runs: 3, ..v1::Session::default() };
    let head = v1::WatchSessionsResponse { resume_position: "1-2".into(), item: None };
    let piece = Piece::new(&(), session.encode_to_vec().into()).within(&head);
    let item = Some(SessionItem::Session(session));
    assert_eq!(decoded::<v1::WatchSessionsResponse>(&piece), v1::WatchSessionsResponse { item, ..head });

    let load = Some(v1::NodeLoad { runs: 2, ..v1::NodeLoad::default() });
    let (own, shared) =
        (v1::Node { load, ..v1::Node::default() }, v1::Node { name: "b".into(), ..v1::Node::default() });
    let head = v1::WatchNodesResponse { resume_position: "1-3".into(), item: None };
    let piece = Piece::new(&own, shared.encode_to_vec().into()).within(&head);
    let item = Some(NodeItem::Node(v1::Node { load, ..shared }));
    assert_eq!(decoded::<v1::WatchNodesResponse>(&piece), v1::WatchNodesResponse { item, ..head });
}
