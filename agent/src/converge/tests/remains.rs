//! What is left of sessions: cleared once its work is saved, by the rules, once; and nothing that is wanted, in use, changed
//! or somebody else's is touched, whoever asks for it by name.

use super::*;
use crate::converge::remains::{Asked, Assessment, Deed, Outcome as Result, SeenLock};
use crate::git::worktrees::Mark;
use crate::ledger::Journal;
use crate::workspace::Label;

fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

fn asked(machine: &Machine, number: u8, branch: Option<&str>) -> Asked {
    Asked {
        session: session(number),
        repository: Some(machine.repository().join(".git")),
        path: Some(machine.worktree(number)),
        branch: branch.map(str::to_owned),
        label: Label { project: "default".into(), name: format!("s{number}"), repository: "r".into() },
    }
}

impl Agent {
    fn assess(&self, asked: &Asked) -> Assessment {
        self.block(self.converge.assess(asked))
    }

    fn clear(&self, asked: &Asked, stamp: &str) -> Deed {
        self.block(self.converge.clear(asked.clone(), stamp.to_owned()))
    }

    /// Nothing is wanted of what is held here.
    fn is_told_of_nothing(&self) {
        self.block(self.converge.keep_others(&BTreeSet::new())).unwrap();
    }
}

/// An agent that knows nothing of the workspace that is here.
fn forgetful(machine: &Machine) -> Agent {
    Agent::with_workspace(machine).dies();
    machine.lose_ledger();
    machine.start()
}

/// Everything in the repository and below the worktrees' root, but for what one look at it changes.
fn picture(machine: &Machine) -> String {
    let references = git(&machine.repository(), &["for-each-ref"]);
    let worktrees = git(&machine.repository(), &["worktree", "list", "--porcelain"]);
    let root = machine.dir.path().join("state/worktrees");
    let mut files: Vec<_> = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .chain(fs::read_dir(root.join("default")).into_iter().flatten())
        .map(|item| item.unwrap().path())
        .collect();
    files.sort();
    format!("{references}\n{worktrees}\n{files:?}")
}

#[test]
fn the_worktree_of_a_session_that_nobody_knows_is_saved_and_removed_once() {
    let machine = Machine::new();
    let agent = forgetful(&machine);
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    let asked = asked(&machine, 1, Some("drover/s1"));
    let assessment = agent.assess(&asked);
    assert_eq!((assessment.obstacle, assessment.users), (None, vec![]));
    let (site, work) = assessment.work.unwrap();
    assert!(work.is_unsaved() && work.is_present);
    assert_eq!((site.path, site.branch), (machine.worktree(1), "drover/s1".to_owned()));
    let deed = agent.clear(&asked, &assessment.stamp);
    assert_eq!((deed.result, deed.saved.len()), (Result::Done, 1), "{deed:?}");
    assert!(!machine.worktree(1).exists());
    assert_eq!(git(&machine.repository(), &["branch", "--list", "drover/*"]), "");
    assert_eq!(git(&machine.repository(), &["worktree", "list"]).lines().count(), 1);
    assert_eq!(git(&machine.repository(), &["show", &format!("{}:b.txt", deed.saved[0])]), "mine");
    assert_eq!(agent.clear(&asked, "").result, Result::Nothing);
    let book = agent.block(agent.converge.means().ledger.load()).unwrap();
    assert!(book.sagas.is_empty() && book.kept.is_empty() && book.sessions.is_empty(), "{book:?}");
}

#[test]
fn a_branch_that_nobody_recorded_is_kept_whatever_it_is_called() {
    let machine = Machine::new();
    let agent = forgetful(&machine);
    git(&machine.worktree(1), &["checkout", "-q", "-b", "drover/by-hand"]);
    let deed = agent.clear(&asked(&machine, 1, None), "");
    assert_eq!(deed.result, Result::Done, "{deed:?}");
    assert!(deed.kept[0].contains("nothing recorded says"), "{deed:?}");
    assert_eq!(git(&machine.repository(), &["branch", "--list", "drover/*"]).lines().count(), 2);
}

