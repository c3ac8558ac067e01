//! The converge loop over a real ledger and real git, with runs that are only remembered: what is assigned comes about,
//! once, is told, and goes on after the agent died anywhere.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use drover_domain::command::Observation;
use drover_domain::converge::{LocalRun, Site, Target};
use drover_domain::fence::Fence;
use drover_domain::id::{InstallationId, NodeId, RunId};
use drover_domain::name::Name;
use drover_domain::outcome::{Outcome, Usage};
use drover_domain::presence::Presence;
use drover_domain::repository::{AbsolutePath, Repository};
use drover_domain::session::{Fault, FaultCode, Grant, Order, Removal};
use drover_domain::spec::{OnNodeLoss, Parts, Restart, Resume, RuntimeKind, Spec, WorkspaceKind};
use drover_domain::time::Timestamp;
use drover_proto::convert;
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::git::mirror::Mirrors;
use crate::git::runner::{Account, Git, Settings};
use crate::ledger::Owner;
use crate::logs::follow::Follow;
use crate::saga::run::Launch;
use crate::saga::workspace::Layout;
use crate::saga::{Ended, Excerpt, Extended, Runs, Stop};
use crate::workspace::{REGENERABLE, Workspaces};

mod anew;
mod dying;
mod lost;
mod remains;
mod trash;

/// Runs that live as long as the test says, whatever becomes of the agent.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    runs: Mutex<HashMap<u32, Option<Outcome>>>,
    starts: AtomicU32,
    granted: Mutex<Vec<(Duration, u32)>>,
    /// A start never returns: the agent dies in it.
    hangs: AtomicBool,
}

impl Remembered {
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    /// What is kept of it is gone.
    pub(crate) fn vanish(&self, ordinal: u32) {
        self.runs.lock().unwrap().remove(&ordinal);
    }

    pub(crate) fn kept_count(&self) -> usize {
        self.runs.lock().unwrap().len()
    }

    pub(crate) fn end(&self, ordinal: u32, outcome: Outcome) {
        self.runs.lock().unwrap().insert(ordinal, Some(outcome));
    }
}

#[async_trait]
impl Runs for Remembered {
    async fn started(&self, _: SessionId, order: Order) -> Presence<Launch> {
        match self.runs.lock().unwrap().get(&order.ordinal) {
            Some(_) => Presence::Present(Launch { pid: 7, ..Launch::default() }),
            None => Presence::Absent,
        }
    }

    async fn start(&self, _: &Assignment, order: Order, layout: &Layout) -> Result<Launch, Fault> {
        assert!(layout.path.join("a.txt").is_file(), "started without its files");
        self.starts.fetch_add(1, Ordering::SeqCst);
        self.runs.lock().unwrap().insert(order.ordinal, None);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(Launch { pid: 7, ..Launch::default() })
    }

    async fn undo(&self, _: SessionId, order: Order) -> Result<(), Fault> {
        self.runs.lock().unwrap().remove(&order.ordinal);
        Ok(())
    }

    async fn stop(&self, session: SessionId, order: Order, how: Stop<'_>) -> Result<Ended, Fault> {
        self.end(order.ordinal, Outcome::Stopped(how.by.into()));
        Ok(self.ended(session, order).await)
    }

