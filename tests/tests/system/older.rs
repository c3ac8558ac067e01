//! A registry put back from an older copy of itself, with real programs: what runs on the nodes goes on.

use std::path::Path;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{Client, pid, script};
use drover_tests::gate::{Gate, counting};
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::programs::is_alive;
use drover_tests::repository::Repository;

/// As an operator copies it, while it is worked with.
fn back_up(there: &Installation, to: &Path) {
    let from = there.path("controller").join("registry.db");
    rusqlite::Connection::open(from).unwrap().execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

/// The controller dies, and comes back with the copy.
async fn put_back(there: &mut Installation, copy: &Path) {
    there.kill_controller();
    let registry = there.path("controller").join("registry.db");
    for part in ["-wal", "-shm"] {
        let part = format!("{}{part}", registry.display());
        assert!(std::fs::remove_file(&part).is_ok() || !Path::new(&part).exists());
    }
    std::fs::copy(copy, &registry).unwrap();
    there.start_controller().await;
}

async fn start(client: &Client, session: &str) {
    let ask = v1::StartSessionRequest { session: session.into(), ..Default::default() };
    client.sessions().start_session(ask).await.unwrap();
}

async fn findings(client: &Client) -> Vec<v1::Finding> {
    let health = client.maintenance().get_health(v1::GetHealthRequest {}).await;
    health.map(|health| health.into_inner().findings).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_began_after_the_backup_is_not_stopped_by_it() {
    let mut there = Installation::start(1, 8).await;
    let repository = Repository::default();
    let mut gate = Gate::new(&there.path("gate"));
    let client = there.client();
    let id = client.create(script("a", &repository.path, &counting(&gate, 0))).await.unwrap().id;
    client.until(&id, State::Running).await;
    client.stop(&id).await.unwrap();
    client.until(&id, State::Ready).await;
    let copy = there.path("registry.copy");
    back_up(&there, &copy);
    start(&client, &id).await;
    let process = pid(&client.until(&id, State::Running).await).unwrap();
    put_back(&mut there, &copy).await;
    let client = there.client();
    let finding = eventually("health says that the registry is older", || async {
        findings(&client).await.into_iter().find(|finding| finding.message.contains("the registry is older"))
    })
    .await;
    assert_eq!(
        (finding.code.as_str(), finding.level()),
        ("LEDGER_REGISTRY_MISMATCH", v1::HealthLevel::Manual)
    );
    assert!(finding.hint.contains("newest copy"), "{}", finding.hint);
    assert!(is_alive(process), "it goes on");
    assert_eq!(client.get(&id).await.unwrap().state(), State::Ready, "that is all that the registry knows");
    gate.open();
}
