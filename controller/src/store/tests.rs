//! The store on a real file: what was committed is what is loaded, and what must not be opened is refused.

use std::sync::Arc;

use drover_domain::actor::Actor;
use drover_domain::command::{Command, NewSession, Wish};
use drover_domain::fleet::{Answer, Fleet};
use drover_domain::id::SessionId;
use drover_domain::labels::Labels;
use drover_domain::name::Name;
use drover_domain::repository::{Repository, Url};
use drover_domain::session::Removal;
use drover_domain::spec::{
    Limits, OnNodeLoss, Parts, Restart, Resume, RuntimeKind, Secrets, Spec, WorkspaceKind,
};

use super::*;

mod backups;
mod upkeep;

fn installation() -> InstallationId {
    InstallationId::from_random([5; 10])
}

fn new_session(number: u8) -> NewSession {
    let parts = Parts {
        repository: Repository::Url(Url::new("https://example.org/a").unwrap()),
        base: None,
        workspace: WorkspaceKind::Worktree,
        runtime: RuntimeKind::Process,
        image: None,
        command: vec!["true".into()],
        environment: Default::default(),
        secret_names: vec!["KEY".into()],
        limits: Limits::default(),
        priority: 0,
        node: None,
        node_selector: Labels::default(),
        labels: Labels::default(),
        on_node_loss: OnNodeLoss::Wait,
        restart: Restart::Never,
        resume: Resume::default(),
        run_as: None,
    };
    NewSession {
        id: SessionId::from_random([number; 10]),
        project: Name::default_project(),
        name: Name::new(&format!("s{number}")).unwrap(),
        owner: "me".into(),
        spec: Arc::new(Spec::new(parts).unwrap()),
        secrets: Secrets([("KEY".into(), "v".into())].into()),
        start: true,
        origin: None,
    }
}

fn decide(fleet: &mut Fleet, wish: Wish) -> (Vec<drover_domain::change::Change>, Answer) {
    let command = Command { actor: Actor::User("me".into()), trace: None, wish };
    let decision = fleet.decide(&command, Timestamp::from_millis(7)).unwrap();
    decision.changes.iter().for_each(|change| fleet.apply(change));
    (decision.changes, decision.answer)
}

fn kept(request: &str) -> KeptAnswer {
    let key = RequestKey { principal: "p".into(), method: "m".into(), request: request.into() };
    KeptAnswer {
        at: Timestamp::from_millis(7),
        key,
        payload: [1; 32],
        answer: bytes::Bytes::from_static(b"a"),
    }
}

#[test]
fn what_was_committed_is_what_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(new_session(1))));
    store.commit(&changes, &[kept("r")]).unwrap();
    let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(new_session(2))));
    store.commit(&changes, &[]).unwrap();
    let removal = Removal::default();
    let (changes, _) =
        decide(&mut fleet, Wish::DeleteSession { session: SessionId::from_random([2; 10]), removal });
    store.commit(&changes, &[]).unwrap();
    drop(store);
    let (_, again) = Store::open(dir.path(), InstallationId::from_random([9; 10])).unwrap();
    assert_eq!(again.fleet.installation(), installation(), "an installation keeps its id");
    assert_eq!(again.fleet.revision(), fleet.revision());
    let sessions = |fleet: &Fleet| fleet.sessions().cloned().collect::<Vec<_>>();
    assert_eq!(sessions(&again.fleet), sessions(&fleet));
    assert_eq!(again.answers, [kept("r")]);
}

#[test]
fn a_commit_that_fails_leaves_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(new_session(1))));
    let twice: Vec<_> = changes.iter().chain(&changes).cloned().collect();
    assert!(matches!(store.commit(&twice, &[kept("r")]), Err(CommitError::Refused(_))));
    let loaded = store.load().unwrap();
    assert_eq!((loaded.fleet.session_count(), loaded.answers.len()), (0, 0));
    store.commit(&changes, &[]).unwrap();
}