    async fn ended(&self, _: SessionId, order: Order) -> Ended {
        loop {
            let outcome = self.runs.lock().unwrap().get(&order.ordinal).cloned().flatten();
            if let Some(outcome) = outcome {
                let at = Timestamp::from_millis(5);
                return Ended { started: Some(at), ended: at, outcome, usage: Usage::default() };
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn lives(&self, _: SessionId, order: Order) -> Presence<()> {
        match self.runs.lock().unwrap().get(&order.ordinal) {
            Some(None) => Presence::Present(()),
            Some(Some(_)) | None => Presence::Absent,
        }
    }

    async fn settle(&self, session: SessionId, order: Order) -> Result<Option<Ended>, Fault> {
        let known = self.runs.lock().unwrap().get(&order.ordinal).cloned();
        match known {
            Some(None) => Ok(None),
            Some(Some(_)) => Ok(Some(self.ended(session, order).await)),
            None => {
                let ended = Timestamp::from_millis(5);
                Ok(Some(Ended { started: None, ended, outcome: Outcome::Lost, usage: Usage::default() }))
            }
        }
    }

    async fn extend(&self, _: SessionId, _: Order, total: Duration, grants: u32) -> Result<Extended, Fault> {
        self.granted.lock().unwrap().push((total, grants));
        Ok(Extended { deadline: Some(Timestamp::from_millis(9).after(total)), extensions: grants })
    }

    async fn extended(&self, _: SessionId, _: Order, _: u32) -> Extended {
        std::future::pending().await
    }

    async fn fence(&self, _: SessionId, _: Order, _: Duration) -> Result<(), Fault> {
        unreachable!("nobody fences a run here")
    }

    async fn kept(&self, _: SessionId) -> Result<Vec<Order>, Fault> {
        unreachable!("nobody reads logs here")
    }

    async fn log(&self, _: SessionId, _: Order, _: Excerpt) -> Result<Follow, Fault> {
        unreachable!("nobody reads logs here")
    }

    async fn forget(&self, _: SessionId) -> Result<(), Fault> {
        Ok(())
    }

    fn account(&self, _: &str) -> Result<Account, Fault> {
        unreachable!("no session here has a user of its own")
    }
}

/// A machine with a repository; agents on it come and go.
pub(crate) struct Machine {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runs: Arc<Remembered>,
    checkpoint_every: Option<Duration>,
}

pub(crate) struct Agent {
    pub(crate) converge: Converge,
    owner: Option<Owner>,
    pub(crate) runtime: Option<tokio::runtime::Runtime>,
}

pub(crate) fn git(at: &Path, args: &[&str]) -> String {
    let out = Command::new("git").current_dir(at).args(args).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Self { dir, runs: Arc::default(), checkpoint_every: None };
        let repository = machine.repository();
        fs::create_dir_all(&repository).unwrap();
        git(&repository, &["init", "-q", "-b", "main"]);
        git(&repository, &["config", "user.email", "a@example.org"]);
        git(&repository, &["config", "user.name", "a"]);
        fs::write(repository.join("a.txt"), "one").unwrap();
        git(&repository, &["add", "-A"]);
        git(&repository, &["commit", "-q", "-m", "one"]);
        machine
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("repository")
    }

    pub(crate) fn start(&self) -> Agent {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let state = self.dir.path().canonicalize().unwrap().join("state");
        fs::create_dir_all(&state).unwrap();
        let node = NodeId::from_random([1; 10]);
        let (ledger, owner) = Ledger::open(&state, node).unwrap();
        let tool = Git::new(Settings::default());
        let workspaces = Workspaces::new(tool.clone(), REGENERABLE);
        let mirrors =
            Mirrors { root: state.join("repositories"), git: tool, locks: workspaces.locks().clone() };
        let home = Home {
            state: state.clone(),
            installation: InstallationId::from_random([2; 10]),
            node,
            worktrees: state.join("worktrees"),
            workspaces,
            mirrors,
            runs: self.runs.clone(),
        };
        let converge = runtime.block_on(async {
            let book = ledger.load().await.unwrap();
            let engine = Engine::new(CancellationToken::new());
            let means = Means { home, ledger, engine, clock: Clock::system(), tasks: Tasks::new() };
            Converge::start(
                means,
                Limits { makes: 4, starts: 4, checkpoint_every: self.checkpoint_every },
                &book,
            )
        });
        Agent { converge, owner: Some(owner), runtime: Some(runtime) }
    }

    pub(crate) fn assignment(&self, number: u8, target: Target) -> Assignment {
        let path = AbsolutePath::new(self.repository().to_str().unwrap()).unwrap();
        let parts = Parts {
            repository: Repository::Path { path, machine: "here".into() },
            base: None,
            workspace: WorkspaceKind::Worktree,
            runtime: RuntimeKind::Process,
            image: None,
            command: vec!["true".into()],
            environment: Default::default(),
            secret_names: vec![],
            limits: drover_domain::spec::Limits::default(),
            priority: 0,
            node: None,
            node_selector: Default::default(),
            labels: Default::default(),
            on_node_loss: OnNodeLoss::Wait,
            restart: Restart::Never,
            resume: Resume::default(),
            run_as: None,
        };
        Assignment {
            session: SessionId::from_random([number; 10]),
            project: Name::default_project(),
            name: Name::new(&format!("s{number}")).unwrap(),
            owner: "me".into(),
            fence: Fence { generation: 1, epoch: 1 },
            attempt: 0,
            spec: Arc::new(Spec::new(parts).unwrap()),
            secrets: Arc::default(),
            branch: format!("drover/s{number}").into(),
            workspace: None,
            base_commit: None,
            origin: None,
            rebuild: 0,
            resumes: false,
            grant: Grant::default(),
            target,
            halt: None,
            trace: None,
        }
    }

    pub(crate) fn lose_ledger(&self) {
        for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
            let _ = fs::remove_file(self.dir.path().join("state").join(file));
        }
    }

    pub(crate) fn worktree(&self, number: u8) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(format!("state/worktrees/default/s{number}"))
    }
}

