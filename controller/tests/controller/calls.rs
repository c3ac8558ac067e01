//! Calls of people: answered after commit, the same answer to the same call, refusals in words.

use drover_proto::v1;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{controller, create, maintenance, sessions, try_controller};

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = controller(dir.path()).await;
    let created =
        sessions(&first).await.create_session(create("a")).await.unwrap().into_inner().session.unwrap();
    assert_eq!(created.state(), v1::SessionState::Queued);
    assert_eq!(created.wait_reason, "no node has joined");
    assert!(first.shutdown().await);
    let second = controller(dir.path()).await;
    let mut client = sessions(&second).await;
    let found = client
        .get_session(v1::GetSessionRequest { session: "a".into(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(found.into_inner().session.unwrap().id, created.id);
    let again = client.create_session(create("a")).await.unwrap().into_inner().session.unwrap();
    assert_eq!(again.id, created.id, "the same request id finds the same answer, also after a restart");
    assert!(second.shutdown().await);
}

#[tokio::test]
async fn a_request_id_stands_for_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    client.create_session(create("a")).await.unwrap();
    let other = v1::CreateSessionRequest { request_id: "create-a".into(), ..create("b") };
    let status = client.create_session(other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(status.get_details_error_info().unwrap().reason, "REQUEST_ID_REUSED");
    let list = client.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.sessions.len(), 1);
}

#[tokio::test]
async fn calls_at_once_with_one_request_id_have_one_effect() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let client = sessions(&running).await;
    let calls = (0..20).map(|_| {
        let mut client = client.clone();
        async move { client.create_session(create("a")).await.unwrap().into_inner().session.unwrap().id }
    });
    let mut ids = futures::future::join_all(calls).await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn bad_input_is_refused_with_its_field_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    let long = "x".repeat(300);
    for bad in ["-x", "..", "a\nb", "A", &long, "a.lock", "a/b"] {
        let status = client
            .create_session(v1::CreateSessionRequest { name: bad.into(), ..create("a") })
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad}");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "name", "{bad}");
    }
    let mut two = create("a");
    two.spec.as_mut().unwrap().repository = "ext::sh -c x".into();
    two.spec.as_mut().unwrap().node = "-".into();
    let status = client.create_session(two).await.unwrap_err();
    let fields: Vec<_> =
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["spec.node", "spec.repository"], "all of them at once");
    let large =
        v1::CreateSessionRequest { secrets: [("A".to_owned(), "x".repeat(5 << 20))].into(), ..create("a") };
    let status = client.create_session(large).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    let list = client
        .list_sessions(v1::ListSessionsRequest { all: true, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert!(list.sessions.is_empty());
}

#[tokio::test]
async fn a_name_is_taken_once_and_rename_finds_another() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    client.create_session(create("a")).await.unwrap();
    let again = v1::CreateSessionRequest { request_id: "2".into(), ..create("a") };
    let status = client.create_session(again.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("'a' is taken"), "{}", status.message());
    let renamed = v1::CreateSessionRequest { on_conflict: v1::OnConflict::Rename.into(), ..again };
    let made = client.create_session(renamed).await.unwrap().into_inner().session.unwrap();
    assert_eq!(made.name, "a-2");
}

#[tokio::test]
async fn lists_are_paged_filtered_and_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    for name in ["c", "a", "b"] {
        client.create_session(create(name)).await.unwrap();
    }
    let mut names = Vec::new();
    let mut ask = v1::ListSessionsRequest { page_size: 2, ..Default::default() };
    loop {
        let page = client.list_sessions(ask.clone()).await.unwrap().into_inner();
        names.extend(page.sessions.into_iter().map(|session| session.name));
        if page.next_page_token.is_empty() {
            break;
        }
        ask.page_token = page.next_page_token;
    }
    assert_eq!(names, ["c", "a", "b"], "in the order of their birth");
    let by_name =
        v1::ListSessionsRequest { order_by: "name desc".into(), page_size: 1, ..Default::default() };
    let first = client.list_sessions(by_name.clone()).await.unwrap().into_inner();
    assert_eq!(first.sessions[0].name, "c");
    let foreign = v1::ListSessionsRequest {
        page_token: first.next_page_token,
        filter: "state=queued".into(),
        ..by_name
    };
    assert_eq!(client.list_sessions(foreign).await.unwrap_err().code(), Code::InvalidArgument);
    let filtered = v1::ListSessionsRequest { filter: "name=a".into(), ..Default::default() };
    assert_eq!(client.list_sessions(filtered).await.unwrap().into_inner().sessions.len(), 1);
}

#[tokio::test]
async fn validating_says_what_would_be_and_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    let dry = v1::CreateSessionRequest { validate_only: true, ..create("a") };
    let shown = client.create_session(dry).await.unwrap().into_inner().session.unwrap();
    assert_eq!(shown.name, "a");
    let list = client.list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner();
    assert!(list.sessions.is_empty());
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let status = maintenance(&running).await.set_debug(v1::SetDebugRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.get_details_error_info().unwrap().reason, "NOT_BUILT");
}

#[tokio::test]
async fn secrets_are_in_no_answer_and_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path()).await;
    let mut client = sessions(&running).await;
    let mut ask = create("a");
    ask.spec.as_mut().unwrap().secret_names = vec!["TOKEN".into()];
    ask.secrets.insert("TOKEN".into(), "canary-7d1f".into());
    let made = client.create_session(ask).await.unwrap().into_inner();
    assert!(!format!("{made:?}").contains("canary-7d1f"));
    client
        .delete_session(v1::DeleteSessionRequest { session: "a".into(), ..Default::default() })
        .await
        .unwrap();
    assert!(running.shutdown().await);
    let files =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let all: Vec<u8> = files.flatten().collect();
    let database = std::fs::read(dir.path().join("registry.db")).unwrap();
    assert!(!database.windows(11).any(|window| window == b"canary-7d1f"), "it is gone with the session");
    assert!(!all.is_empty());
}

#[tokio::test]
async fn a_lost_or_emptied_registry_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registry.db");
    assert!(controller(dir.path()).await.shutdown().await);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, "").unwrap();
    let refused = try_controller(dir.path(), |_| {}).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("backup of registry.db"), "{refused}");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0, "it was left as it is");
    std::fs::remove_file(&file).unwrap();
    assert!(try_controller(dir.path(), |_| {}).await.is_err());
    std::fs::write(&file, whole).unwrap();
    assert!(controller(dir.path()).await.shutdown().await);
}
