//! Copies of the registry: one moment of it, without secrets, or none at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const CANARY: &str = "canary-7f3a-secret-value";

fn secret_session(number: u8) -> NewSession {
    let secrets = Secrets([("KEY".into(), CANARY.into())].into());
    NewSession { secrets, ..new_session(number) }
}

fn has_canary(path: &Path) -> bool {
    fs::read(path).unwrap().windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes())
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|item| item.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn number(connection: &Connection, query: &str) -> i64 {
    connection.query_row(query, (), |row| row.get(0)).unwrap()
}

fn check(path: &Path) -> Connection {
    assert!(!has_canary(path), "no secret is in any byte of it");
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let copy = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let verdict: String = copy.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    assert_eq!(number(&copy, "SELECT count(*) FROM secrets"), 0);
    copy
}

/// A registry with one session, as a controller of the first schema left it.
fn of_schema_1(directory: &Path) {
    let newer = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(newer.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(secret_session(1))));
    store.commit(&changes, &[kept("r")]).unwrap();
    drop(store);
    let connection = open::make_schema(&directory.join(open::FILE), 1);
    let attach = format!("ATTACH '{}' AS newer;", newer.path().join(open::FILE).display());
    connection.execute_batch(&attach).unwrap();
    for table in ["meta", "sessions", "specs", "secrets", "nodes", "tokens", "answers"] {
        let copy = format!("INSERT INTO main.{table} SELECT * FROM newer.{table};");
        connection.execute_batch(&copy).unwrap();
    }
    let columns = "revision, at, actor, kind, session, node, record";
    let copy = format!("INSERT INTO main.changes ({columns}) SELECT {columns} FROM newer.changes;");
    connection.execute_batch(&copy).unwrap();
}

fn schema(directory: &Path) -> i64 {
    let connection = open::second_connection(&directory.join(open::FILE)).unwrap();
    number(&connection, "SELECT max(version) FROM refinery_schema_history")
}

#[test]
fn an_older_registry_is_backed_up_before_it_is_migrated() {
    let dir = tempfile::tempdir().unwrap();
    of_schema_1(dir.path());
    let (store, loaded) = Store::open(dir.path(), installation()).unwrap();
    assert_eq!((loaded.fleet.session_count(), loaded.answers.len()), (1, 1));
    assert_eq!(number(&store.connection, "SELECT count(*) FROM secrets"), 1, "the registry keeps its own");
    drop(store);
    assert_eq!(schema(dir.path()), 2);
    let backups = dir.path().join(backup::DIRECTORY);
    assert_eq!(names(&backups), ["schema-1.db"]);
    let copy = check(&backups.join("schema-1.db"));
    assert_eq!(number(&copy, "SELECT max(version) FROM refinery_schema_history"), 1);
    assert_eq!(number(&copy, "SELECT count(*) FROM sessions"), 1);
    drop(Store::open(dir.path(), installation()).unwrap());
    assert_eq!(names(&backups), ["schema-1.db"], "once");
}

#[test]
fn an_older_registry_that_was_put_back_is_backed_up_anew() {
    let dir = tempfile::tempdir().unwrap();
    of_schema_1(dir.path());
    drop(Store::open(dir.path(), installation()).unwrap());
    for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = fs::remove_file(dir.path().join(name));
    }
    of_schema_1(dir.path());
    execute_beside(&dir.path().join(open::FILE), "UPDATE meta SET revision = 99");
    drop(Store::open(dir.path(), installation()).unwrap());
    let backups = dir.path().join(backup::DIRECTORY);
    assert_eq!(names(&backups), ["schema-1-99.db", "schema-1.db"]);
    assert_eq!(number(&check(&backups.join("schema-1-99.db")), "SELECT revision FROM meta"), 99);
}

#[test]
fn what_cannot_be_backed_up_is_not_migrated() {
    let dir = tempfile::tempdir().unwrap();
    of_schema_1(dir.path());
    let backups = dir.path().join(backup::DIRECTORY);
    fs::write(&backups, "in the way").unwrap();
    let refused = Store::open(dir.path(), installation()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("could not be backed up"), "{refused}");
    assert_eq!(fs::read_to_string(&backups).unwrap(), "in the way");
    assert_eq!(schema(dir.path()), 1);
}

