//! The ledger against a real file: what was committed is there after any end, and a write means what the book says.

use std::fs;

use drover_domain::converge::{Local, LocalRun, Site};
use drover_domain::fence::Fence;
use drover_domain::id::{NodeId, RunId, SessionId};
use drover_domain::session::{Fault, Grant, Order, Workspace};
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;

fn node() -> NodeId {
    NodeId::from_random([9; 10])
}

fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

fn key(number: u8, saga: u8) -> Key {
    // One of them is about saved work, which outlives its session.
    let kind = if saga == 2 { TRASH.trim_end_matches('.') } else { "run" };
    Key { session: session(number), saga: format!("{kind}.{saga}").into() }
}

fn report(number: u8, progress: bool) -> Write {
    Write::Report { session: session(number), progress, body: Bytes::from_static(b"seen") }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

#[test]
fn what_was_committed_is_there_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, owner) = Ledger::open(dir.path(), node()).unwrap();
    let before = runtime().block_on(async {
        let order = Order { run: RunId::from_random([3; 10]), ordinal: 3 };
        let local = Local {
            fence: Fence { generation: 1, epoch: 2 },
            site: Site::Made,
            run: LocalRun::Live(order),
            faulted: Some(7),
            rebuild: 2,
            grant: Grant { total: std::time::Duration::from_millis(5), count: 1 },
        };
        let workspace = Workspace { path: "/w".into(), branch: "b".into(), base_commit: "c".into() };
        let writes = vec![
            Write::Assign { session: session(1), assignment: Some(Bytes::from_static(b"wire")) },
            Write::Local { session: session(1), local },
            Write::Workspace { session: session(1), workspace },
            Write::Cookie(Bytes::from_static(b"cookie")),
            report(1, false),
        ];
        ledger.commit(writes).await.unwrap();
        ledger.load().await.unwrap()
    });
    drop(ledger);
    owner.join();
    let (ledger, owner) = Ledger::open(dir.path(), node()).unwrap();
    assert_eq!(*ledger.reported().borrow(), 1);
    assert_eq!(runtime().block_on(ledger.load()).unwrap(), before);
    drop(ledger);
    owner.join();
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, owner) = Ledger::open(dir.path(), node()).unwrap();
    let refused = Ledger::open(dir.path(), node()).unwrap_err();
    assert!(matches!(refused, OpenError::Locked(_)), "{refused}");
    drop(ledger);
    owner.join();
    assert!(Ledger::open(dir.path(), node()).is_ok());
}

#[test]
fn a_ledger_of_a_newer_schema_or_another_node_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, owner) = Ledger::open(dir.path(), node()).unwrap();
    drop(ledger);
    owner.join();
    let foreign = Ledger::open(dir.path(), NodeId::from_random([8; 10])).unwrap_err();
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");

    let connection = Connection::open(dir.path().join("ledger.db")).unwrap();
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) SELECT 99, name, applied_on, checksum FROM refinery_schema_history LIMIT 1";
    connection.execute(newer, ()).unwrap();
    drop(connection);
    let refused = Ledger::open(dir.path(), node()).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, known: 4, .. }), "{refused}");
}

#[test]
fn a_damaged_ledger_is_kept_aside_and_said_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = vec![b'x'; 8192];
    for number in [1, 2] {
        fs::write(dir.path().join("ledger.db"), &garbage).unwrap();
        let (ledger, owner) = Ledger::open(dir.path(), node()).unwrap();
        assert!(ledger.notes()[0].contains(&format!("ledger.db.damaged-{number}")), "{:?}", ledger.notes());
        assert!(runtime().block_on(ledger.load()).unwrap().sessions.is_empty());
        drop(ledger);
        owner.join();
        assert_eq!(fs::read(dir.path().join(format!("ledger.db.damaged-{number}"))).unwrap(), garbage);
    }
}

#[test]
fn a_ledger_with_a_flipped_page_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, owner) = Ledger::open(dir.path(), node()).unwrap();
    let many = |n: u8| Write::Assign { session: session(n), assignment: Some(Bytes::from(vec![n; 3000])) };
    runtime().block_on(ledger.commit((0..50).map(many).collect())).unwrap();
    drop(ledger);
    owner.join();
    let path = dir.path().join("ledger.db");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let (ledger, _owner) = Ledger::open(dir.path(), node()).unwrap();
    assert!(ledger.notes()[0].contains("damaged"), "{:?}", ledger.notes());
}

#[test]
fn a_commit_that_fails_takes_nothing_and_nobody_along() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _owner) = Ledger::open(dir.path(), node()).unwrap();
    runtime().block_on(async {
        let beyond = Local { fence: Fence { generation: u64::MAX, epoch: 0 }, ..Local::default() };
        let bad = ledger.commit(vec![report(1, false), Write::Local { session: session(1), local: beyond }]);
        let (bad, good) = tokio::join!(bad, ledger.commit(vec![report(2, false)]));
        assert!(matches!(bad, Err(Error::Failed { .. })), "{bad:?}");
        good.unwrap();
        let book = ledger.load().await.unwrap();
        assert_eq!(book.reports.values().map(|report| report.session).collect::<Vec<_>>(), [session(2)]);
        assert_eq!(book.reported, 1);
        assert!(book.sessions.is_empty());
    });
}

