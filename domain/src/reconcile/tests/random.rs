//! Any two looks at a node with any registry: whatever was seen, no cure touches what is in use, unseen or unrecorded.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

const SESSIONS: u8 = 8;

fn stamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(OLD), Just(young()), Just(NOW.after(Rules::DEFAULT.stuck))]
}

fn directory() -> impl Strategy<Value = Presence<()>> {
    prop_oneof![Just(present()), Just(Presence::Absent), Just(unknown())]
}

fn any_path() -> impl Strategy<Value = Box<str>> {
    (1..=SESSIONS).prop_map(path)
}

fn repository() -> impl Strategy<Value = Box<str>> {
    prop_oneof![Just(REPOSITORY.into()), Just("/other/.git".into())]
}

fn state() -> impl Strategy<Value = State> {
    let node = || prop_oneof![Just(here()), Just(elsewhere())];
    prop_oneof![
        Just(State::Queued(Queue::Place)),
        node().prop_map(|node| State::Queued(Queue::Slot(at(node)))),
        (1..4_u8).prop_map(|run| State::Queued(Queue::Start(at(here()), order(run)))),
        Just(creating()),
        Just(cleaning()),
        Just(failed()),
        node().prop_map(ready),
        (1..4_u8, 0..2_u32).prop_map(|(run, pid)| running(run, pid)),
        Just(State::Orphaned { was: Box::new(ready(here())), evidence: "e".into() }),
        Just(cleaned()),
        Just(kept()),
    ]
}

/// Some sessions are unknown to the registry.
fn registry() -> impl Strategy<Value = Registry> {
    let one = (state(), stamp(), any_path());
    vec(of(one), usize::from(SESSIONS)).prop_map(|sessions| {
        let numbered = (1..).zip(sessions).filter_map(|(number, one)| Some((number, one?)));
        Registry::of(numbered.map(|(number, (state, since, path))| {
            let mut session = Session { since, ..session(number, state) };
            session.workspace.as_mut().unwrap().path = path;
            session
        }))
    })
}

fn any_ledger() -> impl Strategy<Value = LedgerView> {
    let site = prop_oneof![
        Just(Site::Nothing),
        Just(Site::Making),
        Just(Site::Made),
        Just(Site::Made),
        Just(Site::Removing),
        Just(Site::Removed)
    ];
    let sagas = vec(prop_oneof![Just("workspace".into()), Just("removal".into())], 0..3);
    let flags = (any::<bool>(), prop::bool::weighted(0.2));
    (4..7_u64, flags, site, of(any_path()), of(1..4_u8), sagas).prop_map(
        |(epoch, (is_assigned, is_busy), site, path, running, sagas)| LedgerView {
            fence: fence(epoch),
            is_assigned,
            site,
            path,
            run: running.map(run),
            is_busy,
            sagas,
        },
    )
}

fn any_worktree() -> impl Strategy<Value = Worktree> {
    let branch = prop_oneof![Just("main".into()), (1..=SESSIONS).prop_map(|n| format!("drover/s{n}").into())];
    (repository(), 1..4_u8, of(any_path()), directory(), of(branch), 4..7_u64, stamp()).prop_map(
        |(repository, entry, path, directory, branch, epoch, since)| Worktree {
            entry: format!("{repository}/worktrees/{entry}").into(),
            repository,
            path,
            directory,
            branch,
            fence: fence(epoch),
            since,
        },
    )
}

fn any_traces() -> impl Strategy<Value = Traces> {
    let away = (1..4_u8, any::<bool>(), stamp()).prop_map(|(number, is_saved, since)| Away {
        path: format!("/w/.leaving-{number}").into(),
        is_saved,
        since,
    });
    let references = (repository(), of(Just("b".into())), 0..3_u32, stamp()).prop_map(
        |(repository, base, checkpoints, since)| References { repository, base, checkpoints, since },
    );
    let run = (1..4_u8, directory()).prop_map(|(number, alive)| RunTrace { run: run(number), alive });
    let process = (1..9_u32, stamp()).prop_map(|(pid, since)| Process { since, ..process(pid) });
    (
        of(any_ledger()),
        vec(any_worktree(), 0..3),
        vec(away, 0..2),
        vec(references, 0..2),
        of(run),
        vec(process, 0..2),
    )
        .prop_map(|(ledger, worktrees, away, references, run, processes)| Traces {
            ledger,
            worktrees,
            away,
            references,
            run,
            processes,
        })
}

fn any_look() -> impl Strategy<Value = Inventory> {
    let lock = (repository(), stamp(), of(Just("git".into())), any::<bool>(), 0..2_u8).prop_map(
        |(repository, since, holder, is_ours, stamp)| LockFile {
            repository,
            name: "index.lock".into(),
            since,
            holder,
            is_ours,
            stamp: stamp.to_string().into(),
        },
    );
    let stray = (any_path(), stamp()).prop_map(|(path, since)| Stray { path, what: "w".into(), since });
    let blind = (0..Kind::ALL.len(), of(repository())).prop_map(|(kind, place)| Blind {
        kind: Kind::ALL[kind],
        place,
        why: "no".into(),
    });
    let sessions = vec((1..=SESSIONS, any_traces()), 0..6);
    (sessions, vec(lock, 0..2), vec(stray, 0..2), vec(blind, 0..2)).prop_map(
        |(sessions, locks, strays, blind)| Inventory {
            locks,
            strays,
            blind,
            ..look(sessions.into_iter().map(|(number, traces)| (id(number), traces)))
        },
    )
}

