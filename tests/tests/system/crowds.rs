//! Many at once.

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::installation::Installation;
use drover_tests::repository::{Repository, git};
use futures::future::join_all;

const CREATES: usize = 200;

/// Two agents, so that they must agree between processes too; and a person who works in the same repository.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_creates_at_once_on_one_repository_succeed_and_nobody_sees_a_lock() {
    let there = Installation::start(2, 100).await;
    let repository = Repository::default();
    let client = there.client();
    let creates = (0..CREATES).map(|number| {
        let asked = script(&format!("s{number}"), &repository.path, "true");
        client.create(v1::CreateSessionRequest { no_start: true, ..asked })
    });
    let path = repository.path.clone();
    let person = tokio::task::spawn_blocking(move || {
        for number in 0..20 {
            git(&path, &["commit", "-q", "--allow-empty", "-m", &format!("by hand {number}")]);
            git(&path, &["branch", &format!("by-hand-{number}")]);
        }
    });
    for made in join_all(creates).await {
        made.unwrap();
    }
    for number in 0..CREATES {
        client.until(&format!("s{number}"), State::Ready).await;
    }
    person.await.unwrap();
    assert_eq!(repository.git(&["worktree", "list"]).lines().count(), CREATES + 1);
    assert_eq!(repository.git(&["branch", "--list", "drover/*"]).lines().count(), CREATES);
    assert_eq!(repository.git(&["branch", "--list", "by-hand-*"]).lines().count(), 20);
    for agent in there.agents.iter().flatten() {
        let said = agent.said();
        let complaint = said.lines().find(|line| line.contains(".lock") || line.contains("could not lock"));
        assert_eq!(complaint, None);
    }
    let faults = client.happened().await.unwrap().get("session_faulted").copied();
    assert_eq!(faults, None);
}
