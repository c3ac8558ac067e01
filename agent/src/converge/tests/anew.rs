//! Workspaces that are made anew, saved while they are in use, restored or mended, and runs that get more time.

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
    let agent = Agent::with_workspace(&machine);
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
    let agent = Agent::at_work(&machine);
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
    let agent = Agent::at_work(&machine);
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
fn saved_work_becomes_a_session_again_as_it_was() {
    let machine = Machine::new();
    let agent = Agent::with_workspace(&machine);
    let worktree = machine.worktree(1);
    fs::write(worktree.join("a.txt"), "committed").unwrap();
    git(&worktree, &["commit", "-qam", "two"]);
    let tip = git(&worktree, &["rev-parse", "HEAD"]);
    fs::write(worktree.join("staged.txt"), "staged").unwrap();
    git(&worktree, &["add", "staged.txt"]);
    fs::write(worktree.join("b.txt"), "untracked").unwrap();
    let before = git(&worktree, &["status", "--porcelain"]);
    let removal = Removal { keep_branch: false, force_branch: true };
    agent.assign(&machine.assignment(1, Target::Cleaned { removal, stop: None }));
    agent.hears("removed", |seen| matches!(seen, Observation::Removed(_)));
    let ledger = &agent.converge.means().ledger;
    let runtime = agent.runtime.as_ref().unwrap();
    let saved = runtime
        .block_on(async { agent.converge.means().home.saved(&ledger.repositories().await.unwrap()).await });
    let [item] = saved.as_slice() else { panic!("one item: {saved:?}") };
    assert_eq!(item.record.label.name, "s1");
    let again = Assignment { origin: Some(item.id.as_str().into()), ..machine.assignment(2, ready()) };
    agent.assign(&again);
    eventually("restored", || agent.local(2).site == Site::Made);
    let restored = machine.worktree(2);
    assert_eq!(git(&restored, &["status", "--porcelain"]), before);
    assert_eq!(git(&restored, &["rev-parse", "HEAD"]), tip);
    assert_eq!(git(&restored, &["rev-parse", "--abbrev-ref", "HEAD"]).trim(), "drover/s2");
    assert_eq!(fs::read(restored.join("b.txt")).unwrap(), b"untracked");
}

#[test]
fn a_workspace_whose_pointer_is_missing_is_mended_before_a_run_and_one_that_is_gone_is_a_fault() {
    let machine = Machine::new();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, ready()));
    agent.assign(&machine.assignment(2, ready()));
    eventually("ready", || [1, 2].iter().all(|number| agent.local(*number).site == Site::Made));
    fs::remove_file(machine.worktree(1).join(".git")).unwrap();
    fs::rename(machine.worktree(2), machine.dir.path().join("elsewhere")).unwrap();
    let known = |number: u8| {
        let workspace = agent.workspace(number);
        // Runs are remembered by their number alone.
        Assignment { workspace, ..machine.assignment(number, running(number.into())) }
    };
    agent.assign(&known(1));
    eventually("runs", || matches!(agent.local(1).run, LocalRun::Live(_)));
    assert_eq!(git(&machine.worktree(1), &["status", "--porcelain"]), "");
    agent.assign(&known(2));
    let is_said = |seen: &Observation| matches!(seen, Observation::Faulted(fault) if fault.code == FaultCode::PathGone && fault.hint.contains("reset --hard"));
    agent.hears("a fault that says what to do", is_said);
    assert_eq!(machine.runs.starts.load(Ordering::SeqCst), 1, "nothing runs where nothing is");
}
