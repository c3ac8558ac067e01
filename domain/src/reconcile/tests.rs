//! Each thing that can be wrong on a node: seen once, seen twice, with somebody at it, within its grace, and where not
//! everything could be looked at.

use std::sync::Arc;

use super::*;
use crate::converge::Site;
use crate::fence::Fence;
use crate::id::{InstallationId, NodeId, RunId};
use crate::inventory::{Away, Blind, LedgerView, Process, References, RunTrace, Worktree};
use crate::name::Name;
use crate::node::{Cookie, NodeFacts, Standing};
use crate::presence::Presence;
use crate::session::{Fault, FaultCode, Grant, Handle, Kept, LiveRun, Order, Placement, Progress};
use crate::session::{Queue, Wanted, Workspace};
use crate::spec::{Spec, WorkspaceKind};

mod random;
mod table;

const NOW: Timestamp = Timestamp::from_millis(100_000_000);
const OLD: Timestamp = Timestamp::from_millis(1_000);
const REPOSITORY: &str = "/r/.git";

/// A moment ago.
fn young() -> Timestamp {
    Timestamp::from_millis(NOW.millis() - 1_000)
}

fn here() -> NodeId {
    NodeId::from_random([1; 10])
}

fn elsewhere() -> NodeId {
    NodeId::from_random([2; 10])
}

