//! An agent looks at a real machine: what is its own it tells, what is not it does not, and it touches nothing.

mod strangers;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use drover_domain::command::Observation;
use drover_domain::converge::{Site, Target};
use drover_domain::id::{InstallationId, NodeId, SessionId};
use drover_domain::inventory::{Inventory, Kind, Traces};
use drover_domain::presence::Presence;
use drover_proto::node_v1;

use super::*;
use crate::converge::tests::{Agent, Machine, cleaned, eventually, git, order, running};

pub(super) const READY: Target = Target::Ready { stop: None };

pub(super) fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

impl Agent {
    pub(super) fn look(&self) -> Inventory {
        self.block(Probe::new(self.converge.clone()).look(None)).unwrap()
    }

    pub(super) fn traces(&self, number: u8) -> Option<Traces> {
        self.look().sessions.get(&session(number)).cloned()
    }

    /// Waits until its task has nothing to do.
    pub(super) fn rests(&self, number: u8) {
        eventually("it rests", || !self.converge.standing()[&session(number)].is_busy);
    }
}

/// The session's workspace, at rest.
fn rested(machine: &Machine) -> Agent {
    let agent = Agent::with_workspace(machine);
    agent.rests(1);
    agent
}

/// Gives a file an age.
pub(super) fn make_old(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
}

/// A process that bears marks.
pub(super) struct Marked(Child);

