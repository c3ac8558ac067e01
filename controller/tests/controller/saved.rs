//! The trash, as nodes that only speak the wire have it: who is asked, what is taken for true, and what is said when one
//! cannot be asked or says something else.

use std::sync::Mutex;

use drover_controller::app::Running;
use drover_proto::node_v1::assignment::Target;
use drover_proto::node_v1::open_tunnel::Ask;
use drover_proto::node_v1::tunnel_request::Message as Said;
use drover_proto::node_v1::{OpenTunnel, SavedItem, StoredTrash, TunnelError};
use drover_proto::v1;
use prost_types::Timestamp;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Agent, beside, controller, create, enroll, link, maintenance, sessions};

const FIX: &str = "ses_fixaaaaaaaaaaaaa";
const OLD: &str = "ses_oldaaaaaaaaaaaaa";

fn item(id: &str, name: &str, saved: i64) -> v1::TrashItem {
    v1::TrashItem {
        id: id.into(),
        session_id: id.into(),
        name: name.into(),
        project: "default".into(),
        // A node cannot say that it is another one.
        node: "somebody-else".into(),
        create_time: Some(Timestamp { seconds: saved, nanos: 0 }),
        ..Default::default()
    }
}

fn stored(item: v1::TrashItem) -> Said {
    Said::Trash(StoredTrash { item: Some(item), ..Default::default() })
}

/// A node's trash that keeps what it was asked.
#[derive(Default)]
struct Trash {
    items: Vec<v1::TrashItem>,
    expired: Vec<String>,
    asked: Mutex<Vec<Ask>>,
}

impl Trash {
    fn of(items: Vec<v1::TrashItem>) -> Self {
        Self { items, ..Self::default() }
    }

    fn answer(&self, open: &OpenTunnel) -> Vec<Said> {
        assert_eq!(open.session_id, "", "it is the node that is asked");
        let ask = open.ask.clone().unwrap();
        self.asked.lock().unwrap().push(ask.clone());
        match ask {
            Ask::ReadTrash(read) if read.item.is_empty() => {
                let told = |item: &v1::TrashItem| StoredTrash {
                    expired: self.expired.contains(&item.id),
                    item: Some(item.clone()),
                    ..Default::default()
                };
                self.items.iter().map(told).map(Said::Trash).collect()
            }
            Ask::ReadTrash(read) => {
                let item = self.items.iter().find(|item| item.id == read.item).cloned();
                let files = Some(v1::PathSample { paths: vec!["a.txt".into()], count: 1, bytes: 5 });
                vec![Said::Trash(StoredTrash { item, files, expired: false })]
            }
            Ask::RestoreTrash(restore) => vec![Said::Restored(v1::RestoreTrashResponse {
                directory: restore.directory,
                branch: restore.branch,
                node: "somebody-else".into(),
                ..Default::default()
            })],
            Ask::PurgeTrash(_) => vec![],
            other => panic!("nobody wants {other:?}"),
        }
    }

    fn changes(&self) -> Vec<Ask> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|ask| !matches!(ask, Ask::ReadTrash(_))).cloned().collect()
    }
}

/// Two nodes that answer, and one that never linked.
struct Fleet {
    running: Running,
    names: [String; 3],
    agents: (Agent, Agent),
    _dir: tempfile::TempDir,
}

