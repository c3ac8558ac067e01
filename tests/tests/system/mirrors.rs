//! Repositories that are named by a URL: fetched into one copy of the node's own.

use std::path::PathBuf;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::installation::Installation;
use drover_tests::repository::{Repository, git};

fn asked(name: &str, url: &str, text: &str) -> v1::CreateSessionRequest {
    let mut asked = script(name, std::path::Path::new("/"), text);
    let spec = asked.spec.as_mut().unwrap();
    spec.repository = url.into();
    spec.machine = String::new();
    asked
}

fn base(session: &v1::Session) -> String {
    session.workspace.as_ref().unwrap().base_commit.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_on_a_url_share_the_nodes_copy_and_each_keeps_the_base_that_it_began_with() {
    let mut there = Installation::start(1, 4).await;
    let remote = Repository::default();
    let url = format!("file://{}", remote.path.display());
    let client = there.client();
    let first_commit = remote.git(&["rev-parse", "HEAD"]).trim().to_owned();
    client.create(asked("first", &url, "git rev-parse HEAD; git rev-parse --git-common-dir")).await.unwrap();
    let first = client.until("first", State::Ready).await;
    assert_eq!(base(&first), first_commit);

    // The remote goes on; what was resolved stays, also for the next run and the next agent.
    remote.git(&["commit", "-q", "--allow-empty", "-m", "second"]);
    let second_commit = remote.git(&["rev-parse", "HEAD"]).trim().to_owned();
    client.create(asked("second", &url, "true")).await.unwrap();
    let second = client.until("second", State::Ready).await;
    assert_eq!(base(&second), second_commit, "who comes later finds what is there then");
    there.kill_and_start_agent(0);
    let start = v1::StartSessionRequest { session: "first".into(), ..Default::default() };
    client.sessions().start_session(start).await.unwrap();
    drover_tests::patience::eventually("it ran again", || async {
        let session = client.get("first").await.ok()?;
        (session.state() == State::Ready && session.runs == 2).then_some(())
    })
    .await;
    let again = client.get("first").await.unwrap();
    assert_eq!(base(&again), first_commit);

    let copies: Vec<PathBuf> = there
        .state_of(0)
        .join("repositories")
        .read_dir()
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("HEAD").is_file())
        .collect();
    let [copy] = copies.as_slice() else { panic!("one copy for both: {copies:?}") };
    assert_eq!(git(copy, &["rev-parse", "--is-bare-repository"]), "true\n");
    assert_eq!(git(copy, &["worktree", "list"]).lines().count(), 3, "its own line and two worktrees");
    let log = client.log("first").await.unwrap();
    assert_eq!(log, format!("{first_commit}\n{}\n", copy.canonicalize().unwrap().display()));
    assert_eq!(
        remote.git(&["for-each-ref", "--format=%(refname)"]),
        "refs/heads/main\n",
        "the remote is only read"
    );

    for name in ["first", "second"] {
        client.remove(name).await.unwrap();
        client.until(name, State::Cleaned).await;
    }
    assert_eq!(git(copy, &["worktree", "list"]).lines().count(), 1);
    assert_eq!(git(copy, &["for-each-ref", "refs/heads", "refs/drover"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_leads_nowhere_is_a_fault_that_says_so_and_leaves_no_copy() {
    // The network gets its chance for as long as a fetch may take.
    let there = Installation::with(&[("DROVER_GIT_LONG_TIMEOUT", "1s")], 1, 4).await;
    let client = there.client();
    let nowhere = format!("file://{}", there.path("nowhere").display());
    // A port that is closed: nobody listens below 1024 in a test.
    let table =
        [("gone", nowhere.as_str(), "NOT_A_REPOSITORY"), ("deaf", "git://127.0.0.1:1/a.git", "NETWORK")];
    for (name, url, code) in table {
        client.create(asked(name, url, "true")).await.unwrap();
        let fault = client.until(name, State::Error).await.fault.unwrap();
        assert_eq!(fault.code, code, "{fault:?}");
        assert!(fault.text.contains(url) && fault.hint.contains("URL"), "{fault:?}");
        client.remove(name).await.unwrap();
        client.until(name, State::Cleaned).await;
    }
    let repositories = there.state_of(0).join("repositories");
    let copies =
        repositories.read_dir().unwrap().flatten().filter(|entry| entry.path().join("HEAD").is_file());
    assert_eq!(copies.count(), 0);
}