impl Marked {
    pub(super) fn new(session: SessionId, workspace: &Path) -> Self {
        let marked = Self(
            Command::new("sleep")
                .arg("600")
                .env("DROVER_SESSION", session.to_string())
                .env("DROVER_RUN", order(1).run.to_string())
                .env("DROVER_WORKSPACE", workspace)
                .spawn()
                .unwrap(),
        );
        // The new process bears the mark once it is the program.
        let mark = format!("DROVER_SESSION={session}");
        eventually("it is the program", || {
            crate::process::marked(&mark).iter().any(|stat| stat.pid == marked.pid())
        });
        marked
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_session_at_rest_is_told_with_all_that_is_here_of_it_and_nothing_else_is() {
    let machine = Machine::new();
    let agent = rested(&machine);
    let inventory = agent.look();
    assert_eq!((inventory.strays, inventory.locks, inventory.blind), (vec![], vec![], vec![]));
    assert_eq!(inventory.sessions.len(), 1);
    let traces = &inventory.sessions[&session(1)];
    let view = traces.ledger.as_ref().unwrap();
    assert!(view.is_assigned && !view.is_busy && view.sagas.is_empty(), "{view:?}");
    assert_eq!((view.site, view.run), (Site::Made, None));
    let place = machine.worktree(1).to_string_lossy().into_owned();
    assert_eq!(view.path.as_deref(), Some(place.as_str()));
    let [worktree] = &traces.worktrees[..] else { panic!("{traces:?}") };
    assert_eq!(worktree.path.as_deref(), Some(place.as_str()));
    assert_eq!(worktree.directory, Presence::Present(()));
    assert_eq!(worktree.branch.as_deref(), Some("drover/s1"));
    assert_eq!(worktree.fence, view.fence);
    let [references] = &traces.references[..] else { panic!("{traces:?}") };
    let base = git(&machine.repository(), &["rev-parse", "HEAD"]);
    assert_eq!((references.base.as_deref(), references.checkpoints), (Some(base.trim()), 0));
    assert_eq!(references.repository, worktree.repository);
}

#[test]
fn a_packed_base_and_checkpoints_are_counted_like_loose_ones() {
    let machine = Machine::new();
    let agent = rested(&machine);
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    let site = agent.converge.means().home.worktrees.clone();
    assert!(site.is_dir());
    let wip = format!("refs/drover/wip/{}/", session(1));
    git(&machine.repository(), &["update-ref", &format!("{wip}1"), "HEAD"]);
    git(&machine.repository(), &["pack-refs", "--all"]);
    git(&machine.repository(), &["update-ref", &format!("{wip}2"), "HEAD"]);
    let traces = agent.traces(1).unwrap();
    assert!(traces.references[0].base.is_some(), "{traces:?}");
    assert_eq!(traces.references[0].checkpoints, 2);
}

#[test]
fn without_its_ledger_an_agent_finds_its_worktrees_by_their_pointers() {
    let machine = Machine::new();
    rested(&machine).dies();
    machine.lose_ledger();
    let agent = machine.start();
    let traces = agent.traces(1).unwrap();
    assert_eq!(traces.ledger, None);
    assert_eq!(traces.worktrees.len(), 1);
    assert!(traces.references[0].base.is_some());
}

#[test]
fn an_entry_whose_directory_is_gone_says_so_and_one_that_cannot_be_seen_does_not() {
    let machine = Machine::new();
    let agent = rested(&machine);
    let place = machine.worktree(1);
    fs::rename(&place, machine.dir.path().join("moved")).unwrap();
    assert_eq!(agent.traces(1).unwrap().worktrees[0].directory, Presence::Absent);
    std::os::unix::fs::symlink(machine.dir.path().join("moved"), &place).unwrap();
    let directory = agent.traces(1).unwrap().worktrees[0].directory.clone();
    assert!(matches!(directory, Presence::Unknown(_)), "{directory:?}");
}

#[test]
fn a_branch_that_a_removal_left_is_still_told_when_the_session_is_forgotten() {
    let machine = Machine::new();
    let agent = rested(&machine);
    git(&machine.worktree(1), &["commit", "-q", "--allow-empty", "-m", "unmerged"]);
    agent.assign(&machine.assignment(1, cleaned()));
    agent.hears("kept", |seen| matches!(seen, Observation::Removed(kept) if kept.branch.is_some()));
    agent.converge.retire([session(1)]);
    eventually("forgotten", || agent.converge.held().is_empty());
    let traces = agent.traces(1).unwrap();
    assert_eq!((traces.ledger, traces.worktrees.len()), (None, 0));
    assert!(traces.references[0].base.is_some());
    let book = agent.block(agent.converge.means().ledger.holdings()).unwrap();
    let kept: Vec<_> = book.kept.into_values().map(|kept| kept.branch).collect();
    assert_eq!(kept, ["drover/s1".into()]);
}

#[test]
fn a_branch_that_is_kept_because_somebody_asked_is_not_drovers_any_more() {
    let machine = Machine::new();
    let agent = rested(&machine);
    let removal = drover_domain::session::Removal { keep_branch: true, force_branch: false };
    agent.assign(&machine.assignment(1, Target::Cleaned { removal, stop: None }));
    agent.hears("kept", |seen| matches!(seen, Observation::Removed(kept) if kept.branch.is_some()));
    agent.converge.retire([session(1)]);
    eventually("forgotten", || agent.converge.held().is_empty());
    assert_eq!(agent.traces(1), None);
    assert_ne!(git(&machine.repository(), &["branch", "--list", "drover/s1"]), "");
}

#[test]
fn directories_on_their_way_out_and_strays_are_told_apart() {
    let machine = Machine::new();
    let agent = rested(&machine);
    let root = machine.worktree(1).parent().unwrap().parent().unwrap().to_owned();
    for name in ["default/stray", "default/empty", ".odd"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("default/stray/a"), "").unwrap();
    fs::write(root.join("file"), "").unwrap();
    for name in [".leaving-", ".trash-", ".kept-"] {
        fs::create_dir_all(root.join(format!("{name}{}", session(7)))).unwrap();
    }
    let inventory = agent.look();
    let mut strays: Vec<_> = inventory.strays.iter().map(|stray| stray.path.to_string()).collect();
    strays.sort();
    let expected =
        [".odd", "default/stray", "file"].map(|name| root.join(name).to_string_lossy().into_owned());
    assert_eq!(strays, expected);
    let mut away: Vec<_> = inventory.sessions[&session(7)].away.iter().map(|away| away.is_saved).collect();
    away.sort_unstable();
    assert_eq!(away, [false, true]);
}

#[test]
fn old_locks_are_told_with_their_holder_and_whether_they_are_ours() {
    let machine = Machine::new();
    let agent = rested(&machine);
    let common = machine.repository().join(".git");
    let ours = "worktrees/s1/index.lock";
    let names = ["config.lock", "refs/heads/drover/s1.lock", ours, "packed-refs.lock"];
    for name in names {
        fs::write(common.join(name), "").unwrap();
        make_old(&common.join(name));
    }
    fs::write(common.join("HEAD.lock"), "young").unwrap();
    fs::write(common.join("drover.lock"), "").unwrap();
    make_old(&common.join("drover.lock"));
    let open = File::open(common.join("packed-refs.lock")).unwrap();
    let locks = agent.look().locks;
    drop(open);
    let mut found: Vec<_> = locks.iter().map(|lock| &*lock.name).collect();
    found.sort_unstable();
    assert_eq!(found, ["config.lock", "packed-refs.lock", "refs/heads/drover/s1.lock", ours]);
    let named = |name: &str| locks.iter().find(|lock| &*lock.name == name).unwrap();
    let holder = named("packed-refs.lock").holder.clone().unwrap();
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    assert!(named(ours).is_ours && !named("config.lock").is_ours);
    assert!(!named("packed-refs.lock").is_ours && !named("refs/heads/drover/s1.lock").is_ours);
    // Announced by one who is gone.
    fs::write(common.join("drover.lock"), "5\nprocess 1 (x)\nconfig.lock\n").unwrap();
    let locks = agent.look().locks;
    assert!(locks.iter().any(|lock| &*lock.name == "config.lock" && lock.is_ours), "{locks:?}");
}

#[test]
fn a_run_lives_as_long_as_its_supervisor_or_a_process_with_its_mark() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    agent.rests(1);
    let alive = || agent.traces(1).unwrap().run.unwrap().alive;
    assert_eq!(alive(), Presence::Present(()));
    // What is kept of it is gone, and nobody noticed.
    machine.runs.vanish(1);
    assert_eq!(alive(), Presence::Absent);
    let marked = Marked::new(session(1), &machine.worktree(1));
    let traces = agent.traces(1).unwrap();
    assert_eq!(traces.run.unwrap().alive, Presence::Present(()));
    let [process] = &traces.processes[..] else { panic!("{:?}", traces.processes) };
    assert_eq!((process.pid, &*process.name, process.run), (marked.pid(), "sleep", Some(order(1).run)));
}

#[test]
fn what_is_being_worked_on_is_busy() {
    let machine = Machine::new();
    machine.runs.hang();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, running(1)));
    eventually("it starts", || machine.runs.kept_count() == 1);
    let view = agent.traces(1).unwrap().ledger.unwrap();
    assert!(view.is_busy, "{view:?}");
    assert_eq!(view.sagas, ["run.1".into()]);
}