#[test]
fn a_backup_of_a_registry_at_work_is_one_moment_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let (source, backups) = (dir.path().join(open::FILE), dir.path().join("b"));
    let mut fleet = loaded.fleet;
    let is_enough = AtomicBool::new(false);
    let revisions: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=u8::MAX {
                // Two changes in one commit: no copy has one of them alone.
                let (mut changes, _) =
                    decide(&mut fleet, Wish::CreateSession(Box::new(secret_session(number))));
                let session = SessionId::from_random([number; 10]);
                let held = Wish::HoldSession { session, lasts: None, reason: "r".into() };
                changes.extend(decide(&mut fleet, held).0);
                store.commit(&changes, &[kept(&number.to_string())]).unwrap();
                if is_enough.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let made = (0..5).map(|copy| {
            let path = backup::create(&source, &backups, &format!("live-{copy}")).unwrap();
            let copy = check(&path);
            let revision = number(&copy, "SELECT revision FROM meta");
            assert_eq!(revision % 2, 0, "a commit is in it or not");
            for table in ["sessions", "specs", "answers"] {
                assert_eq!(number(&copy, &format!("SELECT count(*) FROM {table}")) * 2, revision, "{table}");
            }
            assert_eq!(number(&copy, "SELECT count(*) FROM changes"), revision);
            revision
        });
        let made = made.collect();
        is_enough.store(true, Ordering::Relaxed);
        made
    });
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert!(revisions.last() > revisions.first(), "it was written meanwhile: {revisions:?}");
    assert_eq!(names(&backups).len(), 5, "nothing else is left there");
    assert!(has_canary(&source) || has_canary(&source.with_extension("db-wal")), "the canary is one");
}

#[test]
fn a_name_is_for_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _) = Store::open(dir.path(), installation()).unwrap();
    let source = dir.path().join(open::FILE);
    let first = backup::create(&source, dir.path(), "a").unwrap();
    let before = fs::metadata(&first).unwrap().modified().unwrap();
    assert_eq!(backup::create(&source, dir.path(), "a").unwrap(), first);
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), before);
}

#[test]
fn a_backup_that_fails_leaves_nothing_half_made() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, loaded) = Store::open(dir.path(), installation()).unwrap();
    let mut fleet = loaded.fleet;
    for number in 1..=200 {
        let (changes, _) = decide(&mut fleet, Wish::CreateSession(Box::new(secret_session(number))));
        store.commit(&changes, &[]).unwrap();
    }
    drop(store);
    let (source, backups) = (dir.path().join(open::FILE), dir.path().join("b"));
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    backup::create(&source, &file, "a").unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
    damage_history(dir.path());
    let left = backups.join(".a.partial-journal");
    fs::create_dir(&backups).unwrap();
    fs::write(&left, CANARY).unwrap();
    let failed = backup::create(&source, &backups, "a").unwrap_err();
    assert!(failed.to_string().contains("could not be backed up"), "{failed}");
    assert_eq!(names(&backups), Vec::<String>::new());
    fs::write(&source, "no database").unwrap();
    backup::create(&source, &backups, "a").unwrap_err();
    assert_eq!(names(&backups), Vec::<String>::new());
}

#[test]
fn pruning_keeps_the_newest_of_a_kind() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, age: u64| {
        let file = fs::File::create(dir.path().join(name)).unwrap();
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age);
        file.set_modified(at).unwrap();
    };
    for (name, age) in [("auto-a.db", 1), ("auto-b.db", 3), ("auto-c.db", 2), ("auto-d.db", 4)] {
        make(name, age);
    }
    for name in ["mine.db", "auto-e.txt", ".auto-f.partial", "schema-1.db"] {
        make(name, 9);
    }
    backup::prune(dir.path(), "auto-", 2).unwrap();
    let others = [".auto-f.partial", "auto-a.db", "auto-c.db", "auto-e.txt", "mine.db", "schema-1.db"];
    assert_eq!(names(dir.path()), others);
    backup::prune(dir.path(), "auto-", 2).unwrap();
    assert_eq!(names(dir.path()), others);
    backup::prune(&dir.path().join("none"), "auto-", 2).unwrap();
}
