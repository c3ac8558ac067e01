//! Work that is saved and comes back, and runs that get more time, as a person does it with `droverctl`.

use std::path::Path;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::repository::{Repository, git};

fn workspace(session: &v1::Session) -> std::path::PathBuf {
    Path::new(&session.workspace.as_ref().unwrap().path).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_reset_and_a_removal_save_the_work_and_it_comes_back_as_it_was() {
    let there = Installation::start(1, 4).await;
    let repository = Repository::default();
    let client = there.client();
    client
        .create(script("fix", &repository.path, "echo new > new.txt; echo more >> d0/f0.txt"))
        .await
        .unwrap();
    let ready = client.until("fix", State::Ready).await;
    let at = workspace(&ready);
    let status = git(&at, &["status", "--porcelain"]);
    assert!(status.contains("new.txt"), "{status}");

    let refused = there.run(&["reset", "fix", "--hard"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let reset = there.run(&["reset", "fix", "--hard", "--yes"]);
    assert_eq!(reset.code, 0, "{}", reset.stderr);
    assert_eq!(git(&at, &["status", "--porcelain"]), "", "it was made anew");

    let listed = there.run(&["trash", "ls", "-o", "json"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let item = listed["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["items"][0]["name"], "fix");
    let shown = there.run(&["trash", "show", &item]);
    assert!(shown.stdout.contains("new.txt"), "{}", shown.stdout);

    let restored = there.run(&["trash", "restore", &item, "--name", "back"]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    let back = workspace(&client.until("back", State::Ready).await);
    assert_eq!(git(&back, &["status", "--porcelain"]), status);
    assert_eq!(std::fs::read(back.join("new.txt")).unwrap(), b"new\n");

    let beside = there.path("beside");
    let to = beside.display().to_string();
    let restored = there.run(&["trash", "restore", &item, "--to", &to, "--branch", "kept/fix"]);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(std::fs::read(beside.join("new.txt")).unwrap(), b"new\n");

    let purged = there.run(&["trash", "purge", &item, "--yes"]);
    assert_eq!(purged.code, 0, "{}", purged.stderr);
    let listed = there.run(&["trash", "ls", "-o", "name"]);
    assert_eq!(listed.stdout, "", "nothing is left");
    let why = there.run(&["why", "fix"]);
    assert!(why.stdout.contains("session_reset"), "{}", why.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_given_more_time_and_a_checkpoint_is_taken_by_hand() {
    let there = Installation::start(1, 4).await;
    let repository = Repository::default();
    let client = there.client();
    let mut asked = script("slow", &repository.path, "echo work > work.txt; exec sleep 600");
    asked.spec.as_mut().unwrap().timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    client.create(asked).await.unwrap();
    let before = client.until("slow", State::Running).await.current_run.unwrap().deadline.unwrap();

    let extended = there.run(&["extend", "slow", "1h"]);
    assert_eq!(extended.code, 0, "{}", extended.stderr);
    let run = eventually("its supervisor has it", || async {
        let run = client.get("slow").await.ok()?.current_run?;
        (run.deadline?.seconds >= before.seconds + 3600).then_some(run)
    })
    .await;
    assert_eq!(run.extensions, 1);

    let file = workspace(&client.get("slow").await.unwrap()).join("work.txt");
    eventually("it works", || async { file.exists().then_some(()) }).await;
    let saved = there.run(&["checkpoint", "slow", "-o", "json"]);
    assert_eq!(saved.code, 0, "{}", saved.stderr);
    let saved: serde_json::Value = serde_json::from_str(&saved.stdout).unwrap();
    let reference = saved["checkpoint"]["reference"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{reference}:work.txt")]), "work\n");
    let again = there.run(&["checkpoint", "slow", "-o", "json"]);
    let again: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!((&again["unchanged"], &again["checkpoint"]["reference"]), (&true.into(), &reference.into()));
    client.stop("slow").await.unwrap();
    client.until("slow", State::Ready).await;
}