impl Fleet {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = controller(dir.path()).await;
        let (first, identity) = enroll(&running).await;
        let one = link(&running, identity, vec![]).await.unwrap();
        let (second, identity) = enroll(&running).await;
        let two = link(&running, identity, vec![]).await.unwrap();
        let (third, _) = enroll(&running).await;
        Self { running, names: [first.name, second.name, third.name], agents: (one, two), _dir: dir }
    }

    /// Makes a call while the two answer with what they have.
    async fn call<T>(
        &mut self,
        trash: [&Trash; 2],
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        self.scripted(call, |open| trash[0].answer(open), |open| trash[1].answer(open)).await
    }

    async fn scripted<T>(
        &mut self,
        call: impl Future<Output = T>,
        first: impl Fn(&OpenTunnel) -> Vec<Said>,
        second: impl Fn(&OpenTunnel) -> Vec<Said>,
    ) -> T {
        let (one, two) = &mut self.agents;
        beside(beside(call, one.answering(first)), two.answering(second)).await
    }

    async fn list(&mut self, trash: [&Trash; 2], ask: v1::ListTrashRequest) -> v1::ListTrashResponse {
        let mut client = maintenance(&self.running).await;
        self.call(trash, client.list_trash(ask)).await.unwrap().into_inner()
    }

    async fn get(&mut self, trash: [&Trash; 2], item: &str) -> Result<v1::GetTrashResponse, Status> {
        let mut client = maintenance(&self.running).await;
        let ask = v1::GetTrashRequest { item: item.into(), ..Default::default() };
        self.call(trash, client.get_trash(ask)).await.map(tonic::Response::into_inner)
    }

    async fn restore(
        &mut self,
        trash: [&Trash; 2],
        ask: v1::RestoreTrashRequest,
    ) -> Result<v1::RestoreTrashResponse, Status> {
        let mut client = maintenance(&self.running).await;
        self.call(trash, client.restore_trash(ask)).await.map(tonic::Response::into_inner)
    }

    async fn purge(
        &mut self,
        trash: [&Trash; 2],
        items: &[&str],
        expired: bool,
    ) -> Result<v1::PurgeTrashResponse, Status> {
        let mut client = maintenance(&self.running).await;
        let items = items.iter().map(ToString::to_string).collect();
        let ask = v1::PurgeTrashRequest { items, expired, ..Default::default() };
        self.call(trash, client.purge_trash(ask)).await.map(tonic::Response::into_inner)
    }
}

fn ids(items: &[v1::TrashItem]) -> Vec<&str> {
    items.iter().map(|item| item.id.as_str()).collect()
}

#[tokio::test]
async fn the_trash_of_all_nodes_is_one_list_the_newest_first_and_names_who_could_not_be_asked() {
    let mut fleet = Fleet::new().await;
    let (one, two) = (Trash::of(vec![item(FIX, "fix", 10)]), Trash::of(vec![item(OLD, "old", 20)]));
    let found = fleet.list([&one, &two], v1::ListTrashRequest::default()).await;
    assert_eq!(ids(&found.items), [OLD, FIX]);
    let nodes: Vec<_> = found.items.iter().map(|item| item.node.clone()).collect();
    assert_eq!(
        nodes,
        [fleet.names[1].clone(), fleet.names[0].clone()],
        "by who said it, not by what it said"
    );
    assert_eq!(found.unreachable_nodes, [fleet.names[2].clone()]);
    let node = fleet.names[0].clone();
    let found = fleet.list([&one, &two], v1::ListTrashRequest { node, ..Default::default() }).await;
    assert_eq!((ids(&found.items), found.unreachable_nodes.len()), (vec![FIX], 0));
    for (session, project, expected) in [
        ("fix", "", vec![FIX]),
        ("ses_old", "", vec![OLD]),
        ("default/fix", "", vec![FIX]),
        ("web/fix", "", vec![]),
        ("", "web", vec![]),
    ] {
        let ask =
            v1::ListTrashRequest { session: session.into(), project: project.into(), ..Default::default() };
        assert_eq!(ids(&fleet.list([&one, &two], ask).await.items), expected, "{session} {project}");
    }
}