#[test]
fn what_cannot_be_listed_is_told_as_unseen_and_what_is_gone_is_not() {
    let machine = Machine::new();
    let agent = rested(&machine);
    let entries = machine.repository().join(".git/worktrees");
    fs::rename(&entries, machine.dir.path().join("entries")).unwrap();
    fs::write(&entries, "no directory").unwrap();
    let blind = agent.look().blind;
    assert_eq!(blind.iter().map(|blind| blind.kind).collect::<Vec<_>>(), [Kind::Worktrees]);
    fs::remove_dir_all(machine.repository()).unwrap();
    assert_eq!(agent.look().blind, []);
}

#[test]
fn only_what_changed_is_told_again() {
    let machine = Machine::new();
    let agent = rested(&machine);
    agent.assign(&machine.assignment(2, READY));
    eventually("the second is ready", || agent.local(2).site == Site::Made);
    agent.rests(2);
    let probe = Probe::new(agent.converge.clone());
    let read = |known: u64, is_full: bool, repository: Option<PathBuf>| {
        agent.block(probe.read(&Ask { known, is_full, repository })).unwrap()
    };
    let told = |news: &News| -> Vec<String> {
        news.whole.sessions.iter().map(|traces| traces.session_id.clone()).collect()
    };
    let first = read(0, false, None);
    assert_eq!((first.header.since, told(&first).len()), (0, 2));
    let second = read(first.header.look, false, None);
    assert_eq!((second.header.since, told(&second)), (first.header.look, vec![]));
    fs::remove_dir_all(machine.worktree(2)).unwrap();
    fs::write(machine.worktree(1).parent().unwrap().join("stray"), "").unwrap();
    let third = read(second.header.look, false, None);
    assert_eq!(told(&third), [session(2).to_string()]);
    assert_eq!(third.whole.strays.len(), 1);
    agent.assign(&machine.assignment(2, cleaned()));
    agent.hears("removed", |seen| matches!(seen, Observation::Removed(_)));
    agent.converge.retire([session(2)]);
    eventually("forgotten", || agent.converge.held().len() == 1);
    let here = read(third.header.look, false, Some(machine.repository()));
    assert_eq!((here.header.since, told(&here)), (0, vec![session(1).to_string()]));
    let fourth = read(third.header.look, false, None);
    assert_eq!(
        (fourth.whole.gone.clone(), fourth.header.since),
        (vec![session(2).to_string()], third.header.look)
    );
    // Another look than the last one, and one that is to be whole.
    assert_eq!(told(&read(second.header.look, false, None)).len(), 1);
    assert_eq!(told(&read(fourth.header.look + 1, true, None)).len(), 1);
}

#[test]
fn pieces_hold_everything_once_and_each_fits_into_a_message() {
    let traces = |number: u32| node_v1::SessionTraces {
        session_id: format!("{number}"),
        worktrees: vec![node_v1::WorktreeTrace { path: "x".repeat(500), ..Default::default() }],
        ..Default::default()
    };
    let whole = node_v1::InventoryPiece {
        sessions: (0..1000).map(traces).collect(),
        gone: (0..5000).map(|number| format!("ses_{number:016}")).collect(),
        locks: vec![node_v1::LockFile { name: "y".repeat(100_000), ..Default::default() }; 2],
        ..Default::default()
    };
    let news = News { header: node_v1::InventoryHeader::default(), whole: whole.clone() };
    let mut joined = node_v1::InventoryPiece::default();
    for piece in news.pieces() {
        let alone = piece.locks.len() == 1 && piece.sessions.is_empty();
        assert!(prost::Message::encoded_len(&piece) <= 66 * 1024 || alone);
        joined.sessions.extend(piece.sessions);
        joined.gone.extend(piece.gone);
        joined.locks.extend(piece.locks);
    }
    assert_eq!(joined, whole);
}