#[test]
fn an_entry_whose_directory_is_gone_goes_and_its_last_checkpoint_is_saved() {
    let machine = Machine::new();
    let agent = Agent::with_workspace(&machine);
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    let asked = asked(&machine, 1, Some("drover/s1"));
    let (site, _) = agent.assess(&asked).work.unwrap();
    agent.block(agent.converge.save(session(1), &site, None)).unwrap().unwrap();
    agent.is_told_of_nothing();
    fs::remove_dir_all(machine.worktree(1)).unwrap();
    let deed = agent.clear(&asked, "");
    assert_eq!((deed.result, deed.saved.len()), (Result::Done, 1), "{deed:?}");
    assert!(deed.kept.iter().any(|reason| reason.contains("its last checkpoint")), "{deed:?}");
    assert_eq!(git(&machine.repository(), &["show", &format!("{}:b.txt", deed.saved[0])]), "mine");
    assert_eq!(git(&machine.repository(), &["worktree", "list"]).lines().count(), 1);
    assert_eq!(git(&machine.repository(), &["for-each-ref", "refs/drover/wip", "refs/drover/base"]), "");
    // What the ledger held of it is over, and may be forgotten.
    assert_eq!(agent.local(1).site, Site::Nothing);
    agent.converge.retire([session(1)]);
    eventually("forgotten", || agent.converge.held().is_empty());
}

#[test]
fn a_branch_that_a_removal_left_goes_once_it_is_merged_and_no_sooner() {
    let machine = Machine::new();
    let agent = Agent::with_workspace(&machine);
    git(&machine.worktree(1), &["commit", "-q", "--allow-empty", "-m", "work"]);
    agent.assign(&machine.assignment(1, cleaned()));
    agent.hears("kept", |seen| matches!(seen, Observation::Removed(kept) if kept.branch.is_some()));
    agent.converge.retire([session(1)]);
    eventually("forgotten", || agent.converge.held().is_empty());
    // The ledger knows which branch it was.
    let asked = Asked { path: None, ..asked(&machine, 1, None) };
    let before = picture(&machine);
    let deed = agent.clear(&asked, "");
    assert_eq!(deed.result, Result::Nothing, "{deed:?}");
    assert!(deed.kept[0].contains("1 commit on no other branch"), "{deed:?}");
    assert_eq!(picture(&machine), before);
    git(&machine.repository(), &["merge", "-q", "--no-ff", "-m", "merged", "drover/s1"]);
    assert_eq!(agent.clear(&asked, "").result, Result::Done);
    assert_eq!(git(&machine.repository(), &["for-each-ref", "refs/heads/drover", "refs/drover"]), "");
    let book = agent.block(agent.converge.means().ledger.holdings()).unwrap();
    assert!(book.kept.is_empty() && book.sagas.is_empty());
    assert_eq!(agent.clear(&asked, "").result, Result::Nothing);
}

#[test]
fn what_is_assigned_or_runs_is_not_cleared() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    let asked = asked(&machine, 1, Some("drover/s1"));
    let before = picture(&machine);
    let obstacle = agent.assess(&asked).obstacle.unwrap();
    assert!(obstacle.contains("assigned to this node"), "{obstacle}");
    assert_eq!(agent.clear(&asked, "").result, Result::Failed);
    agent.is_told_of_nothing();
    let deed = agent.clear(&asked, "");
    assert!(deed.result == Result::Failed && deed.text.contains("run 1 has not ended"), "{deed:?}");
    assert_eq!(picture(&machine), before);
}

#[test]
fn nothing_is_done_if_it_changed_since_or_somebody_is_inside() {
    let machine = Machine::new();
    let agent = forgetful(&machine);
    let asked = asked(&machine, 1, Some("drover/s1"));
    let planned = agent.assess(&asked).stamp;
    git(&machine.worktree(1), &["commit", "-q", "--allow-empty", "-m", "since"]);
    let before = picture(&machine);
    let deed = agent.clear(&asked, &planned);
    assert!(deed.result == Result::Changed && deed.text.ends_with("this changed: branch"), "{deed:?}");
    let mut inside = Command::new("sleep").arg("600").current_dir(machine.worktree(1)).spawn().unwrap();
    let stamp = agent.assess(&asked).stamp;
    let named = format!("process {} (sleep)", inside.id());
    eventually("it is seen inside", || agent.assess(&asked).users == [named.clone()]);
    let deed = agent.clear(&asked, &stamp);
    assert!(deed.result == Result::Failed && deed.text.contains(&named), "{deed:?}");
    assert_eq!(picture(&machine), before);
    inside.kill().unwrap();
    inside.wait().unwrap();
    assert_eq!(agent.clear(&asked, &stamp).result, Result::Done);
}

