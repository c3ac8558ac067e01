//! Saved work: checkpoints, and the trash.

use drover_proto::v1::{
    CheckpointResponse, GetTrashRequest, GetTrashResponse, ListTrashRequest, ListTrashResponse, PathSample,
    PurgeTrashRequest, PurgeTrashResponse, RestoreTrashRequest, RestoreTrashResponse, SavedCheckpoint,
    Session, SessionState, SessionWanted, TrashItem,
};
use tonic::Code;

use crate::server::{Server, ago, placed, session, watched};

fn item(name: &str, node: &str, expires_in: i64) -> TrashItem {
    TrashItem {
        id: format!("ses_{name}aaaaaaaaaaaa"),
        session_id: format!("ses_{name}aaaaaaaaaaaa"),
        name: name.into(),
        project: "default".into(),
        node: node.into(),
        repository: "https://example.org/app.git".into(),
        directory: "/var/lib/drover/agent/repositories/app.git".into(),
        references: vec![format!("refs/drover/trash/ses_{name}aaaaaaaaaaaa/1")],
        branch: format!("drover/{name}"),
        head: "c0ffee12".into(),
        files: 12,
        bytes: 3200,
        create_time: ago(86_430),
        expire_time: ago(-expires_in),
    }
}

fn both() -> ListTrashResponse {
    ListTrashResponse {
        items: vec![item("fixx", "node-a", 518_700), item("olds", "node-b", -30)],
        unreachable_nodes: vec!["node-c".into()],
    }
}