impl Agent {
    /// One with a run that goes on, of session 1.
    pub(crate) fn at_work(machine: &Machine) -> Self {
        let agent = machine.start();
        agent.assign(&machine.assignment(1, running(1)));
        agent.hears("started", |seen| matches!(seen, Observation::RunStarted { .. }));
        agent
    }

    /// One with the workspace of session 1.
    pub(crate) fn with_workspace(machine: &Machine) -> Self {
        let agent = machine.start();
        agent.assign(&machine.assignment(1, Target::Ready { stop: None }));
        agent.hears("ready", |seen| matches!(seen, Observation::WorkspaceReady(_)));
        agent
    }

    /// What the controller knows of this session's workspace.
    pub(crate) fn workspace(&self, number: u8) -> Option<drover_domain::session::Workspace> {
        self.converge.entry(SessionId::from_random([number; 10])).unwrap().workspace
    }

    pub(crate) fn assign(&self, assignment: &Assignment) {
        let wire = convert::assignment::to_wire(assignment);
        let arrived = wire::arrived(wire).unwrap();
        self.runtime.as_ref().unwrap().block_on(self.converge.assign(vec![arrived])).unwrap();
    }

    pub(crate) fn observations(&self) -> Vec<Observation> {
        let ledger = &self.converge.means().ledger;
        let reports = self.runtime.as_ref().unwrap().block_on(ledger.reports(0, 1000)).unwrap();
        let node = NodeId::from_random([1; 10]);
        let read = |body: Bytes| drover_proto::node_v1::Report::decode(body).unwrap();
        let domain = |body| convert::report::from_wire(node, &read(body)).unwrap().observation;
        reports.into_iter().map(|(_, report)| domain(report.body)).collect()
    }

    /// Waits until a report is as `wanted`.
    pub(crate) fn hears(&self, what: &str, wanted: impl Fn(&Observation) -> bool) {
        eventually(what, || self.observations().iter().any(&wanted));
    }

    pub(crate) fn local(&self, number: u8) -> Local {
        self.converge.entry(SessionId::from_random([number; 10])).unwrap_or_default().local
    }

    pub(crate) fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    /// SIGKILL: every task is gone at its next await, nothing is put in order.
    pub(crate) fn dies(mut self) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(10));
        let owner = self.owner.take().unwrap();
        drop(self);
        owner.join();
    }
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Clock::system();
    let deadline = begun.boot() + Duration::from_secs(20);
    while !is_so() {
        assert!(begun.boot() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn order(ordinal: u32) -> Order {
    Order { run: RunId::from_random([ordinal as u8; 10]), ordinal }
}

pub(crate) fn running(ordinal: u32) -> Target {
    Target::Running { order: order(ordinal) }
}

pub(crate) fn cleaned() -> Target {
    Target::Cleaned { removal: Removal::default(), stop: None }
}

#[test]
fn a_session_is_made_and_run_and_its_end_is_told_once() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    assert!(machine.worktree(1).join("a.txt").is_file());
    machine.runs.end(1, Outcome::Failed(3));
    agent.hears("ended", |seen| matches!(seen, Observation::RunEnded { outcome: Outcome::Failed(3), .. }));
    let kinds: Vec<_> = agent.observations().iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 3, "{:?}", agent.observations());
    assert!(matches!(agent.observations()[0], Observation::WorkspaceReady(_)));
    // Told the same again, it does nothing again.
    agent.assign(&machine.assignment(1, running(1)));
    agent.assign(&machine.assignment(2, Target::Ready { stop: None }));
    eventually("the second is ready", || agent.local(2).site == Site::Made);
    assert_eq!(machine.runs.starts.load(Ordering::SeqCst), 1);
}