/// What everybody may rely on, whatever was seen.
fn check(registry: &Registry, before: &Inventory, current: &Inventory, finding: &Finding) {
    let Some(cure) = &finding.cure else { return };
    let session = cure.session();
    let known = session.and_then(|id| {
        let past = registry.past.iter().find(|session| session.id == id);
        registry.fleet.session(id).map(|session| &**session).or(past)
    });
    let traces = session.and_then(|id| current.sessions.get(&id));
    let ledger = traces.and_then(|traces| traces.ledger.as_ref());
    let is_over = known.is_some_and(|session| matches!(session.state, State::Cleaned { .. }));
    let is_here = known.and_then(|session| session.state.placement()).is_some_and(|at| at.node == here());
    match cure {
        Cure::Tell(_) => assert!(is_here),
        Cure::Stop(_) | Cure::Retry(_) | Cure::Remove(_) => {
            assert!(is_here, "it is a session of this node");
            for look in [before, current] {
                let ledger = look.sessions.get(&session.unwrap()).and_then(|traces| traces.ledger.as_ref());
                assert!(!ledger.is_some_and(|ledger| ledger.is_busy), "its node is at it");
            }
        }
        Cure::EndProcesses(..) | Cure::Clear(_) => {
            assert!(is_over || !is_here, "it lives here");
            assert!(!ledger.is_some_and(|ledger| ledger.is_assigned || ledger.is_busy), "its node has it");
            let is_unrecorded = known.is_none();
            assert!(!is_unrecorded || finding.severity == Severity::Manual, "no record knows it");
            assert!(!is_unrecorded || ledger.is_none(), "its node holds it");
        }
        Cure::MoveLock(lock) => {
            assert!(lock.holder.is_none() && current.sees(Kind::Processes) && before.sees(Kind::Processes));
        }
    }
    match cure {
        Cure::Stop(_) => {
            let lives =
                traces.and_then(|traces| traces.run.as_ref()).is_some_and(|run| !run.alive.is_absent());
            assert!(!lives && traces.is_none_or(|traces| traces.processes.is_empty()));
            assert!(current.sees(Kind::Processes));
        }
        Cure::Remove(_) => {
            let is_there = |tree: &Worktree| !tree.directory.is_absent();
            assert!(!traces.unwrap().worktrees.iter().any(is_there));
        }
        Cure::Clear(remains) => clear(registry, current, traces.unwrap(), remains),
        Cure::Retry(_) | Cure::Tell(_) | Cure::EndProcesses(..) | Cure::MoveLock(_) => {}
    }
}

fn clear(registry: &Registry, current: &Inventory, traces: &Traces, remains: &crate::finding::Remains) {
    for workspace in registry.fleet.placed_on(here()).filter_map(|session| session.workspace.as_ref()) {
        assert!(Some(&workspace.path) != remains.path.as_ref(), "the directory is another session's");
        assert!(Some(&workspace.branch) != remains.branch.as_ref(), "the branch is another session's");
    }
    assert!(remains.branch.as_deref() != Some("main"), "only a recorded branch is ours");
    let at_path = traces.worktrees.iter().filter(|tree| tree.path.is_some() && tree.path == remains.path);
    let mut certain = at_path.map(|tree| !matches!(tree.directory, Presence::Unknown(_)));
    assert!(remains.path.is_none() || certain.next().is_none_or(|first| first || certain.any(|it| it)));
    if let (Some(repository), None) = (&remains.repository, &remains.path) {
        let is_entry = traces.worktrees.iter().any(|tree| tree.path.is_none());
        assert!(is_entry || traces.worktrees.is_empty(), "a workspace may still be there");
        assert!(is_entry || !current.is_blind(Kind::Worktrees, repository));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("DROVER_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(600)))]

    #[test]
    fn whatever_was_seen_no_cure_touches_what_is_in_use_unseen_or_unrecorded(
        registry in registry(), earlier in of(any_look()), current in any_look()
    ) {
        // Mostly things are as they were.
        let before = earlier.as_ref().unwrap_or(&current);
        let found = registry.findings(Some(before), &current);
        found.iter().for_each(|finding| check(&registry, before, &current, finding));
        let keys: BTreeSet<_> = found.iter().map(Finding::key).collect();
        prop_assert_eq!(keys.len(), found.len(), "two findings have one key");
        prop_assert_eq!(&registry.findings(Some(before), &current), &found, "the same from the same");
        for finding in registry.findings(None, &current) {
            prop_assert!(
                !matches!(finding.cure, Some(Cure::Stop(_) | Cure::Retry(_) | Cure::Remove(_) | Cure::MoveLock(_))),
                "one look is not enough: {:?}", finding
            );
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let live = self.fleet.sessions().map(|session| (session.id, &session.state));
        f.debug_list().entries(live).entries(self.past.iter().map(|session| session.id)).finish()
    }
}