fn id(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

fn run(number: u8) -> RunId {
    RunId::from_random([number; 10])
}

fn fence(epoch: u64) -> Fence {
    Fence { generation: 1, epoch }
}

fn at(node: NodeId) -> Placement {
    Placement { node, fence: fence(5) }
}

fn path(number: u8) -> Box<str> {
    format!("/w/s{number}").into()
}

/// A session in this state for long, with a workspace.
fn session(number: u8, state: State) -> Session {
    let workspace =
        Workspace { path: path(number), branch: format!("drover/s{number}").into(), base_commit: "c".into() };
    Session {
        number: number.into(),
        id: id(number),
        project: Name::default_project(),
        name: Name::new(&format!("s{number}")).unwrap(),
        owner: "me".into(),
        spec: Arc::new(Spec::new(crate::spec::tests::parts()).unwrap()),
        created: OLD,
        revision: number.into(),
        epoch: 5,
        wanted: Wanted::Ready,
        halt: None,
        hold: None,
        state,
        since: OLD,
        workspace: Some(workspace),
        last_run: None,
        runs: 1,
        failures: 0,
        interruptions: 0,
        resumes: false,
        rebuilds: 0,
        rebuilt: 0,
        base_commit: None,
        origin: None,
        checkpoint: None,
        attempt: 0,
        trace: None,
    }
}

fn ready(node: NodeId) -> State {
    State::Ready { placement: at(node) }
}

fn order(number: u8) -> Order {
    Order { run: run(number), ordinal: 1 }
}

fn running(number: u8, pid: u32) -> State {
    let run = LiveRun {
        order: order(number),
        started: OLD,
        deadline: None,
        extensions: 0,
        grant: Grant::default(),
        handle: Handle::Process { pid },
    };
    State::Running { placement: at(here()), run }
}

fn creating() -> State {
    State::Creating { placement: at(here()), order: None, progress: Progress::default() }
}

fn cleaning() -> State {
    State::Cleaning { placement: at(here()), run: None, progress: Progress::default() }
}

fn cleaned() -> State {
    State::Cleaned { kept: Kept::default() }
}

fn kept() -> State {
    State::Cleaned { kept: Kept { branch: Some("b".into()), ..Kept::default() } }
}

fn failed() -> State {
    let fault = Fault {
        code: FaultCode::Other,
        step: "s".into(),
        text: "t".into(),
        hint: "h".into(),
        retryable: true,
    };
    State::Error { placement: Some(at(here())), fault }
}

fn node() -> Node {
    Node {
        id: here(),
        name: Name::new("here").unwrap(),
        facts: NodeFacts::default(),
        standing: Standing::Reachable,
        cordoned: false,
        drain: None,
        joined: OLD,
        revision: 1,
        since: OLD,
        cookie: Cookie::default(),
        acknowledged: 0,
    }
}

/// What the ledger says of a session that is as it should be, with nothing at work.
fn ledger(number: u8) -> LedgerView {
    LedgerView {
        fence: fence(5),
        is_assigned: true,
        site: Site::Made,
        path: Some(path(number)),
        run: None,
        is_busy: false,
        sagas: vec![],
    }
}

/// Of a session that the node was told nothing of.
fn let_go(number: u8) -> LedgerView {
    LedgerView { is_assigned: false, fence: fence(4), ..ledger(number) }
}

fn worktree(number: u8, directory: Presence<()>) -> Worktree {
    Worktree {
        repository: REPOSITORY.into(),
        entry: format!("{REPOSITORY}/worktrees/s{number}").into(),
        path: Some(path(number)),
        directory,
        branch: Some(format!("drover/s{number}").into()),
        fence: fence(4),
        since: OLD,
    }
}

fn present() -> Presence<()> {
    Presence::Present(())
}

fn unknown() -> Presence<()> {
    Presence::Unknown("it could not be looked at".into())
}

fn process(pid: u32) -> Process {
    Process { pid, start: 7, run: None, name: "sleep".into(), since: OLD }
}

fn references(base: Option<&str>) -> References {
    References { repository: REPOSITORY.into(), base: base.map(Into::into), checkpoints: 2, since: OLD }
}

fn lock() -> LockFile {
    LockFile {
        repository: REPOSITORY.into(),
        name: "index.lock".into(),
        since: OLD,
        holder: None,
        is_ours: true,
        stamp: "1".into(),
    }
}

/// One look, of one session or of several.
fn look(traces: impl IntoIterator<Item = (SessionId, Traces)>) -> Inventory {
    Inventory { look: 1, sessions: traces.into_iter().collect(), ..Inventory::default() }
}

fn blind(kind: Kind, place: Option<&str>) -> Blind {
    Blind { kind, place: place.map(Into::into), why: "no".into() }
}

/// A registry with what is known of sessions that left memory.
struct Registry {
    fleet: Fleet,
    node: Node,
    past: Vec<Session>,
}

impl Registry {
    fn of(sessions: impl IntoIterator<Item = Session>) -> Self {
        let (over, live): (Vec<_>, Vec<_>) = sessions
            .into_iter()
            .partition(|session| matches!(session.state, State::Cleaned { .. }) && session.number % 2 == 0);
        let live = live.into_iter().map(|session| (Arc::new(session), None));
        let fleet = Fleet::new(InstallationId::from_random([9; 10]), 1);
        Self { fleet: fleet.load(99, live, [Arc::new(node())], []), node: node(), past: over }
    }

    fn findings(&self, before: Option<&Inventory>, current: &Inventory) -> Vec<Finding> {
        let past = |id| self.past.iter().find(|session| session.id == id);
        findings(&View {
            fleet: &self.fleet,
            node: &self.node,
            current,
            before,
            past: &past,
            rules: Rules::DEFAULT,
            now: NOW,
        })
    }

    /// The same seen twice.
    fn twice(&self, look: &Inventory) -> Vec<Finding> {
        self.findings(Some(look), look)
    }
}

fn codes(found: &[Finding]) -> Vec<(Code, Severity, bool)> {
    found.iter().map(|finding| (finding.code, finding.severity, finding.cure.is_some())).collect()
}

#[test]
fn too_many_losses_at_once_are_for_a_person_and_nothing_is_cured() {
    for (sessions, lost, is_braked) in [(6, 5, false), (6, 6, true), (40, 8, false), (40, 9, true)] {
        let registry = Registry::of((1..=sessions).map(|number| session(number, ready(here()))));
        let traces = (1..=sessions).map(|number| {
            let directory = if number <= lost { Presence::Absent } else { present() };
            let worktrees = vec![worktree(number, directory)];
            (id(number), Traces { ledger: Some(ledger(number)), worktrees, ..Traces::default() })
        });
        let found = registry.twice(&look(traces));
        assert_eq!(found.len(), usize::from(lost));
        for finding in found {
            assert_eq!(finding.code, Code::SessionWithoutWorkspace);
            let expected = if is_braked { Severity::Manual } else { Severity::Available };
            assert_eq!(
                (finding.severity, finding.cure.is_none()),
                (expected, is_braked),
                "{lost} of {sessions}"
            );
        }
    }
}

#[test]
fn what_is_gone_of_removed_sessions_waits_too_while_the_brake_holds() {
    let lost = (1..=7).map(|number| session(number, ready(here())));
    let registry = Registry::of(lost.chain([session(20, cleaned())]));
    let of = |number| {
        let is_owned = number < 20;
        let worktrees = vec![worktree(number, Presence::Absent)];
        (id(number), Traces { ledger: is_owned.then(|| ledger(number)), worktrees, ..Traces::default() })
    };
    let found = registry.twice(&look((1..=7).chain([20]).map(of)));
    assert_eq!(found.len(), 8);
    assert!(found.iter().all(|finding| finding.severity == Severity::Manual && finding.cure.is_none()));
}

#[test]
fn a_path_that_a_session_of_today_uses_is_never_cleared_for_one_of_the_past() {
    let mut heir = session(1, ready(here()));
    heir.workspace.as_mut().unwrap().path = path(2);
    let registry = Registry::of([heir, session(2, cleaned())]);
    let mut remains = Traces { worktrees: vec![worktree(2, present())], ..Traces::default() };
    let found = registry.twice(&look([(id(2), remains.clone())]));
    assert_eq!(codes(&found), [(Code::WorktreeWithoutSession, Severity::Manual, false)]);
    remains.worktrees.clear();
    remains.ledger = Some(LedgerView { sagas: vec!["removal".into()], ..let_go(2) });
    assert_eq!(codes(&registry.twice(&look([(id(2), remains)]))), []);
    let stranger = Traces { worktrees: vec![worktree(2, present())], ..Traces::default() };
    let found = registry.twice(&look([(id(3), stranger)]));
    assert_eq!(codes(&found), [(Code::UnrecordedMark, Severity::Manual, false)]);
    let making = Traces { ledger: Some(ledger(2)), ..Traces::default() };
    let registry = Registry::of([session(1, creating()), session(2, cleaned())]);
    let left = Traces { worktrees: vec![worktree(2, present())], ..Traces::default() };
    let found = registry.twice(&look([(id(1), making), (id(2), left)]));
    assert_eq!(codes(&found)[1..], [(Code::WorktreeWithoutSession, Severity::Manual, false)]);
}

fn cleared_branch(found: &[Finding]) -> Option<&str> {
    match &found[0].cure {
        Some(Cure::Clear(remains)) => remains.branch.as_deref(),
        other => panic!("it is to be cleared: {other:?}"),
    }
}

#[test]
fn only_a_recorded_branch_that_nobody_else_has_is_named() {
    let mut over = session(2, cleaned());
    over.workspace.as_mut().unwrap().branch = "drover/renamed".into();
    let other = Worktree { branch: Some("main".into()), ..worktree(2, present()) };
    let left = look([(id(2), Traces { worktrees: vec![other], ..Traces::default() })]);
    let found = Registry::of([over.clone()]).twice(&left);
    assert_eq!(cleared_branch(&found), Some("drover/renamed"), "not what somebody checked out there");
    let found = Registry::of([]).twice(&left);
    assert_eq!(cleared_branch(&found), None, "no record, no branch");
    let mut heir = session(1, ready(here()));
    heir.workspace.as_mut().unwrap().branch = "drover/renamed".into();
    let found = Registry::of([over, heir]).twice(&left);
    assert_eq!(cleared_branch(&found), None, "the branch is another session's now");
}

#[test]
fn no_two_findings_share_a_key_when_names_and_paths_were_used_again() {
    let (mut first, mut second) = (session(2, cleaned()), session(4, cleaned()));
    for over in [&mut first, &mut second] {
        over.name = Name::new("same").unwrap();
        over.workspace.as_mut().unwrap().branch = "drover/same".into();
    }
    let registry = Registry::of([first, second]);
    let of = |number| {
        let branch = references(Some("b"));
        (id(number), Traces { references: vec![branch], ..Traces::default() })
    };
    let mut seen = look([of(2), of(4)]);
    let entry = |number| Worktree { path: Some(path(9)), ..worktree(number, present()) };
    seen.sessions.insert(id(6), Traces { worktrees: vec![entry(1), entry(2)], ..Traces::default() });
    let stray = Stray { path: path(9), what: "w".into(), since: OLD };
    seen.strays = vec![stray.clone(), stray];
    let found = registry.twice(&seen);
    let keys: BTreeSet<_> = found.iter().map(Finding::key).collect();
    assert_eq!((found.len(), keys.len()), (6, 6), "{keys:?}");
    assert!(
        found.iter().any(|finding| *finding.subject == *"drover/same in /r/.git"),
        "the first keeps its name"
    );
}

#[test]
fn steps_that_were_at_work_a_look_ago_are_not_left_yet() {
    let registry = Registry::of([session(2, cleaned())]);
    let steps = LedgerView { sagas: vec!["removal".into()], ..let_go(2) };
    let seen = |ledger| look([(id(2), Traces { ledger: Some(ledger), ..Traces::default() })]);
    let current = seen(steps.clone());
    let at_work =
        [LedgerView { is_busy: true, ..steps.clone() }, LedgerView { is_assigned: true, ..steps.clone() }];
    for before in at_work.map(seen) {
        assert_eq!(registry.findings(Some(&before), &current), []);
    }
    assert_eq!(codes(&registry.twice(&current)), [(Code::HalfCleaned, Severity::Available, true)]);
}