#[test]
fn a_stop_ends_the_run_and_a_removal_leaves_nothing() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    agent.assign(&machine.assignment(1, Target::Ready { stop: Some(order(1)) }));
    agent.hears("stopped", |seen| matches!(seen, Observation::RunEnded { outcome: Outcome::Stopped(_), .. }));
    agent.assign(&machine.assignment(1, cleaned()));
    agent.hears("removed", |seen| matches!(seen, Observation::Removed(kept) if kept.branch.is_none()));
    assert!(!machine.worktree(1).exists());
    assert_eq!(git(&machine.repository(), &["branch", "--list", "drover/*"]), "");
    assert_eq!(git(&machine.repository(), &["worktree", "list"]).lines().count(), 1);
    // What is over may be forgotten.
    agent.converge.retire([SessionId::from_random([1; 10])]);
    eventually("forgotten", || agent.converge.held().is_empty());
}

#[test]
fn work_is_kept_when_a_session_is_removed() {
    let machine = Machine::new();
    let agent = machine.start();
    agent.assign(&machine.assignment(1, Target::Ready { stop: None }));
    agent.hears("ready", |seen| matches!(seen, Observation::WorkspaceReady(_)));
    fs::write(machine.worktree(1).join("b.txt"), "mine").unwrap();
    agent.assign(&machine.assignment(1, cleaned()));
    agent.hears("removed", |seen| matches!(seen, Observation::Removed(kept) if kept.trash.len() == 1));
    let kept = agent.observations().into_iter().find_map(|seen| match seen {
        Observation::Removed(kept) => Some(kept),
        _ => None,
    });
    let file = format!("{}:b.txt", kept.unwrap().trash[0]);
    assert_eq!(git(&machine.repository(), &["show", &file]), "mine");
}

#[test]
fn a_fault_is_told_once_leaves_nothing_and_is_tried_again_under_a_new_attempt() {
    let machine = Machine::new();
    let agent = machine.start();
    git(&machine.repository(), &["branch", "drover/s1"]);
    let mut assignment = machine.assignment(1, Target::Ready { stop: None });
    agent.assign(&assignment);
    let is_taken = |seen: &Observation| matches!(seen, Observation::Faulted(fault) if fault.code == FaultCode::BranchTaken);
    agent.hears("faulted", is_taken);
    agent.assign(&assignment);
    let nothing = Local { fence: assignment.fence, faulted: Some(0), ..Local::default() };
    eventually("nothing of it is left", || agent.local(1) == nothing);
    // What was there before is still there.
    assert_ne!(git(&machine.repository(), &["branch", "--list", "drover/s1"]), "");
    git(&machine.repository(), &["branch", "-D", "drover/s1"]);
    assignment.attempt = 1;
    agent.assign(&assignment);
    agent.hears("ready", |seen| matches!(seen, Observation::WorkspaceReady(_)));
    assert_eq!(agent.observations().len(), 2);
}

#[test]
fn what_the_controller_does_not_know_is_kept_and_an_older_placement_changes_nothing() {
    let machine = Machine::new();
    let agent = Agent::at_work(&machine);
    let runtime = agent.runtime.as_ref().unwrap();
    runtime.block_on(agent.converge.keep_others(&BTreeSet::new())).unwrap();
    let older = Assignment { fence: Fence { generation: 0, epoch: 9 }, ..machine.assignment(1, cleaned()) };
    agent.assign(&older);
    agent.converge.retire([SessionId::from_random([1; 10])]);
    // Another session goes all the way: the first one had every chance to be touched.
    agent.assign(&machine.assignment(2, Target::Ready { stop: None }));
    eventually("the other is ready", || agent.local(2).site == Site::Made);
    assert!(machine.worktree(1).is_dir());
    eventually("it lives", || agent.local(1).run == LocalRun::Live(order(1)));
}

#[test]
fn many_sessions_on_one_repository_are_made_at_once() {
    let machine = Machine::new();
    let agent = machine.start();
    for number in 1..=20 {
        agent.assign(&machine.assignment(number, Target::Ready { stop: None }));
    }
    eventually("all are ready", || (1..=20).all(|number| agent.local(number).site == Site::Made));
    assert!(agent.observations().iter().all(|seen| matches!(seen, Observation::WorkspaceReady(_))));
}