#[test]
fn the_history_is_read_from_both_ends_and_remembers_what_left_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let (mut fleet, history) = (loaded.fleet, store.history());
    let id = SessionId::from_random([1; 10]);
    let wishes = [
        Wish::CreateSession(Box::new(new_session(1))),
        Wish::CreateSession(Box::new(new_session(2))),
        Wish::DeleteSession { session: id, removal: Removal::default() },
        Wish::Forget { session: id },
    ];
    for wish in wishes {
        let (changes, _) = decide(&mut fleet, wish);
        store.commit(&changes, &[]).unwrap();
    }
    let kinds = |position: Position| -> Vec<String> {
        history.changes(None, position).unwrap().into_iter().map(|change| change.kind).collect()
    };
    let forward = kinds(Position { after: 1, before: None, most: 9 });
    assert_eq!(forward, ["session_created", "session_cleaned", "session_forgotten"]);
    let newest = kinds(Position { after: 0, before: Some(u64::MAX >> 1), most: 1 });
    assert_eq!(newest, ["session_forgotten"]);
    assert_eq!(history.changes(Some(1), Position { after: 0, before: None, most: 9 }).unwrap().len(), 3);
    assert_eq!(history.removed_after(1).unwrap(), Some(vec![id.to_string()]));
    assert_eq!(history.session(id).unwrap().unwrap().name.as_str(), "s1");
    assert_eq!(store.load().unwrap().fleet.session_count(), 1, "it left memory");
}

#[test]
fn secrets_go_with_their_session() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    let count = |store: &Store| -> i64 {
        store.connection.query_row("SELECT count(*) FROM secrets", (), |row| row.get(0)).unwrap()
    };
    let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(new_session(1))));
    store.commit(&changes, &[]).unwrap();
    assert_eq!(count(&store), 1);
    let session = SessionId::from_random([1; 10]);
    let (changes, _) = decide(&mut fleet, Wish::DeleteSession { session, removal: Removal::default() });
    store.commit(&changes, &[]).unwrap();
    assert_eq!(count(&store), 0);
}

#[test]
fn old_answers_and_changes_are_pruned_a_little_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(new_session(1))));
    store.commit(&changes, &[kept("r")]).unwrap();
    store.prune(Timestamp::from_millis(7), Timestamp::from_millis(7)).unwrap();
    assert_eq!(store.load().unwrap().answers.len(), 1, "what is not older than that stays");
    assert!(!store.prune(Timestamp::from_millis(8), Timestamp::from_millis(8)).unwrap(), "that was all");
    assert_eq!(store.load().unwrap().answers.len(), 0);
    assert_eq!(store.history().oldest().unwrap(), None);
    assert_eq!(store.load().unwrap().fleet.session_count(), 1, "the state is not the history");
}

#[test]
fn a_second_controller_a_newer_schema_and_a_damaged_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), installation()).unwrap();
    assert!(matches!(Store::open(dir.path(), installation()), Err(OpenError::Locked(_))));
    let newer =
        "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (99, 'x', '', '')";
    store.connection.execute(newer, ()).unwrap();
    drop(store);
    let refused = Store::open(dir.path(), installation()).map(drop);
    assert!(matches!(refused, Err(OpenError::Newer { found: 99, .. })), "{refused:?}");
    let path = dir.path().join("registry.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[100..middle].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
    for log in ["registry.db-wal", "registry.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join(log));
    }
    let refused = Store::open(dir.path(), installation()).map(drop);
    assert!(matches!(refused, Err(OpenError::Database { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left as it was");
}

#[test]
fn damage_in_the_history_alone_is_found_beside_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    for number in 1..=200 {
        let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(new_session(number))));
        store.commit(&changes, &[]).unwrap();
    }
    assert_eq!(store.checkpointer().unwrap().check(), Ok(()));
    drop(store);
    damage_history(dir.path());
    let (store, loaded) = Store::open(dir.path(), installation()).unwrap();
    assert_eq!(loaded.fleet.session_count(), 200);
    assert!(store.checkpointer().unwrap().check().unwrap_err().contains("damaged"));
}

#[test]
fn a_live_registry_can_be_read_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(new_session(1))));
    store.commit(&changes, &[]).unwrap();
    let other = rusqlite::Connection::open(dir.path().join("registry.db")).unwrap();
    let name: String = other.query_row("SELECT name FROM sessions", (), |row| row.get(0)).unwrap();
    assert_eq!(name, "s1");
}
