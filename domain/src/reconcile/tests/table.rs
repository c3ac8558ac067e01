//! The table of codes: what it takes to find each, with which severity and cure, and what spares it.

use super::*;

/// A registry and a look at the node.
#[derive(Clone)]
struct Case {
    sessions: Vec<Session>,
    seen: Inventory,
}

type Change = fn(&mut Case);

struct Row {
    what: &'static str,
    case: Case,
    expected: (Code, Severity, &'static str),
    /// One look is enough.
    at_once: bool,
    /// Makes it too young to be touched.
    grace: Option<Change>,
    /// With any of these nothing is found.
    spares: Vec<(&'static str, Change)>,
}

fn row(
    what: &'static str,
    sessions: impl IntoIterator<Item = Session>,
    traces: Traces,
    expected: (Code, Severity, &'static str),
) -> Row {
    let sessions: Vec<_> = sessions.into_iter().collect();
    let of = sessions.first().map_or(id(8), |session| session.id);
    let case = Case { sessions, seen: look([(of, traces)]) };
    Row { what, case, expected, at_once: false, grace: None, spares: vec![] }
}

impl Row {
    fn at_once(self) -> Self {
        Self { at_once: true, ..self }
    }

    fn grace(self, change: Change) -> Self {
        Self { grace: Some(change), ..self }
    }

    fn spared(mut self, what: &'static str, change: Change) -> Self {
        self.spares.push((what, change));
        self
    }

    fn spared_by_work(self) -> Self {
        self.spared("it is busy", |case| case.ledger().is_busy = true)
    }

    /// Of what is left: the node was told of it, or works on it.
    fn spared_by_its_node(self) -> Self {
        self.spared_by_work().spared("it is assigned", |case| case.ledger().is_assigned = true)
    }

    fn spared_by_blindness(self, kind: Change) -> Self {
        self.spared("it could not be looked at", kind)
    }
}

impl Case {
    fn traces(&mut self) -> &mut Traces {
        let id = *self.seen.sessions.keys().next().expect("there is one");
        self.seen.sessions.entry(id).or_default()
    }

    fn ledger(&mut self) -> &mut LedgerView {
        let traces = self.traces();
        traces.ledger.get_or_insert_with(|| LedgerView { site: Site::Nothing, ..let_go(1) })
    }
}

fn cure(cure: &Cure) -> &'static str {
    match cure {
        Cure::Stop(_) => "stop",
        Cure::Retry(_) => "retry",
        Cure::Remove(_) => "remove",
        Cure::Tell(_) => "tell",
        Cure::EndProcesses(..) => "end",
        Cure::Clear(_) => "clear",
        Cure::MoveLock(_) => "move",
    }
}

fn found(findings: &[Finding]) -> Vec<(Code, Severity, &'static str)> {
    let told =
        |finding: &Finding| (finding.code, finding.severity, finding.cure.as_ref().map_or("none", cure));
    findings.iter().map(told).collect()
}

fn blind_everywhere(case: &mut Case) {
    case.seen.blind = Kind::ALL.into_iter().map(|kind| blind(kind, None)).collect();
}

/// Sessions of the node that run.
fn runs() -> Vec<Row> {
    let held = || LedgerView { run: Some(run(1)), ..ledger(1) };
    let of = |ledger| {
        let worktrees = vec![worktree(1, present())];
        Traces { ledger: Some(ledger), worktrees, ..Traces::default() }
    };
    let trace = |alive| Some(RunTrace { run: run(1), alive });
    let dead = || Traces { run: trace(Presence::Absent), ..of(held()) };
    let young: Change = |case| case.sessions[0].since = young();
    let process: Change = |case| case.traces().processes = vec![process(1)];
    let blind_processes: Change = |case| case.seen.blind = vec![blind(Kind::Processes, Some("/proc/1"))];
    let blind_runs: Change = |case| case.seen.blind = vec![blind(Kind::Runs, None)];
    let alive: Change = |case| case.traces().run = Some(RunTrace { run: run(1), alive: present() });
    let doubtful: Change = |case| case.traces().run = Some(RunTrace { run: run(1), alive: unknown() });
    let stuck_running = (Code::StuckRunning, Severity::Available, "stop");
    let run_rows = [
        row("its ledger has no run", [session(1, running(1, 7))], of(ledger(1)), stuck_running)
            .spared("the ledger holds it", |case| case.ledger().run = Some(run(1))),
        row("there is nothing of it", [session(1, running(1, 7))], Traces::default(), stuck_running),
        row(
            "its run is dead",
            [session(1, running(1, 7))],
            dead(),
            (Code::DeadRuntime, Severity::Available, "stop"),
        ),
    ];
    let run_rows = run_rows.map(|row| {
        row.spared_by_work()
            .spared("it began a moment ago, young", young)
            .spared("a process bears its mark", process)
            .spared("its supervisor lives", alive)
            .spared("its supervisor could not be seen", doubtful)
            .spared("some processes could not be seen", blind_processes)
            .spared_by_blindness(blind_runs)
    });
    let alive = Traces { run: trace(present()), ..of(held()) };
    let handle = (Code::MissingHandle, Severity::Available, "tell");
    let handle = row("its handle is empty", [session(1, running(1, 0))], alive, handle).at_once();
    run_rows.into_iter().chain([handle]).collect()
}

/// Sessions of the node that are on their way, or have their workspaces there.
fn workspaces() -> Vec<Row> {
    let of = |ledger| {
        let worktrees = vec![worktree(1, present())];
        Traces { ledger: Some(ledger), worktrees, ..Traces::default() }
    };
    let gone = || Traces { worktrees: vec![worktree(1, Presence::Absent)], ..of(ledger(1)) };
    let young: Change = |case| case.sessions[0].since = young();
    let start = State::Queued(Queue::Start(at(here()), order(1)));
    let retry = |code| (code, Severity::Available, "retry");
    let stuck = [
        row("nobody makes it", [session(1, creating())], of(ledger(1)), retry(Code::StuckCreating)),
        row("nobody starts it", [session(1, start)], of(ledger(1)), retry(Code::StuckCreating)),
        row("nobody removes it", [session(1, cleaning())], of(ledger(1)), retry(Code::StuckCleaning)),
    ];
    let stuck = stuck.map(|row| row.spared_by_work().spared("it is young", young));
    let no_workspace = (Code::SessionWithoutWorkspace, Severity::Available, "remove");
    let waits = State::Queued(Queue::Slot(at(here())));
    let branch_only =
        || Traces { references: vec![references(Some("b"))], worktrees: vec![], ..of(ledger(1)) };
    let lost = [
        row("its directory is gone", [session(1, ready(here()))], gone(), no_workspace),
        row("it waits, and its directory is gone", [session(1, waits)], gone(), no_workspace),
        row("its entry is gone", [session(1, ready(here()))], branch_only(), no_workspace),
    ];
    let lost = lost.map(|row| {
        row.spared_by_work()
            .spared("its directory is there", |case| case.traces().worktrees = vec![worktree(1, present())])
            .spared("its directory is unseen", |case| case.traces().worktrees = vec![worktree(1, unknown())])
            .spared("it was moved", |case| {
                case.traces().worktrees =
                    vec![Worktree { path: Some("/x".into()), ..worktree(1, present()) }];
            })
            .spared("it is being made", |case| case.ledger().site = Site::Making)
            .spared("the ledger is lost", |case| case.traces().ledger = None)
            .spared("nothing is known of it", |case| case.seen.sessions.clear())
            .spared("it is a clone", |case| {
                let mut parts = crate::spec::tests::parts();
                parts.workspace = WorkspaceKind::Clone;
                case.sessions[0].spec = Arc::new(Spec::accepted(parts));
            })
            .spared("its repository is unseen", |case| {
                case.seen.blind = vec![blind(Kind::Worktrees, Some(REPOSITORY))];
            })
            .spared("what its directory is in is unseen", |case| {
                case.seen.blind = vec![blind(Kind::Directories, Some("/w"))];
            })
            .spared_by_blindness(blind_everywhere)
    });
    stuck.into_iter().chain(lost).collect()
}

/// Worktrees of sessions that are over, in history and in memory.
fn trees() -> Vec<Row> {
    let available = |code, cure| (code, Severity::Available, cure);
    let tree = |directory| Traces { worktrees: vec![worktree(2, directory)], ..Traces::default() };
    let young_tree: Change = |case| case.traces().worktrees[0].since = young();
    let unseen: Change = |case| case.traces().worktrees = vec![worktree(2, unknown())];
    let over = |state| [session(2, state)];
    vec![
        row(
            "its workspace",
            over(cleaned()),
            tree(present()),
            available(Code::WorktreeWithoutSession, "clear"),
        )
        .at_once()
        .grace(young_tree)
        .spared("it is unseen", unseen)
        .spared("it is not over", |case| case.sessions[0].state = ready(here()))
        .spared("it met a fault", |case| case.sessions[0].state = failed())
        .spared_by_its_node(),
        row(
            "its workspace, while it is in memory",
            [session(3, cleaned())],
            tree(present()),
            available(Code::WorktreeWithoutSession, "clear"),
        )
        .at_once(),
        row("its entry", over(cleaned()), tree(Presence::Absent), available(Code::PrunableWorktree, "clear"))
            .grace(young_tree)
            .spared("it is unseen", unseen)
            .spared_by_its_node(),
    ]
}

/// What else is left of sessions that are over.
fn others() -> Vec<Row> {
    let available = |code, cure| (code, Severity::Available, cure);
    let refs = |base| Traces { references: vec![references(base)], ..Traces::default() };
    let steps = |sagas: &[&str]| {
        let sagas = sagas.iter().map(|saga| (*saga).into()).collect();
        Traces { ledger: Some(LedgerView { sagas, ..let_go(2) }), ..Traces::default() }
    };
    let away = || {
        let away = Away { path: "/w/.leaving-x".into(), is_saved: false, since: OLD };
        Traces { away: vec![away], ..Traces::default() }
    };
    let processes = || Traces { processes: vec![process(1), process(2)], ..Traces::default() };
    let young_refs: Change = |case| case.traces().references[0].since = young();
    let unseen: Change = |case| case.traces().worktrees = vec![worktree(2, unknown())];
    let blind_trees: Change = |case| case.seen.blind = vec![blind(Kind::Worktrees, Some(REPOSITORY))];
    let over = |state| [session(2, state)];
    vec![
        row("its processes", over(cleaned()), processes(), available(Code::ProcessWithoutSession, "end"))
            .at_once()
            .grace(|case| case.traces().processes[1].since = young())
            .spared_by_its_node(),
        row("its branch", over(cleaned()), refs(Some("b")), available(Code::BranchWithoutSession, "clear"))
            .at_once()
            .grace(young_refs)
            .spared("a workspace is unseen", unseen)
            .spared_by_blindness(blind_trees)
            .spared_by_its_node(),
        row(
            "its kept branch",
            over(kept()),
            refs(Some("b")),
            (Code::BranchWithoutSession, Severity::Info, "clear"),
        )
        .at_once()
        .grace(young_refs),
        row("its checkpoints", over(cleaned()), refs(None), available(Code::HalfCleaned, "clear"))
            .at_once()
            .grace(young_refs)
            .spared_by_blindness(blind_trees),
        row("a directory on its way out", over(cleaned()), away(), available(Code::HalfCleaned, "clear"))
            .at_once()
            .grace(|case| case.traces().away[0].since = young())
            .spared_by_its_node(),
        row("its making", over(cleaned()), steps(&["workspace"]), available(Code::HalfCreated, "clear"))
            .spared("a workspace is unseen", unseen)
            .spared_by_blindness(blind_trees)
            .spared_by_its_node(),
        row(
            "its removal",
            over(cleaned()),
            steps(&["removal", "workspace"]),
            available(Code::HalfCleaned, "clear"),
        )
        .spared_by_its_node(),
    ]
}

fn elsewhere_or_never() -> Vec<Row> {
    let tree = |directory| Traces { worktrees: vec![worktree(2, directory)], ..Traces::default() };
    let left = || [session(2, ready(elsewhere()))];
    let fenced = |severity, cure| (Code::FencedPlacement, severity, cure);
    let young_tree: Change = |case| case.traces().worktrees[0].since = young();
    let unseen: Change = |case| case.traces().worktrees = vec![worktree(2, unknown())];
    let running = |ledger| Traces { ledger, processes: vec![process(1)], ..Traces::default() };
    let refs = || Traces { references: vec![references(Some("b"))], ..Traces::default() };
    let away = Away { path: "/w/.leaving-x".into(), is_saved: true, since: OLD };
    let manual = |code, cure| (code, Severity::Manual, cure);
    let newer = Traces { ledger: Some(LedgerView { fence: fence(6), ..let_go(2) }), ..running(None) };
    let same = Worktree { fence: at(elsewhere()).fence, ..worktree(2, present()) };
    let same = Traces { worktrees: vec![same], ..Traces::default() };
    let known = Traces { ledger: Some(let_go(8)), ..tree(present()) };
    let loose = Traces { away: vec![away], ..Traces::default() };
    vec![
        row("an older workspace", left(), tree(present()), fenced(Severity::Available, "clear"))
            .at_once()
            .grace(young_tree)
            .spared("it is unseen", unseen)
            .spared("it is here", |case| case.sessions[0].state = ready(here()))
            .spared("it waits for a node", |case| case.sessions[0].state = State::Queued(Queue::Place))
            .spared_by_its_node(),
        row("an older entry", left(), tree(Presence::Absent), fenced(Severity::Available, "clear")),
        row("older processes", left(), running(Some(let_go(2))), fenced(Severity::Available, "end"))
            .at_once()
            .grace(|case| case.traces().processes[0].since = young())
            .spared_by_its_node(),
        row("processes of some placement", left(), running(None), fenced(Severity::Manual, "none")).at_once(),
        row("older references", left(), refs(), fenced(Severity::Info, "none")).at_once(),
        row("a newer placement", left(), newer, manual(Code::LedgerRegistryMismatch, "none"))
            .at_once()
            .spared_by_its_node(),
        row("a placement of the same epoch", left(), same, manual(Code::LedgerRegistryMismatch, "none"))
            .at_once()
            .spared_by_its_node(),
        row("in the ledger", [], known, manual(Code::LedgerRegistryMismatch, "none")).at_once(),
        row("a mark", [], tree(present()), manual(Code::UnrecordedMark, "clear"))
            .at_once()
            .spared("it is unseen", unseen),
        row("a marked entry", [], tree(Presence::Absent), manual(Code::UnrecordedMark, "clear"))
            .spared("it is unseen", unseen),
        row("marked processes", [], running(None), manual(Code::UnrecordedMark, "none")).at_once(),
        row("marked references", [], refs(), manual(Code::UnrecordedMark, "none")).at_once(),
        row("a marked directory", [], loose, manual(Code::UnrecordedMark, "none")).at_once(),
    ]
}

fn unmarked() -> Vec<Row> {
    let with = |what, lock: Option<LockFile>, stray: Option<Stray>, expected| {
        let (locks, strays) = (lock.into_iter().collect(), stray.into_iter().collect());
        let seen = Inventory { locks, strays, ..look([]) };
        Row { case: Case { sessions: vec![], seen }, ..row(what, [], Traces::default(), expected) }
    };
    let theirs = LockFile { is_ours: false, ..lock() };
    let stray = Stray { path: "/w/x".into(), what: "a directory".into(), since: OLD };
    let locks = [
        with("our lock", Some(lock()), None, (Code::StaleGitLock, Severity::Available, "move")),
        with("a lock", Some(theirs), None, (Code::StaleGitLock, Severity::Manual, "move")),
    ];
    let locks = locks.map(|row| {
        row.spared("somebody holds it", |case| case.seen.locks[0].holder = Some("git".into()))
            .spared("it is young", |case| case.seen.locks[0].since = young())
            .spared("who holds it is unseen", |case| {
                case.seen.blind = vec![blind(Kind::Processes, Some("/proc/1"))];
            })
            .spared_by_blindness(|case| case.seen.blind = vec![blind(Kind::Locks, Some(REPOSITORY))])
    });
    let stray = with("a stray", None, Some(stray), (Code::WorktreeWithoutSession, Severity::Manual, "none"));
    let stray = stray.at_once().grace(|case| case.seen.strays[0].since = young());
    locks.into_iter().chain([stray]).collect()
}

fn rows() -> Vec<Row> {
    let owned = runs().into_iter().chain(workspaces());
    owned.chain(trees()).chain(others()).chain(elsewhere_or_never()).chain(unmarked()).collect()
}

fn changed(case: &Case, change: Change) -> Case {
    let mut case = case.clone();
    change(&mut case);
    case
}

#[test]
fn what_was_seen_twice_is_found_with_its_severity_and_cure() {
    for Row { what, case, expected, at_once, .. } in rows() {
        let registry = Registry::of(case.sessions);
        assert_eq!(found(&registry.twice(&case.seen)), [expected], "{what}");
        let first = if at_once { vec![expected] } else { vec![] };
        assert_eq!(found(&registry.findings(None, &case.seen)), first, "{what}, at the first look");
    }
}

#[test]
fn what_is_within_its_grace_is_told_and_left_alone() {
    for Row { what, case, expected, grace, .. } in rows() {
        let Some(grace) = grace else { continue };
        let Case { sessions, seen } = changed(&case, grace);
        let found = found(&Registry::of(sessions).twice(&seen));
        assert_eq!(found, [(expected.0, Severity::Info, "none")], "{what}");
    }
    let young = Worktree { since: young(), ..worktree(2, present()) };
    let seen = look([(id(8), Traces { worktrees: vec![young], ..Traces::default() })]);
    let found = found(&Registry::of([]).twice(&seen));
    assert_eq!(found, [(Code::UnrecordedMark, Severity::Manual, "none")]);
}

#[test]
fn what_has_an_owner_at_work_or_could_not_be_seen_is_no_finding() {
    for Row { what, case, at_once, expected, spares, .. } in rows() {
        for (why, change) in spares {
            let spared = changed(&case, change);
            let registry = Registry::of(spared.sessions.clone());
            let told = found(&registry.twice(&spared.seen));
            assert!(told.is_empty(), "{what}, but {why}: {told:?}");
            let told = found(&registry.findings(Some(&case.seen), &spared.seen));
            assert!(told.is_empty(), "{what}, but now {why}: {told:?}");
            let is_by_two_looks = !expected.0.is_of_remains() || expected.0 == Code::StaleGitLock;
            let is_compared = !at_once && is_by_two_looks && !why.contains("young");
            if is_compared && spared.seen != case.seen && why != "it is a clone" {
                let told = found(&registry.findings(Some(&spared.seen), &case.seen));
                assert!(!told.contains(&expected), "{what}, but before {why}: {told:?}");
            }
        }
    }
}

#[test]
fn every_code_that_comes_from_a_look_is_in_the_table() {
    let told: BTreeSet<Code> = rows().iter().map(|row| row.expected.0).collect();
    let elsewhere = [
        // Of runtimes that are not told of yet, and of what no look at a node tells.
        Code::ContainerWithoutSession,
        Code::TmuxWithoutSession,
        Code::NodeLost,
        Code::LowDisk,
        Code::TrashExpired,
        Code::BackupOverdue,
        Code::RegistryCorrupt,
    ];
    let missing: Vec<_> =
        Code::ALL.into_iter().filter(|code| !told.contains(code) && !elsewhere.contains(code)).collect();
    assert_eq!(missing, []);
}

#[test]
fn a_repository_that_cannot_be_seen_hides_nothing_of_another() {
    let refs = vec![references(Some("b"))];
    let worktrees = vec![worktree(1, Presence::Absent)];
    let gone = Traces { ledger: Some(ledger(1)), worktrees, references: refs, ..Traces::default() };
    let registry = Registry::of([session(1, ready(here()))]);
    let mut seen = look([(id(1), gone)]);
    seen.blind = vec![blind(Kind::Worktrees, Some("/other/.git"))];
    assert_eq!(registry.twice(&seen).len(), 1, "its references tell where it is");
    seen.sessions.get_mut(&id(1)).unwrap().references.clear();
    assert_eq!(registry.twice(&seen).len(), 0, "it may be there");
}

#[test]
fn what_was_there_in_the_look_before_is_not_gone_yet() {
    let of = |directory: &Presence<()>| {
        let trees = |number, ledger| {
            let worktrees = vec![worktree(number, directory.clone())];
            (id(number), Traces { ledger, worktrees, ..Traces::default() })
        };
        [trees(1, Some(ledger(1))), trees(2, None), trees(4, None), trees(8, None)]
    };
    let owned = [session(1, ready(here())), session(2, cleaned()), session(4, ready(elsewhere()))];
    let registry = Registry::of(owned);
    let (there, gone) = (look(of(&present())), look(of(&Presence::Absent)));
    assert_eq!(found(&registry.findings(Some(&there), &gone)), []);
    assert_eq!(registry.twice(&gone).len(), 4);
}

#[test]
fn a_lock_of_the_same_name_that_is_another_file_is_a_new_one() {
    let registry = Registry::of([]);
    let seen = |lock| Inventory { locks: vec![lock], ..look([]) };
    let other = seen(LockFile { stamp: "2".into(), ..lock() });
    assert_eq!(registry.findings(Some(&other), &seen(lock())), []);
}

#[test]
fn an_unheard_session_is_named_in_what_it_takes_to_remove_it() {
    let seen = look([(id(8), Traces { worktrees: vec![worktree(8, present())], ..Traces::default() })]);
    let found = Registry::of([]).twice(&seen);
    assert!(found[0].hint.contains(&format!("--session {} --force", id(8))), "{}", found[0].hint);
}