#[tokio::test]
async fn an_item_is_found_by_its_id_the_beginning_of_it_or_its_sessions_name() {
    let mut fleet = Fleet::new().await;
    let (one, two) = (Trash::of(vec![item(FIX, "fix", 10)]), Trash::of(vec![item(OLD, "old", 20)]));
    for reference in [FIX, "ses_fix", "fix", "default/fix"] {
        let found = fleet.get([&one, &two], reference).await.unwrap();
        let item = found.item.unwrap();
        assert_eq!((item.id.as_str(), &item.node), (FIX, &fleet.names[0]), "{reference}");
        assert_eq!(found.files.unwrap().paths, ["a.txt"]);
    }
    let status = fleet.get([&one, &two], "nobody").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let hint = status.get_details_error_info().unwrap().metadata["hint"].clone();
    assert!(hint.contains(&fleet.names[2]), "it may be there: {hint}");
    assert_eq!(fleet.get([&one, &two], "web/fix").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(fleet.get([&one, &two], "").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_name_that_several_items_have_is_refused_with_their_ids() {
    let mut fleet = Fleet::new().await;
    let second = format!("{FIX}-2");
    let one = Trash::of(vec![item(FIX, "fix", 10), item(&second, "fix", 20)]);
    let two = Trash::of(vec![item(OLD, "fix", 30)]);
    for reference in ["fix", "ses_"] {
        let status = fleet.get([&one, &two], reference).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_details_error_info().unwrap().reason, "AMBIGUOUS");
        for id in [FIX, &second, OLD] {
            assert!(status.message().contains(id), "{}", status.message());
        }
    }
    assert_eq!(fleet.get([&one, &two], FIX).await.unwrap().item.unwrap().id, FIX, "the whole id is enough");
}

#[tokio::test]
async fn an_id_that_two_nodes_claim_is_nobodys() {
    let mut fleet = Fleet::new().await;
    let one = Trash::of(vec![item(FIX, "fix", 10)]);
    let liar = Trash::of(vec![item(FIX, "fix", 99)]);
    let status = fleet.get([&one, &liar], FIX).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains(&fleet.names[0]) && status.message().contains(&fleet.names[1]));
    let ask = v1::RestoreTrashRequest { item: FIX.into(), ..Default::default() };
    assert_eq!(fleet.restore([&one, &liar], ask).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(fleet.purge([&one, &liar], &[FIX], false).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(one.changes().is_empty() && liar.changes().is_empty());
}

#[tokio::test]
async fn a_node_that_answers_something_else_hides_nothing_of_the_others() {
    let mut fleet = Fleet::new().await;
    let one = Trash::of(vec![item(FIX, "fix", 10)]);
    let strange: [fn(&OpenTunnel) -> Vec<Said>; 3] = [
        |_| vec![Said::Diff(bytes::Bytes::from_static(b"x"))],
        |_| vec![stored(item(OLD, "old", 1)), Said::Trash(StoredTrash::default())],
        |_| {
            let code = Code::Unimplemented.into();
            vec![Said::Error(TunnelError { code, ..Default::default() })]
        },
    ];
    for strange in strange {
        let mut client = maintenance(&fleet.running).await;
        let call = client.list_trash(v1::ListTrashRequest::default());
        let found = fleet.scripted(call, |open| one.answer(open), strange).await.unwrap().into_inner();
        assert_eq!(ids(&found.items), [FIX]);
        assert_eq!(found.unreachable_nodes, fleet.names[1..]);
        let ask = v1::ListTrashRequest { node: fleet.names[1].clone(), ..Default::default() };
        let call = client.list_trash(ask);
        let status = fleet.scripted(call, |open| one.answer(open), strange).await.unwrap_err();
        assert_eq!(status.get_details_error_info().unwrap().reason, "NODE_SAID", "asked alone, it is said");
    }
}

#[tokio::test]
async fn saved_work_comes_back_as_a_session_on_its_node_that_is_not_started() {
    let mut fleet = Fleet::new().await;
    let mut client = sessions(&fleet.running).await;
    let pinned = |name: &str, node: &str| {
        let mut ask = create(name);
        ask.spec.as_mut().unwrap().node = node.into();
        ask
    };
    let ask = pinned("a", &fleet.names[1]);
    let id = client.create_session(ask).await.unwrap().into_inner().session.unwrap().id;
    fleet.agents.1.assignment(&id).await;
    let one = Trash::default();
    // What the node calls it counts for finding it, and for nothing else.
    let saved = v1::TrashItem { session_id: id, project: "default".into(), ..item(FIX, "a", 10) };
    let two = Trash::of(vec![saved]);
    let ask = v1::RestoreTrashRequest { request_id: "once".into(), item: "a".into(), ..Default::default() };
    let back = fleet.restore([&one, &two], ask.clone()).await.unwrap();
    let session = back.session.unwrap();
    assert_eq!((session.name.as_str(), back.branch.as_str()), ("a-2", "drover/a-2"), "its name is taken");
    assert_eq!((session.wanted(), session.restored_from.as_str()), (v1::SessionWanted::Ready, FIX));
    assert_eq!((session.spec.unwrap().node, &back.node), (fleet.names[1].clone(), &fleet.names[1]));
    let again = fleet.restore([&one, &two], ask).await.unwrap().session.unwrap();
    assert_eq!(again.id, session.id, "the same request is one session");
    let named = v1::RestoreTrashRequest { item: FIX.into(), name: "b".into(), ..Default::default() };
    let named = fleet.restore([&one, &two], named).await.unwrap().session.unwrap();
    let told = fleet.agents.1.told(&named.id, |told| !matches!(told.target, Some(Target::Keep(_)))).await;
    assert_eq!((told.name.as_str(), told.origin.as_str()), ("b", FIX));
    assert!(matches!(told.target, Some(Target::Ready(_))), "{told:?}");
    let bad = v1::RestoreTrashRequest { item: FIX.into(), name: "-x".into(), ..Default::default() };
    let status = fleet.restore([&one, &two], bad).await.unwrap_err();
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "name");
}

#[tokio::test]
async fn work_of_a_session_that_the_registry_does_not_know_is_nobodys_session() {
    let mut fleet = Fleet::new().await;
    let one = Trash::default();
    let ask = v1::RestoreTrashRequest { item: FIX.into(), ..Default::default() };
    let unknown = "ses_aaaaaaaaaaaaaaaa";
    for (session, code) in [("nonsense", Code::Internal), (unknown, Code::FailedPrecondition)] {
        let saved = v1::TrashItem { session_id: session.into(), ..item(FIX, "a", 10) };
        let two = Trash::of(vec![saved]);
        let status = fleet.restore([&one, &two], ask.clone()).await.unwrap_err();
        assert_eq!(status.code(), code, "{}", status.message());
    }
    let list = v1::ListSessionsRequest { all: true, ..Default::default() };
    let list = sessions(&fleet.running).await.list_sessions(list).await.unwrap().into_inner();
    assert!(list.sessions.is_empty());
}

#[tokio::test]
async fn saved_work_comes_back_as_a_directory_of_its_node() {
    let mut fleet = Fleet::new().await;
    let (one, two) = (Trash::of(vec![item(FIX, "fix", 10)]), Trash::of(vec![item(OLD, "old", 20)]));
    let ask = |directory: &str| v1::RestoreTrashRequest {
        item: "fix".into(),
        directory: directory.into(),
        branch: "rescued".into(),
        ..Default::default()
    };
    let back = fleet.restore([&one, &two], ask("/tmp/fix")).await.unwrap();
    assert_eq!(
        (back.directory.as_str(), back.branch.as_str(), &back.node),
        ("/tmp/fix", "rescued", &fleet.names[0])
    );
    assert!(back.session.is_none());
    let asked = one.changes();
    assert!(matches!(&asked[..], [Ask::RestoreTrash(ask)] if ask.item == Some(named(FIX, 10))), "{asked:?}");
    assert!(two.changes().is_empty());
    let status = fleet.restore([&one, &two], ask("fix")).await.unwrap_err();
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "directory");
    assert_eq!(one.changes().len(), 1);
}

#[tokio::test]
async fn each_node_purges_only_what_is_its_own_and_only_what_was_named_whole() {
    let mut fleet = Fleet::new().await;
    let (one, two) = (Trash::of(vec![item(FIX, "fix", 10)]), Trash::of(vec![item(OLD, "old", 20)]));
    for unknown in ["fix", "ses_fix", "ses_nobody"] {
        let status = fleet.purge([&one, &two], &[OLD, unknown], false).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{unknown}");
    }
    assert_eq!(fleet.purge([&one, &two], &[], false).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(one.changes().is_empty() && two.changes().is_empty(), "nothing was purged");
    let purged = fleet.purge([&one, &two], &[FIX], false).await.unwrap();
    assert_eq!((ids(&purged.items), &purged.items[0].node), (vec![FIX], &fleet.names[0]));
    assert_eq!(purged.unreachable_nodes, [fleet.names[2].clone()]);
    assert!(matches!(&one.changes()[..], [Ask::PurgeTrash(ask)] if ask.items == [named(FIX, 10)]));
    assert!(two.changes().is_empty());
    let new = item("ses_newaaaaaaaaaaaaa", "new", 30);
    let two =
        Trash { items: vec![item(OLD, "old", 20), new], expired: vec![OLD.into()], ..Default::default() };
    let purged = fleet.purge([&one, &two], &[FIX], true).await.unwrap();
    assert_eq!(ids(&purged.items), [OLD, FIX], "what has expired is each node's word; the newest first");
    assert!(matches!(&two.changes()[..], [Ask::PurgeTrash(ask)] if ask.items == [named(OLD, 20)]));
}

/// An item as a node is told of it.
fn named(id: &str, saved: i64) -> SavedItem {
    SavedItem { id: id.into(), create_time: Some(Timestamp { seconds: saved, nanos: 0 }) }
}

#[tokio::test]
async fn a_repeated_purge_or_restore_is_answered_as_before_and_another_under_its_id_is_refused() {
    let mut fleet = Fleet::new().await;
    let (one, two) = (Trash::of(vec![item(FIX, "fix", 10)]), Trash::default());
    let empty = Trash::default();
    let put = v1::RestoreTrashRequest {
        request_id: "put".into(),
        item: "fix".into(),
        directory: "/tmp/fix".into(),
        ..Default::default()
    };
    let purge = v1::PurgeTrashRequest { request_id: "gone".into(), items: vec![FIX.into()], expired: false };
    let mut client = maintenance(&fleet.running).await;
    let first = fleet.restore([&one, &two], put.clone()).await.unwrap();
    let purged = fleet.call([&one, &two], client.purge_trash(purge.clone())).await.unwrap().into_inner();
    assert_eq!(one.changes().len(), 2);
    // Nothing of it is anywhere by now, and nobody is asked.
    assert_eq!(fleet.restore([&empty, &two], put.clone()).await.unwrap(), first);
    let again = fleet.call([&empty, &two], client.purge_trash(purge.clone())).await.unwrap();
    assert_eq!(again.into_inner(), purged);
    assert!(empty.asked.lock().unwrap().is_empty() && two.changes().is_empty());
    let elsewhere = v1::RestoreTrashRequest { directory: "/tmp/other".into(), ..put };
    let status = fleet.restore([&one, &two], elsewhere).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "REQUEST_ID_REUSED");
    let more = v1::PurgeTrashRequest { expired: true, ..purge };
    let status = fleet.call([&one, &two], client.purge_trash(more)).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "REQUEST_ID_REUSED");
    assert_eq!(one.changes().len(), 2);
}