#[test]
fn nothing_of_others_is_touched_even_if_it_is_asked_for_by_name() {
    let machine = Machine::new();
    let agent = Agent::with_workspace(&machine);
    agent.is_told_of_nothing();
    let home = agent.converge.means().home.owner();
    let mark = |installation: &str, node: &str, number| Mark {
        installation: installation.into(),
        node: node.into(),
        session: session(number),
        fence: Fence { generation: 1, epoch: 1 },
    };
    let places =
        [(3, Some(mark("other", &home.node, 3))), (4, Some(mark(&home.installation, "other", 4))), (5, None)];
    for (number, mark) in &places {
        let place = machine.worktree(*number).to_string_lossy().into_owned();
        git(&machine.repository(), &["worktree", "add", "-q", "-b", &format!("drover/s{number}"), &place]);
        if let Some(mark) = mark {
            git(&machine.repository(), &["worktree", "lock", "--reason", &mark.reason(), &place]);
        }
        git(
            &machine.repository(),
            &["update-ref", &format!("refs/drover/base/{}", session(*number)), "HEAD"],
        );
        git(
            &machine.repository(),
            &["update-ref", &format!("refs/drover/wip/{}/1", session(*number)), "HEAD"],
        );
    }
    git(&machine.repository(), &["branch", "drover/by-hand"]);
    let before = picture(&machine);
    for (number, _) in &places {
        let asked = asked(&machine, *number, Some(&format!("drover/s{number}")));
        let deed = agent.clear(&asked, "");
        assert_eq!(deed.result, Result::Nothing, "{number}: {deed:?}");
        assert!(agent.assess(&asked).work.is_none());
    }
    // A branch that only looks like one of Drover's, under a session that left nothing.
    assert_eq!(agent.clear(&asked(&machine, 6, Some("drover/by-hand")), "").result, Result::Nothing);
    assert_eq!(picture(&machine), before);
}

#[test]
fn a_directory_that_an_earlier_removal_left_half_way_is_saved_before_it_goes() {
    let machine = Machine::new();
    let agent = forgetful(&machine);
    let leaving = machine.dir.path().join(format!("state/worktrees/.leaving-{}", session(1)));
    git(&machine.repository(), &["worktree", "unlock", machine.worktree(1).to_str().unwrap()]);
    fs::rename(machine.worktree(1), &leaving).unwrap();
    git(&machine.repository(), &["worktree", "prune"]);
    fs::write(leaving.join("late.txt"), "written late").unwrap();
    let deed = agent.clear(&Asked { path: None, ..asked(&machine, 1, Some("drover/s1")) }, "");
    assert_eq!((deed.result, deed.saved.len()), (Result::Done, 1), "{deed:?}");
    assert_eq!(git(&machine.repository(), &["show", &format!("{}:late.txt", deed.saved[0])]), "written late");
    assert!(!leaving.exists());
    assert_eq!(git(&machine.repository(), &["branch", "--list", "drover/*"]), "");
}