#[test]
fn a_checkpoint_is_told_with_its_reference_or_that_nothing_has_changed() {
    let server = Server::start();
    let saved = SavedCheckpoint {
        reference: "refs/drover/wip/ses_a/1".into(),
        commit: "c0ffee12".into(),
        create_time: ago(630),
    };
    let fresh = CheckpointResponse { checkpoint: Some(saved), unchanged: false };
    server.says("Checkpoint", &fresh);
    server.says("Checkpoint", &CheckpointResponse { unchanged: true, ..fresh.clone() });
    insta::assert_snapshot!(server.shown(&["checkpoint", "fix"]), @"
    exit 0
    --- stdout
    --- stderr
    fix is saved as refs/drover/wip/ses_a/1, commit c0ffee12
    ");
    insta::assert_snapshot!(server.shown(&["checkpoint", "fix"]), @"
    exit 0
    --- stdout
    --- stderr
    fix: nothing has changed since it was saved 10m ago as refs/drover/wip/ses_a/1, commit c0ffee12
    ");
    assert_eq!(server.run(&["checkpoint", "fix", "-o", "name"]).stdout, "refs/drover/wip/ses_a/1\n");
    assert!(server.run(&["checkpoint", "fix", "-o", "json"]).stdout.contains("\"unchanged\": true"));
}

#[test]
fn a_checkpoint_of_a_session_without_a_workspace_is_refused() {
    let server = Server::start();
    let words = "session 'fix' is queued and has no workspace";
    let hint = "droverctl get shows what it waits for, or what was kept of it";
    server.refuses("Checkpoint", (Code::FailedPrecondition, "SESSION_STATE"), words, hint);
    insta::assert_snapshot!(server.shown(&["checkpoint", "fix"]), @"
    exit 4
    --- stdout
    --- stderr
    error: session 'fix' is queued and has no workspace
      where: https://ADDRESS
       next: droverctl get shows what it waits for, or what was kept of it
    ");
}

#[test]
fn the_trash_is_listed_with_who_could_not_be_asked() {
    let server = Server::start();
    server.says("ListTrash", &both());
    insta::assert_snapshot!(server.shown(&["trash", "ls"]), @"
    exit 0
    --- stdout
    ITEM                  SESSION  NODE    AGE  EXPIRES  FILES  SIZE
    ses_fixxaaaaaaaaaaaa  fixx     node-a  1d   in 6d    12     3.1 KiB
    ses_oldsaaaaaaaaaaaa  olds     node-b  1d   expired  12     3.1 KiB
    --- stderr
    node node-c cannot be asked now: it may have more
    ");
    insta::assert_snapshot!(server.shown(&["trash", "ls", "-o", "wide"]), @"
    exit 0
    --- stdout
    ITEM                  SESSION  NODE    AGE  EXPIRES  FILES  SIZE     BRANCH       COMMIT    REPOSITORY
    ses_fixxaaaaaaaaaaaa  fixx     node-a  1d   in 6d    12     3.1 KiB  drover/fixx  c0ffee12  https://example.org/app.git
    ses_oldsaaaaaaaaaaaa  olds     node-b  1d   expired  12     3.1 KiB  drover/olds  c0ffee12  https://example.org/app.git
    --- stderr
    node node-c cannot be asked now: it may have more
    ");
    insta::assert_snapshot!(server.shown(&["trash", "ls", "-o", "name"]), @"
    exit 0
    --- stdout
    ses_fixxaaaaaaaaaaaa
    ses_oldsaaaaaaaaaaaa
    --- stderr
    node node-c cannot be asked now: it may have more
    ");
    let json = server.run(&["trash", "ls", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["items"][1]["node"], "node-b");
    assert_eq!(json["unreachableNodes"][0], "node-c");
    assert!(server.run(&["trash", "ls", "-o", "yaml"]).stdout.contains("unreachableNodes"));
    server.run(&["--project", "web", "trash", "ls", "--session", "fixx", "--node", "node-a"]);
    let asked: Vec<ListTrashRequest> = server.heard("ListTrash");
    let asked = asked.last().unwrap();
    assert_eq!((&*asked.session, &*asked.node, &*asked.project), ("fixx", "node-a", "web"));
}

#[test]
fn an_empty_trash_is_said_on_standard_error() {
    let server = Server::start();
    server.says("ListTrash", &ListTrashResponse::default());
    insta::assert_snapshot!(server.shown(&["trash", "ls"]), @"
    exit 0
    --- stdout
    --- stderr
    the trash is empty
    ");
    insta::assert_snapshot!(server.shown(&["trash", "ls", "--session", "fix"]), @"
    exit 0
    --- stdout
    --- stderr
    nothing in the trash is like that
    ");
    let json = server.run(&["trash", "ls", "-o", "json"]).stdout;
    assert!(json.contains("\"items\": []"), "{json}");
}

#[test]
fn what_nodes_say_of_their_trash_cannot_do_harm_on_a_terminal() {
    let server = Server::start();
    let hostile = TrashItem {
        name: "fix\u{1b}[2J".into(),
        node: "node\u{9b}2J".into(),
        branch: "b\u{202e}x".into(),
        ..item("fixx", "", 518_700)
    };
    let files = PathSample { paths: vec!["\u{1b}]0;t\u{7}a\nb".into()], count: 1, bytes: 1 };
    server.says(
        "ListTrash",
        &ListTrashResponse { items: vec![hostile.clone()], unreachable_nodes: vec!["\u{1b}c".into()] },
    );
    server.says("GetTrash", &GetTrashResponse { item: Some(hostile.clone()), files: Some(files) });
    server.says("PurgeTrash", &PurgeTrashResponse { items: vec![hostile], unreachable_nodes: vec![] });
    let directory = "/tmp/\u{1b}[2J".to_owned();
    server.says(
        "RestoreTrash",
        &RestoreTrashResponse { directory, branch: "\u{7}".into(), ..Default::default() },
    );
    for arguments in [
        &["trash", "ls", "-o", "wide"][..],
        &["trash", "show", "fix"],
        &["trash", "purge", "fix", "--yes"],
        &["trash", "purge", "fix", "--dry-run"],
        &["trash", "restore", "fix", "--to", "/tmp/x"],
    ] {
        let shown = server.shown(arguments);
        assert!(shown.starts_with("exit 0"), "{shown}");
        assert!(!shown.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{shown:?}");
    }
}

#[test]
fn an_item_is_shown_with_its_files() {
    let server = Server::start();
    let files = PathSample { paths: vec!["a.txt".into(), "notes/b.md".into()], count: 12, bytes: 3200 };
    server.says(
        "GetTrash",
        &GetTrashResponse { item: Some(item("fixx", "node-a", 518_700)), files: Some(files) },
    );
    insta::assert_snapshot!(server.shown(&["trash", "show", "fixx"]), @"
    exit 0
    --- stdout
    item          ses_fixxaaaaaaaaaaaa
    session       fixx
    node          node-a
    repository    https://example.org/app.git
    directory     /var/lib/drover/agent/repositories/app.git
    branch        drover/fixx
    commit        c0ffee12
    saved         1d ago, TIME (node's clock)
    expires       in 6d, TIME
    references    refs/drover/trash/ses_fixxaaaaaaaaaaaa/1
    in no commit  12 files, 3.1 KiB
                  a.txt
                  notes/b.md
                  … and 10 more
    --- stderr
    ");
    assert_eq!(server.run(&["trash", "show", "fixx", "-o", "name"]).stdout, "ses_fixxaaaaaaaaaaaa\n");
}

#[test]
fn an_item_that_is_unknown_or_may_be_more_than_one_is_said() {
    let server = Server::start();
    let words = "there is no 'fix' in the trash";
    let hint = "it may be on a node that cannot be asked now: node-c";
    server.refuses("GetTrash", (Code::NotFound, "TRASH_NOT_FOUND"), words, hint);
    insta::assert_snapshot!(server.shown(&["trash", "show", "fix"]), @"
    exit 3
    --- stdout
    --- stderr
    error: there is no 'fix' in the trash
      where: https://ADDRESS
       next: it may be on a node that cannot be asked now: node-c
    ");
    let words = "'fix' may be more than one item: ses_a, ses_b";
    server.refuses("RestoreTrash", (Code::InvalidArgument, "AMBIGUOUS"), words, "give the whole id");
    insta::assert_snapshot!(server.shown(&["trash", "restore", "fix"]), @"
    exit 2
    --- stdout
    --- stderr
    error: 'fix' may be more than one item: ses_a, ses_b
      where: https://ADDRESS
       next: give the whole id
    ");
}

#[test]
fn saved_work_comes_back_as_a_session_that_is_waited_for() {
    let server = Server::start();
    let queued = session("fix-2", SessionState::Queued, SessionWanted::Ready);
    let ready = placed("fix-2", SessionState::Ready, SessionWanted::Ready);
    let back = RestoreTrashResponse {
        session: Some(queued),
        branch: "drover/fix-2".into(),
        node: "node-a".into(),
        ..Default::default()
    };
    server.says("RestoreTrash", &back);
    server.streams("WatchSessions", &[watched(Session { restored_from: "ses_a".into(), ..ready })]);
    insta::assert_snapshot!(server.shown(&["trash", "restore", "fix", "--name", "fix-2"]), @"
    exit 0
    --- stdout
    --- stderr
    fix-2 is ready on node node-a, with the work on branch drover/fix-2
    `droverctl diff fix-2 --stat` shows it, `droverctl start fix-2 --resume` goes on with it
    ");
    insta::assert_snapshot!(server.shown(&["trash", "restore", "fix", "--no-wait"]), @"
    exit 0
    --- stdout
    --- stderr
    fix-2 will have the work of fix
    ");
    assert_eq!(server.run(&["trash", "restore", "fix", "-o", "name"]).stdout, "fix-2\n");
    let json = server.run(&["trash", "restore", "fix", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["session"]["state"], "SESSION_STATE_READY");
    let asked: Vec<RestoreTrashRequest> = server.heard("RestoreTrash");
    assert_eq!((&*asked[0].item, &*asked[0].name, &*asked[0].directory), ("fix", "fix-2", ""));
    assert!(!asked[0].request_id.is_empty());
}

#[test]
fn saved_work_comes_back_as_a_directory_of_the_node() {
    let server = Server::start();
    let back = RestoreTrashResponse {
        session: None,
        branch: "rescued".into(),
        directory: "/tmp/fix".into(),
        node: "node-a".into(),
    };
    server.says("RestoreTrash", &back);
    let to = ["trash", "restore", "fix", "--to", "/tmp/fix"];
    insta::assert_snapshot!(server.shown(&[&to[..], &["--branch", "rescued"]].concat()), @"
    exit 0
    --- stdout
    --- stderr
    the work of fix is back: on node node-a in /tmp/fix, on branch rescued
    it stays in the trash too; `droverctl trash purge` deletes it there
    ");
    assert_eq!(server.run(&[&to[..], &["-o", "name"]].concat()).stdout, "/tmp/fix\n");
    let asked: Vec<RestoreTrashRequest> = server.heard("RestoreTrash");
    assert_eq!((&*asked[0].directory, &*asked[0].branch), ("/tmp/fix", "rescued"));
}

#[test]
fn what_does_not_go_together_in_a_restore_is_said_before_anybody_is_asked() {
    let server = Server::start();
    insta::assert_snapshot!(server.shown(&["trash", "restore", "fix", "--to", "fix"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'fix' for '--to <DIR>': it is not an absolute path; the directory is one of the node that has the work

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(server.shown(&["trash", "restore", "fix", "--branch", "b"]), @"
    exit 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      --to <DIR>

    Usage: droverctl trash restore --to <DIR> --branch <B> <ITEM>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(server.shown(&["trash", "restore", "fix", "--name", "a", "--to", "/b"]), @"
    exit 2
    --- stdout
    --- stderr
    error: the argument '--name <N>' cannot be used with '--to <DIR>'

    Usage: droverctl trash restore --name <N> <ITEM>

    For more information, try '--help'.
    ");
    assert!(server.heard::<RestoreTrashRequest>("RestoreTrash").is_empty());
}

#[test]
fn a_purge_without_a_terminal_wants_a_yes() {
    let server = Server::start();
    let found = |name: &str| GetTrashResponse { item: Some(item(name, "node-a", 518_700)), files: None };
    server.says("GetTrash", &found("fixx")).says("GetTrash", &found("olds"));
    insta::assert_snapshot!(server.shown(&["trash", "purge", "fixx", "olds"]), @"
    exit 4
    --- stdout
    --- stderr
    fixx (ses_fixxaaaaaaaaaaaa) on node node-a, 12 files, 3.1 KiB: would be deleted for good
    olds (ses_oldsaaaaaaaaaaaa) on node node-a, 12 files, 3.1 KiB: would be deleted for good
    error: 2 items would be deleted for good
        why: there is no terminal to ask on
       next: --yes deletes them
       next: droverctl trash show ITEM shows what it holds
    ");
    insta::assert_snapshot!(server.shown(&["trash", "purge", "olds", "--dry-run"]), @"
    exit 0
    --- stdout
    --- stderr
    olds (ses_oldsaaaaaaaaaaaa) on node node-a, 12 files, 3.1 KiB: would be deleted for good
    ");
    assert!(server.heard::<PurgeTrashRequest>("PurgeTrash").is_empty(), "nothing was deleted");
    let purged = PurgeTrashResponse {
        items: vec![item("olds", "node-a", 518_700)],
        unreachable_nodes: vec!["node-b".into(), "node-c".into()],
    };
    server.says("PurgeTrash", &purged);
    insta::assert_snapshot!(server.shown(&["trash", "purge", "olds", "ses_old", "--yes"]), @"
    exit 0
    --- stdout
    --- stderr
    olds (ses_oldsaaaaaaaaaaaa) on node node-a, 12 files, 3.1 KiB: is deleted for good
    nodes node-b, node-c cannot be asked now: they may have more
    ");
    let asked: Vec<PurgeTrashRequest> = server.heard("PurgeTrash");
    assert_eq!(asked[0].items, ["ses_oldsaaaaaaaaaaaa"], "whole ids, each once");
    let named: Vec<GetTrashRequest> = server.heard("GetTrash");
    assert_eq!(named.last().unwrap().item, "ses_old");
}

#[test]
fn a_purge_of_what_has_expired_names_it_and_leaves_the_rest() {
    let server = Server::start();
    server.says("ListTrash", &both());
    server.says(
        "PurgeTrash",
        &PurgeTrashResponse { items: vec![item("olds", "node-b", -30)], ..Default::default() },
    );
    insta::assert_snapshot!(server.shown(&["trash", "purge", "--expired"]), @"
    exit 4
    --- stdout
    --- stderr
    olds (ses_oldsaaaaaaaaaaaa) on node node-b, 12 files, 3.1 KiB: would be deleted for good
    error: 1 item would be deleted for good
        why: there is no terminal to ask on
       next: --yes deletes them
       next: droverctl trash show ITEM shows what it holds
    ");
    insta::assert_snapshot!(server.shown(&["trash", "purge", "--expired", "--yes"]), @"
    exit 0
    --- stdout
    --- stderr
    olds (ses_oldsaaaaaaaaaaaa) on node node-b, 12 files, 3.1 KiB: is deleted for good
    ");
    let asked: Vec<PurgeTrashRequest> = server.heard("PurgeTrash");
    assert!(asked.len() == 1 && asked[0].expired && asked[0].items.is_empty());
    let server = Server::start();
    server.says(
        "ListTrash",
        &ListTrashResponse { items: vec![item("fixx", "node-a", 518_700)], ..Default::default() },
    );
    insta::assert_snapshot!(server.shown(&["trash", "purge", "--expired", "--yes"]), @"
    exit 0
    --- stdout
    --- stderr
    nothing in the trash has expired
    ");
    insta::assert_snapshot!(server.shown(&["trash", "purge"]), @"
    exit 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      <ITEM>...

    Usage: droverctl trash purge <ITEM>...

    For more information, try '--help'.
    ");
}