#[tokio::test]
async fn a_purge_or_restore_whose_answer_was_lost_is_about_the_same_item_when_it_is_repeated() {
    let mut fleet = Fleet::new().await;
    let one = Trash::of(vec![item(FIX, "fix", 10)]);
    let two = Trash::default();
    let mut client = maintenance(&fleet.running).await;
    let put = v1::RestoreTrashRequest {
        request_id: "put".into(),
        item: "fix".into(),
        directory: "/tmp/fix".into(),
        ..Default::default()
    };
    let purge = v1::PurgeTrashRequest { request_id: "gone".into(), items: vec![FIX.into()], expired: false };
    // It has its effect, and says something that nobody understands.
    let lost = |open: &OpenTunnel| match one.answer(open) {
        said if matches!(open.ask, Some(Ask::ReadTrash(_))) => said,
        _ => vec![Said::Error(TunnelError { code: Code::Unavailable.into(), ..Default::default() })],
    };
    let call = client.restore_trash(put.clone());
    fleet.scripted(call, lost, |open| two.answer(open)).await.unwrap_err();
    let call = client.purge_trash(purge.clone());
    fleet.scripted(call, lost, |open| two.answer(open)).await.unwrap_err();
    let before = one.changes();
    // Another removal of the same session has its id by now.
    let later = Trash::of(vec![item(FIX, "fix", 99)]);
    assert_eq!(fleet.restore([&later, &two], put).await.unwrap().directory, "/tmp/fix");
    let purged = fleet.call([&later, &two], client.purge_trash(purge)).await.unwrap().into_inner();
    assert_eq!(ids(&purged.items), [FIX]);
    assert_eq!(later.changes(), before, "the same was asked for, not what has its name now");
}