#[test]
fn a_clearing_that_died_in_the_middle_is_taken_up_at_the_next_start() {
    let machine = Machine::new();
    let agent = forgetful(&machine);
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    // Somebody else's agent holds the repository: the work is saved, and then it waits.
    let locks = crate::git::lock::Locks::default();
    let asker = crate::git::lock::Asker { operation: "try", locks: &[] };
    let common = machine.repository().join(".git");
    let held = agent.block(locks.acquire(&common, asker, Duration::from_secs(9))).unwrap();
    let (converge, asked) = (agent.converge.clone(), asked(&machine, 1, Some("drover/s1")));
    agent.runtime.as_ref().unwrap().spawn(async move { converge.clear(asked, String::new()).await });
    let steps = || {
        let book = agent.block(agent.converge.means().ledger.load()).unwrap();
        book.sagas.into_values().next().map(|record| record.steps.len()).unwrap_or_default()
    };
    eventually("it is about to put it away", || steps() == 3);
    agent.dies();
    assert!(machine.worktree(1).exists());
    held.release();
    let agent = machine.start();
    eventually("it is cleared", || !machine.worktree(1).exists());
    let is_over = || agent.block(agent.converge.means().ledger.load()).unwrap().sagas.is_empty();
    eventually("it is over", is_over);
    assert_eq!(git(&machine.repository(), &["branch", "--list", "drover/*"]), "");
    let trash = git(&machine.repository(), &["for-each-ref", "--format=%(refname)", "refs/drover/trash"]);
    assert_eq!(trash.lines().count(), 1, "{trash}");
}

#[test]
fn two_orders_about_one_session_exclude_each_other() {
    let machine = Machine::new();
    let agent = forgetful(&machine);
    let asked = asked(&machine, 1, Some("drover/s1"));
    let clear = || agent.converge.clear(asked.clone(), String::new());
    let (one, two) = agent.block(async { tokio::join!(clear(), clear()) });
    let mut results = [one.result, two.result].map(|result| format!("{result:?}"));
    results.sort();
    assert_eq!(results, ["Done", "Nothing"]);
}

#[test]
fn a_run_that_nobody_saw_end_is_told_as_lost_and_one_that_lives_is_not() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    let tell = || agent.block(agent.converge.tell_run(session(1)));
    assert_eq!(tell().result, Result::Nothing);
    assert!(matches!(agent.local(1).run, LocalRun::Live(_)));
    machine.runs.vanish(1);
    assert_eq!(tell().result, Result::Done);
    agent.hears("lost", |seen| matches!(seen, Observation::RunEnded { outcome: Outcome::Lost, .. }));
    eventually("its task knows", || matches!(agent.local(1).run, LocalRun::Ended(_)));
    assert_eq!(tell().result, Result::Nothing);
    let ends = agent.observations().into_iter().filter(|seen| matches!(seen, Observation::RunEnded { .. }));
    assert_eq!(ends.count(), 1);
}

#[test]
fn a_named_lock_is_moved_aside_only_as_it_was_seen_and_if_nobody_holds_it() {
    let machine = Machine::new();
    let agent = Agent::with_workspace(&machine);
    let common = machine.repository().join(".git");
    let lock = |name: &str, stamp: &str| SeenLock {
        repository: common.clone(),
        name: name.into(),
        stamp: stamp.into(),
    };
    let moved = |lock: SeenLock| agent.block(agent.converge.move_lock(lock)).result;
    let path = common.join("packed-refs.lock");
    fs::write(&path, "theirs").unwrap();
    let stamp = crate::git::left::seen(&common, "packed-refs.lock").unwrap().stamp;
    assert_eq!(moved(lock("packed-refs.lock", "1:2:3")), Result::Changed);
    let open = fs::File::open(&path).unwrap();
    assert_eq!(moved(lock("packed-refs.lock", &stamp)), Result::Failed);
    drop(open);
    assert!(path.exists());
    for name in ["drover.lock", "HEAD", "../repository/.git/packed-refs.lock"] {
        assert_ne!(moved(lock(name, &stamp)), Result::Done, "{name}");
    }
    let elsewhere = machine.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("config.lock"), "").unwrap();
    let foreign = crate::git::left::seen(&elsewhere, "config.lock").unwrap().stamp;
    let asked = SeenLock { repository: elsewhere.clone(), name: "config.lock".into(), stamp: foreign };
    assert_eq!(moved(asked), Result::Failed);
    assert!(path.exists() && elsewhere.join("config.lock").exists());
    assert_eq!(moved(lock("packed-refs.lock", &stamp)), Result::Done);
    let aside: Vec<_> = fs::read_dir(common.join("drover-aside")).unwrap().collect();
    assert_eq!((aside.len(), path.exists()), (1, false));
    assert_eq!(moved(lock("packed-refs.lock", &stamp)), Result::Nothing);
}