#[test]
fn sequences_are_never_given_twice_even_when_everything_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _owner) = Ledger::open(dir.path(), node()).unwrap();
    runtime().block_on(async {
        ledger.commit(vec![report(1, false), report(1, false)]).await.unwrap();
        ledger.commit(vec![Write::Acknowledged(2)]).await.unwrap();
        ledger.commit(vec![report(1, false)]).await.unwrap();
        let waiting = ledger.reports(0, 10).await.unwrap();
        assert_eq!(waiting.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [3]);
        assert!(ledger.reported().has_changed().is_ok());
        assert_eq!(*ledger.reported().borrow(), 3);
    });
}

#[test]
fn what_was_acknowledged_is_what_was_said_and_not_what_no_longer_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, owner) = Ledger::open(dir.path(), node()).unwrap();
    runtime().block_on(async {
        ledger.commit(vec![report(1, true), report(1, false)]).await.unwrap();
        assert_eq!(ledger.acknowledged().await.unwrap(), 0, "the first was superseded, not heard");
        ledger.commit(vec![Write::Acknowledged(2)]).await.unwrap();
        // A controller that knows less says less.
        ledger.commit(vec![Write::Acknowledged(1)]).await.unwrap();
    });
    drop(ledger);
    owner.join();
    let (ledger, _owner) = Ledger::open(dir.path(), node()).unwrap();
    assert_eq!(runtime().block_on(ledger.acknowledged()).unwrap(), 2);
}

fn writes() -> impl Strategy<Value = Write> {
    let one = 0..4_u8;
    let fault = (0..21_usize, any::<bool>()).prop_map(|(code, retryable)| Fault {
        code: words::tests::codes()[code],
        step: "s".into(),
        text: "t".into(),
        hint: "h".into(),
        retryable,
    });
    let local = (0..3_u64, 0..4_u8, any::<Option<u32>>(), 0..4_u8).prop_map(|(epoch, run, faulted, site)| {
        let order = Order { run: RunId::from_random([run; 10]), ordinal: run.into() };
        let run = [LocalRun::None, LocalRun::Starting(order), LocalRun::Live(order), LocalRun::Ended(order)];
        let site = [Site::Nothing, Site::Making, Site::Made, Site::Removing][usize::from(site)];
        Local {
            fence: Fence { generation: 1, epoch },
            site,
            run: run[epoch as usize + 1],
            faulted,
            ..Local::default()
        }
    });
    prop_oneof![
        (one.clone(), any::<Option<[u8; 3]>>()).prop_map(|(n, bytes)| Write::Assign {
            session: session(n),
            assignment: bytes.map(|bytes| Bytes::copy_from_slice(&bytes)),
        }),
        (one.clone(), local).prop_map(|(n, local)| Write::Local { session: session(n), local }),
        one.clone().prop_map(|n| Write::Workspace {
            session: session(n),
            workspace: Workspace { path: n.to_string().into(), branch: "b".into(), base_commit: "c".into() },
        }),
        one.clone().prop_map(|n| Write::Forget(session(n))),
        (one.clone(), 0..2_u8).prop_map(|(n, at)| Write::KeepBranch {
            session: session(n),
            common: format!("/r/{at}").into(),
            kept: KeptBranch { branch: n.to_string().into(), base: "c".into() },
        }),
        (one.clone(), 0..2_u8).prop_map(|(n, at)| Write::GiveUpBranch {
            session: session(n),
            common: format!("/r/{at}").into(),
        }),
        one.clone().prop_map(|n| Write::Repository(format!("/r/{n}").into())),
        (one.clone(), 0..3_u8, 0..3_usize, any::<bool>()).prop_map(|(n, saga, step, made)| Write::Mark {
            key: key(n, saga),
            step: ["a", "b", "c"][step],
            number: step as u32,
            mark: if made { Mark::Made } else { Mark::Intended },
            data: "{}".into(),
        }),
        (one.clone(), 0..3_u8, fault, any::<bool>()).prop_map(|(n, saga, fault, told)| Write::Turn {
            key: key(n, saga),
            fault,
            told
        }),
        (one.clone(), 0..3_u8).prop_map(|(n, saga)| Write::Undone { key: key(n, saga), step: "b".into() }),
        (one.clone(), 0..3_u8).prop_map(|(n, saga)| Write::End(key(n, saga))),
        (one, any::<bool>()).prop_map(|(n, progress)| report(n, progress)),
        (0..20_u64).prop_map(Write::Acknowledged),
        (0..20_u64).prop_map(Write::ReportAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_file_says_what_the_book_says(commits in prop::collection::vec(prop::collection::vec(writes(), 1..6), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, _owner) = Ledger::open(dir.path(), node()).unwrap();
        let mut book = Book::default();
        for commit in commits {
            commit.iter().for_each(|write| book.apply(write));
            runtime().block_on(ledger.commit(commit)).unwrap();
        }
        prop_assert_eq!(runtime().block_on(ledger.load()).unwrap(), book);
    }
}
