//! Mistakes of people: each gets a clear word with the place of the mistake, and leaves nothing half-made.

use std::path::Path;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::programs::Ran;
use drover_tests::repository::Repository;
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_that_cannot_be_made_is_a_fault_with_advice_and_leaves_nothing() {
    let there = Installation::start(1, 4).await;
    let repository = Repository::default();
    let client = there.client();
    let empty = there.path("empty");
    std::fs::create_dir(&empty).unwrap();
    repository.git(&["branch", "drover/taken"]);
    let before = repository.everything();
    let on = |name: &str, path: &Path, base: &str| {
        let mut asked = script(name, path, "true");
        asked.spec.as_mut().unwrap().base = base.into();
        asked
    };
    let table = [
        (on("nowhere", &there.path("nowhere"), ""), "PATH_GONE"),
        (on("empty", &empty, ""), "NOT_A_REPOSITORY"),
        (on("base", &repository.path, "no-such-branch"), "BASE_MISSING"),
        (on("option", &repository.path, "--upload-pack=x"), "BASE_MISSING"),
        (on("taken", &repository.path, ""), "BRANCH_TAKEN"),
    ];
    for (asked, code) in table {
        let name = asked.name.clone();
        match client.create(asked).await {
            Ok(_) => {
                let fault = client.until(&name, State::Error).await.fault.unwrap();
                assert_eq!(fault.code, code, "{name}: {fault:?}");
                assert!(
                    !fault.text.is_empty() && !fault.hint.is_empty() && !fault.step.is_empty(),
                    "{fault:?}"
                );
                client.remove(&name).await.unwrap();
                client.until(&name, State::Cleaned).await;
            }
            // What can be judged without the node may be refused at once.
            Err(status) => assert_eq!((status.code(), name.as_str()), (Code::InvalidArgument, "option")),
        }
    }
    assert_eq!(repository.everything(), before, "nothing was made, and the branch of somebody else stays");
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(there.state_of(0).join("worktrees")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_name_and_an_unknown_word_make_nothing() {
    let there = Installation::start(1, 4).await;
    let repository = Repository::default();
    let client = there.client();
    client.create(script("one", &repository.path, "true")).await.unwrap();
    client.until("one", State::Ready).await;
    let before = repository.everything();

    let again =
        v1::CreateSessionRequest { request_id: "2".into(), ..script("one", &repository.path, "true") };
    assert_eq!(client.create(again).await.unwrap_err().code(), Code::AlreadyExists);
    let mut unknown = script("two", &repository.path, "true");
    unknown.spec.as_mut().unwrap().runtime = 99;
    let status = client.create(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "spec.runtime");

    let path = repository.path.display().to_string();
    let long = "x".repeat(300);
    for (option, value) in
        [("--name", ".."), ("--name", &long), ("--name", "a\nb"), ("--name", "-x"), ("--runtime", "magic")]
    {
        let ran = there.run(&["run", "--repo", &path, option, value, "--", "true"]);
        assert_eq!(ran.code, 2, "{option} {value:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(option), "{option} {value:?}: {}", ran.stderr);
    }
    assert_eq!(client.all().await.unwrap().len(), 1);
    assert_eq!(repository.everything(), before);
}

#[test]
fn both_daemons_name_file_and_line_of_every_setting_that_they_do_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("drover.toml");
    std::fs::write(
        &file,
        "listn = \"127.0.0.1:0\"\n\n[log]\nfilter = \"info\"\ncolour = true\n[leese]\nlease = 1\n",
    )
    .unwrap();
    for name in ["drover-controller", "drover-agent"] {
        let mut command = drover_tests::programs::command(name, directory.path());
        let ran = Ran::of(command.args(["--config", &file.display().to_string()]));
        assert_eq!(ran.code, 2, "{name}: {}", ran.stderr);
        for (line, key) in [(1, "listn"), (5, "colour"), (6, "leese")] {
            let place = format!("{}:{line}", file.display());
            let told = ran.stderr.lines().find(|told| told.contains(&place));
            assert!(told.is_some_and(|told| told.contains(key)), "{name} {place}: {}", ran.stderr);
        }
    }
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 1, "nothing was made before the settings were read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_that_is_used_up_or_expired_or_anothers_lets_nobody_in() {
    let there = Installation::start(1, 1).await;
    let another = Installation::start(0, 0).await;
    let soon = v1::CreateJoinTokenRequest {
        lifetime: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        ..Default::default()
    };
    let expired = there.client().nodes().create_join_token(soon).await.unwrap().into_inner();
    let id = expired.token.unwrap().id;
    eventually("it has expired", || async {
        let ask = v1::ListJoinTokensRequest::default();
        let listed = there.client().nodes().list_join_tokens(ask).await.unwrap().into_inner();
        let token = listed.tokens.into_iter().find(|token| token.id == id)?;
        let expires = token.expire_time.unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        (u64::try_from(expires.seconds).unwrap() < now.as_secs()).then_some(())
    })
    .await;
    let used = std::fs::read_to_string(there.path("token-0")).unwrap();
    let table = [
        ("used", used, "used"),
        ("expired", expired.secret, "expired"),
        ("anothers", another.join_token().await, "another hash"),
        ("cut", "drover.cut".to_owned(), "not whole"),
    ];
    for (name, token, word) in table {
        let file = there.path(&format!("token-{name}"));
        std::fs::write(&file, token).unwrap();
        let mut agent = there.command("drover-agent");
        agent.args(["--controller", &there.address(), "--name", name]);
        agent.arg("--state-dir").arg(there.path(name)).arg("--join-token-file").arg(file);
        let ran = Ran::of(&mut agent);
        assert_eq!(ran.code, 1, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{name}: {}", ran.stderr);
        assert!(!there.path(name).join("identity.json").exists());
    }
    let nodes =
        there.client().nodes().list_nodes(v1::ListNodesRequest::default()).await.unwrap().into_inner();
    assert_eq!(nodes.nodes.len(), 1);
}