/// A shell with the marks of a run of this session in this workspace.
fn marked(number: u8, workspace: &Path, script: &str) -> std::process::Child {
    let child = Command::new("sh")
        .args(["-c", script])
        .env("DROVER_SESSION", session(number).to_string())
        .env("DROVER_RUN", order(1).run.to_string())
        .env("DROVER_WORKSPACE", workspace)
        .spawn()
        .unwrap();
    let mark = format!("DROVER_SESSION={}", session(number));
    eventually("it is the program", || {
        crate::process::marked(&mark).iter().any(|stat| stat.pid == child.id())
    });
    child
}

fn named(child: &std::process::Child) -> (u32, u64) {
    (child.id(), crate::process::Stat::of(child.id()).unwrap().start)
}

#[test]
fn only_processes_that_were_named_and_bear_the_sessions_mark_are_ended() {
    let machine = Machine::new();
    let agent = machine.start();
    let sleep = "exec sleep 600";
    let mut ours = marked(1, &machine.worktree(1), sleep);
    let mut unnamed = marked(1, &machine.worktree(1), sleep);
    let mut other = marked(2, &machine.worktree(2), sleep);
    let theirs = machine.dir.path().join("theirs/worktrees/default/s1");
    let mut foreign = marked(1, &theirs, sleep);
    let (pid, start) = named(&ours);
    let end = |all: Vec<(u32, u64)>| {
        let asked = Asked { path: Some(theirs.clone()), ..asked(&machine, 1, None) };
        agent.block(agent.converge.end_processes(asked, all))
    };
    assert_eq!(end(vec![(pid, start + 1), named(&other), named(&foreign)]).result, Result::Nothing);
    let deed = end(vec![(pid, start), named(&other), named(&foreign)]);
    assert_eq!((deed.result, deed.text), (Result::Done, format!("ended: {pid}")));
    ours.wait().unwrap();
    for child in [&mut unnamed, &mut other, &mut foreign] {
        assert!(child.try_wait().unwrap().is_none(), "it lives");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_process_that_hears_nothing_is_killed() {
    let machine = Machine::new();
    let agent = machine.start();
    let ready = machine.dir.path().join("ready");
    let script = format!("trap '' TERM; : > {}; while :; do sleep 0.1; done", ready.display());
    let mut deaf = marked(1, &machine.worktree(1), &script);
    eventually("it is deaf", || ready.exists());
    let asked = asked(&machine, 1, None);
    let deed = agent.block(agent.converge.end_processes(asked, vec![named(&deaf)]));
    assert_eq!(deed.result, Result::Done, "{deed:?}");
    deaf.wait().unwrap();
}

#[test]
fn the_processes_of_a_run_that_is_wanted_here_are_not_ended() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    let mut child = marked(1, &machine.worktree(1), "exec sleep 600");
    let asked = asked(&machine, 1, None);
    let deed = agent.block(agent.converge.end_processes(asked, vec![named(&child)]));
    assert_eq!(deed.result, Result::Failed, "{deed:?}");
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_ending_that_died_is_taken_up_at_the_next_start() {
    let machine = Machine::new();
    let agent = machine.start();
    let mut child = marked(1, &machine.worktree(1), "exec sleep 600");
    let (pid, start) = named(&child);
    let boot = crate::process::Boot::read(crate::process::Boot::FILE.as_ref()).unwrap();
    let doomed = vec![crate::process::ProcessId { boot, pid, start }];
    let intent = Write::Mark {
        key: crate::ledger::Key { session: session(1), saga: "end processes".into() },
        step: "end",
        number: 1,
        mark: crate::ledger::Mark::Intended,
        data: serde_json::to_string(&doomed).unwrap().into(),
    };
    agent.block(agent.converge.means().ledger.commit(vec![intent])).unwrap();
    agent.dies();
    let agent = machine.start();
    child.wait().unwrap();
    let is_over = || agent.block(agent.converge.means().ledger.load()).unwrap().sagas.is_empty();
    eventually("it is over", is_over);
}
