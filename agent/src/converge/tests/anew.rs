//! Workspaces that are made anew or saved while they are in use, runs that get more time, ledgers that are not believed.

use super::*;

fn ready() -> Target {
    Target::Ready { stop: None }
}

fn references(machine: &Machine, below: &str) -> Vec<String> {
    let listed = git(&machine.repository(), &["for-each-ref", "--format=%(refname)", below]);
    listed.lines().map(str::to_owned).collect()
}

fn has_file(machine: &Machine, reference: &str, path: &str, content: &str) -> bool {
    let shown = Command::new("git")
        .current_dir(machine.repository())
        .args(["show", &format!("{reference}:{path}")])
        .output()
        .unwrap();
    shown.status.success() && shown.stdout == content.as_bytes()
}

#[test]
fn a_hard_reset_saves_the_work_and_begins_again_from_the_same_commit() {
    let machine = Machine::new();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, ready()));
    agent.hears("ready", |seen| matches!(seen, Observation::WorkspaceReady(_)));
    let worktree = machine.worktree(1);
    let base = git(&worktree, &["rev-parse", "HEAD"]).trim().to_owned();
    fs::write(worktree.join("a.txt"), "changed").unwrap();
    git(&worktree, &["commit", "-qam", "two"]);
    fs::write(worktree.join("b.txt"), "untracked").unwrap();
    fs::write(machine.repository().join("a.txt"), "moved on").unwrap();
    git(&machine.repository(), &["commit", "-qam", "elsewhere"]);
    let anew =
        Assignment { rebuild: 1, base_commit: Some(base.as_str().into()), ..machine.assignment(1, ready()) };
    agent.assign(&anew);
    eventually("made anew", || agent.local(1) == Local { rebuild: 1, site: Site::Made, ..agent.local(1) });
    assert_eq!(git(&worktree, &["rev-parse", "HEAD"]).trim(), base);
    assert_eq!(git(&worktree, &["status", "--porcelain"]), "");
    assert_eq!(fs::read(worktree.join("a.txt")).unwrap(), b"one");
    let trash = references(&machine, "refs/drover/trash");
    for (path, content) in [("b.txt", "untracked"), ("a.txt", "changed")] {
        assert!(
            trash.iter().any(|reference| has_file(&machine, reference, path, content)),
            "{path}: {trash:?}"
        );
    }
    let told = agent.observations();
    assert!(!told.iter().any(|seen| matches!(seen, Observation::Removed(_))), "the session stays: {told:?}");
}

#[test]
fn added_time_is_told_to_the_supervisor_once_and_reported() {
    let machine = Machine::new();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, running(1)));
    agent.hears("started", |seen| matches!(seen, Observation::RunStarted { .. }));
    let grant = Grant { total: Duration::from_secs(5), count: 2 };
    let longer = Assignment { grant, ..machine.assignment(1, running(1)) };
    agent.assign(&longer);
    agent.hears("extended", |seen| matches!(seen, Observation::RunExtended { extensions: 2, .. }));
    eventually("written down", || agent.local(1).grant == grant);
    agent.dies();
    let agent = machine.start();
    agent.assign(&longer);
    agent.assign(&Assignment { attempt: 1, ..longer });
    eventually("it rests", || agent.local(1).grant == grant);
    assert_eq!(*machine.runs.granted.lock().unwrap(), [(grant.total, grant.count)]);
}

#[test]
fn a_workspace_in_use_is_saved_now_and_then_and_before_a_stop() {
    let mut machine = Machine::new();
    machine.checkpoint_every = Some(Duration::from_millis(50));
    let agent = machine.start();
    agent.assign(&machine.assignment(1, running(1)));
    agent.hears("started", |seen| matches!(seen, Observation::RunStarted { .. }));
    let worktree = machine.worktree(1);
    fs::write(worktree.join("b.txt"), "first").unwrap();
    let saved = |machine: &Machine, content: &str| {
        let wips = references(machine, "refs/drover/wip");
        wips.iter().any(|reference| has_file(machine, reference, "b.txt", content))
    };
    eventually("saved by itself", || saved(&machine, "first"));
    let is_told = |seen: &Observation| matches!(seen, Observation::Checkpointed(saved) if saved.reference.starts_with("refs/drover/wip/"));
    agent.hears("told", is_told);
    agent.dies();
    machine.checkpoint_every = None;
    let agent = machine.start();
    fs::write(worktree.join("b.txt"), "second").unwrap();
    agent.assign(&machine.assignment(1, Target::Ready { stop: Some(order(1)) }));
    agent.hears("stopped", |seen| matches!(seen, Observation::RunEnded { .. }));
    assert!(saved(&machine, "second"), "before it was stopped");
    assert_eq!(fs::read(worktree.join("b.txt")).unwrap(), b"second");
}

#[test]
fn a_ledger_that_is_not_believed_starts_nothing_twice_and_removes_nothing() {
    let machine = Machine::new();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, running(1)));
    agent.hears("started", |seen| matches!(seen, Observation::RunStarted { .. }));
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    let workspace = agent.converge.entry(SessionId::from_random([1; 10])).unwrap().workspace;
    let ledger = agent.converge.means().ledger.clone();
    let copy = agent.runtime.as_ref().unwrap().block_on(ledger.distrust()).unwrap();
    assert!(copy.is_file(), "what it said is kept");
    drop(ledger);
    agent.assign(&Assignment { workspace, ..machine.assignment(1, running(1)) });
    eventually("found again", || {
        matches!(agent.local(1).run, LocalRun::Live(_)) && agent.local(1).site == Site::Made
    });
    assert_eq!(machine.runs.starts.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read(machine.worktree(1).join("b.txt")).unwrap(), b"mine");
}
