//! After a removal nothing of Drover's is left, anywhere, but what it says it kept.

use std::path::{Path, PathBuf};

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::gate::Gate;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::repository::Repository;
use rusqlite::{Connection, OpenFlags};

const COMMIT: &str = "echo more > more.txt && git add -A && git commit -qm more";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_leaves_nothing_if_nothing_was_worth_keeping() {
    let there = Installation::start(1, 8).await;
    let repository = Repository::default();
    let config = std::fs::read(repository.path.join(".git/config")).unwrap();
    let client = there.client();
    let gate = Gate::new(&there.path("gate"));
    // One ended, one merged, one that is there but was never started, one that runs and has wandered off.
    let wanders = format!("setsid sh -c 'echo away; {0}' & echo here; {0}", gate.wait());
    for (name, text) in [("ended", "true"), ("merged", COMMIT), ("unstarted", "true"), ("running", &wanders)]
    {
        let no_start = name == "unstarted";
        let asked = script(name, &repository.path, text);
        client.create(v1::CreateSessionRequest { no_start, ..asked }).await.unwrap();
    }
    for (name, state) in [("ended", State::Ready), ("merged", State::Ready), ("running", State::Running)] {
        client.until(name, state).await;
    }
    client.until("unstarted", State::Ready).await;
    eventually("it has wandered off", || async {
        client.log("running").await.ok().filter(|log| log.contains("away"))
    })
    .await;
    repository.git(&["merge", "-q", "drover/merged"]);

    let ran = there.run(&["rm", "ended", "merged", "unstarted", "running", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stderr.contains("kept") && !ran.stderr.contains("refs/"), "{}", ran.stderr);
    assert_eq!(repository.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(repository.git(&["for-each-ref", "refs/heads", "--format=%(refname)"]), "refs/heads/main\n");
    assert_eq!(named_after_drover(&repository.path.join(".git")), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read(repository.path.join(".git/config")).unwrap(), config);
    assert!(!repository.path.join(".git/worktrees").exists());
    nothing_is_left_on_the_machine(&there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removal_keeps_it_says_and_nothing_else_is_left() {
    let there = Installation::start(1, 8).await;
    let repository = Repository::default();
    let client = there.client();
    for (name, text) in [("unmerged", COMMIT), ("dirty", "echo precious > new.txt")] {
        client.create(script(name, &repository.path, text)).await.unwrap();
        client.until(name, State::Ready).await;
    }
    let tip = repository.git(&["rev-parse", "drover/unmerged"]);
    let ran = there.run(&["rm", "unmerged", "dirty", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    let references = repository.git(&["for-each-ref", "--format=%(refname)"]);
    let kept: Vec<_> = references.lines().filter(|name| *name != "refs/heads/main").collect();
    // With its base a branch that stays only for now is known as Drover's.
    let [base, trash, branch] = kept.as_slice() else { panic!("{kept:?}") };
    assert!(base.starts_with("refs/drover/base/ses_"), "{base}");
    assert_eq!(*branch, "refs/heads/drover/unmerged");
    assert_eq!(repository.git(&["rev-parse", "drover/unmerged"]), tip);
    assert!(trash.starts_with("refs/drover/trash/ses_"), "{trash}");
    assert!(ran.stderr.contains("drover/unmerged") && ran.stderr.contains(trash), "{}", ran.stderr);
    let saved = repository.git(&["ls-tree", "-r", "--name-only", trash]);
    assert!(saved.lines().any(|path| path.ends_with("new.txt")), "{saved}");
    assert_eq!(repository.git(&["worktree", "list"]).lines().count(), 1);
    let git = repository.path.join(".git");
    let strange: Vec<_> = named_after_drover(&git)
        .into_iter()
        .filter(|path| {
            !["refs/heads/drover", "refs/drover", "logs"].iter().any(|kept| path.starts_with(git.join(kept)))
        })
        .collect();
    assert_eq!(strange, Vec::<PathBuf>::new());
    nothing_is_left_on_the_machine(&there).await;
}

/// Every path below that bears the name.
fn named_after_drover(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains("drover") {
            found.push(entry.path());
        } else if entry.file_type().unwrap().is_dir() {
            found.extend(named_after_drover(&entry.path()));
        }
    }
    found
}

async fn nothing_is_left_on_the_machine(there: &Installation) {
    let (state, node) = (there.state_of(0), there.identity_of(0).node.short());
    let places = [state.join("worktrees"), state.join("runs"), there.path("run").join(node)];
    let own = 2;
    eventually("nothing is left in the agent's places, no process, no control group", || async {
        let left = places.iter().map(|place| std::fs::read_dir(place).unwrap().count()).sum::<usize>();
        let groups = there.ground.control_groups();
        let runs = groups.iter().flat_map(|group| std::fs::read_dir(group).unwrap().flatten());
        let groups = runs.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count();
        let processes = there.ground.processes().len();
        (left == 0 && groups == 0 && processes == own && rows(&state) == 0).then_some(())
    })
    .await;
}

/// What the ledger still holds of sessions.
fn rows(state: &Path) -> i64 {
    let ledger =
        Connection::open_with_flags(state.join("ledger.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = "SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM sagas) + \
                 (SELECT count(*) FROM steps) + (SELECT count(*) FROM reports)";
    ledger.query_row(count, [], |row| row.get(0)).unwrap()
}
