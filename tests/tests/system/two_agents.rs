//! Two agents and one controller on one machine, and the controller killed in the middle of fifty sessions.

use std::path::Path;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{Client, pid, script};
use drover_tests::gate::Gate;
use drover_tests::installation::Installation;
use drover_tests::patience::{eventually, settled};
use drover_tests::programs::is_alive;
use drover_tests::repository::Repository;
use futures::future::join_all;

const SESSIONS: usize = 50;
const BEFORE: usize = 15;

fn name(number: usize) -> String {
    format!("s{number}")
}

fn code(number: usize) -> i32 {
    i32::try_from(number % 4).unwrap()
}

/// Creates a session, asking again under the same request id until there is an answer.
async fn create(client: &Client, repository: &Path, gate: &Gate, number: usize) -> v1::Session {
    let text = format!("echo begun {number}; {}; exit {}", gate.wait(), code(number));
    let asked = script(&name(number), repository, &text);
    settled("a session is created", || client.create(asked.clone())).await
}

async fn running(client: &Client, numbers: std::ops::Range<usize>) -> Vec<v1::Session> {
    join_all(numbers.map(|number| async move { client.until(&name(number), State::Running).await })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_controller_loses_nothing_that_it_acknowledged_and_two_agents_keep_to_their_own() {
    let mut there = Installation::start(2, 25).await;
    let repository = Repository::default();
    let mut gate = Gate::new(&there.path("gate"));
    let client = there.client();

    for number in 0..BEFORE {
        create(&client, &repository.path, &gate, number).await;
    }
    let before = running(&client, 0..BEFORE).await;
    let rest = join_all((BEFORE..SESSIONS).map(|number| create(&client, &repository.path, &gate, number)));
    let killing = async {
        client.until(&name(BEFORE + 1), State::Running).await;
        there.kill_controller();
        assert!(before.iter().all(|session| is_alive(pid(session).unwrap())), "runs need no controller");
        there.start_controller().await;
    };
    let (made, ()) = tokio::join!(rest, killing);

    let all = running(&client, 0..SESSIONS).await;
    for (was, is) in before.iter().zip(&all) {
        assert_eq!(pid(was), pid(is), "{} was not stopped", was.name);
    }
    for acknowledged in before.iter().chain(&made) {
        let found = all.iter().find(|session| session.name == acknowledged.name).unwrap();
        assert_eq!(found.id, acknowledged.id, "it was created once");
        assert_eq!(found.runs, 1, "{} was started once", found.name);
    }
    assert_eq!(client.all().await.unwrap().len(), SESSIONS);
    they_keep_to_their_own(&there, &repository, &all);

    gate.open();
    for number in 0..SESSIONS {
        let ended = client.until(&name(number), State::Ready).await;
        assert_eq!(ended.last_run.unwrap().exit_code, Some(code(number)), "{}", ended.name);
        assert_eq!(client.log(&ended.name).await.unwrap(), format!("begun {number}\n"));
    }
    what_one_removes_is_its_own(&there, &repository, &all).await;
}

/// Each agent has the worktrees and the runs of its own sessions, marked as its own, and no others.
fn they_keep_to_their_own(there: &Installation, repository: &Repository, all: &[v1::Session]) {
    let worktrees = repository.git(&["worktree", "list", "--porcelain"]);
    for number in 0..2 {
        let (state, identity) = (there.state_of(number), there.identity_of(number));
        let own: Vec<_> = all.iter().filter(|session| node(session) == identity.node.to_string()).collect();
        assert_eq!(own.len(), SESSIONS / 2, "25 slots each");
        for session in &own {
            let workspace = session.workspace.as_ref().unwrap();
            assert!(Path::new(&workspace.path).starts_with(state.canonicalize().unwrap()), "{workspace:?}");
            let entry = worktrees.split("\n\n").find(|entry| entry.contains(&workspace.path)).unwrap();
            let mark = format!(":{}:{}:", identity.node.short(), session.id);
            assert!(entry.contains(&mark), "{entry}");
        }
        assert_eq!(names(&state.join("worktrees/default")).len(), own.len());
        let mut runs = names(&state.join("runs"));
        runs.sort();
        let mut ids: Vec<_> = own.iter().map(|session| session.id.clone()).collect();
        ids.sort();
        assert_eq!(runs, ids);
    }
}

async fn what_one_removes_is_its_own(there: &Installation, repository: &Repository, all: &[v1::Session]) {
    let client = there.client();
    let of_first = there.identity_of(0).node.to_string();
    let (gone, stay): (Vec<_>, Vec<_>) = all.iter().partition(|session| node(session) == of_first);
    for session in &gone {
        client.remove(&session.name).await.unwrap();
    }
    for session in &gone {
        client.until(&session.id, State::Cleaned).await;
    }
    let branches = repository.git(&["branch", "--list", "--format=%(refname:short)", "drover/*"]);
    let mut branches: Vec<_> = branches.lines().map(str::to_owned).collect();
    branches.sort();
    let mut expected: Vec<_> = stay.iter().map(|session| format!("drover/{}", session.name)).collect();
    expected.sort();
    assert_eq!(branches, expected);
    assert!(stay.iter().all(|session| Path::new(&session.workspace.as_ref().unwrap().path).is_dir()));
    let worktrees = there.state_of(0).join("worktrees");
    eventually("nothing of the removed ones is left", || async {
        names(&worktrees).is_empty().then_some(())
    })
    .await;
}

fn node(session: &v1::Session) -> String {
    session.placement.as_ref().unwrap().node_id.clone()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}
