//! Runs as the converge loop orders them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drover_agent::saga::workspace::Layout;
use drover_agent::saga::{Runs, Stop};
use drover_domain::converge::{Assignment, Target};
use drover_domain::fence::Fence;
use drover_domain::name::Name;
use drover_domain::outcome::Outcome;
use drover_domain::presence::Presence;
use drover_domain::repository::{AbsolutePath, Repository};
use drover_domain::session::FaultCode;
use drover_domain::spec::{
    Limits, OnNodeLoss, Parts, Restart, Resume, RuntimeKind, Secrets, Spec, WorkspaceKind,
};

use crate::machine::{Machine, key, soon};

fn assignment(script: &str) -> Assignment {
    let path = AbsolutePath::new("/anywhere").unwrap();
    let parts = Parts {
        repository: Repository::Path { path, machine: "here".into() },
        base: None,
        workspace: WorkspaceKind::Worktree,
        runtime: RuntimeKind::Process,
        image: None,
        command: ["sh", "-c", script].map(Box::from).into(),
        environment: BTreeMap::from([("LANG".into(), "xx".into()), ("PLAIN".into(), "plain".into())]),
        secret_names: vec!["TOKEN".into()],
        limits: Limits { timeout: Some(Duration::from_secs(60)), ..Limits::default() },
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
        base_commit: None,
        origin: None,
        rebuild: 0,
        resumes: false,
        grant: Default::default(),
        session: key(1).session,
        project: Name::default_project(),
        name: Name::new("s").unwrap(),
        owner: "me".into(),
        fence: Fence { generation: 4, epoch: 2 },
        attempt: 0,
        spec: Arc::new(Spec::new(parts).unwrap()),
        secrets: Arc::new(Secrets(BTreeMap::from([("TOKEN".into(), "hunter2".into())]))),
        branch: "drover/s".into(),
        workspace: None,
        target: Target::Keep,
        halt: None,
        trace: None,
    }
}

fn layout(path: PathBuf, run_as: Option<&str>) -> Layout {
    Layout { common: None, base: None, branch: "drover/s".into(), path, run_as: run_as.map(str::to_owned) }
}

#[tokio::test]
async fn an_assigned_run_is_started_told_of_and_stopped() {
    let machine = Machine::new();
    let (runs, order) = (&machine.processes as &dyn Runs, key(1).order);
    let assignment = assignment("echo $LANG $PLAIN $TOKEN $DROVER_FENCE; sleep 600");
    assert_eq!(runs.started(assignment.session, order).await, Presence::Absent);
    let launch = runs.start(&assignment, order, &layout(machine.workspace(), None)).await.unwrap();
    assert!(launch.pid > 0);
    assert_eq!(launch.deadline, Some(launch.started + 60_000));
    assert_eq!(runs.started(assignment.session, order).await, Presence::Present(launch.clone()));
    machine.until_it_says(key(1), "xx plain hunter2 4.2").await;
    let stop = runs.stop(assignment.session, order, Stop { grace: Duration::ZERO, by: "me" });
    let ended = soon("the stop", stop).await.unwrap();
    assert_eq!(ended.outcome, Outcome::Stopped("me".into()));
    assert_eq!(ended.started.map(|started| started.millis()), Some(launch.started));
    assert_eq!(soon("the end", runs.ended(assignment.session, order)).await, ended);
    runs.forget(assignment.session).await.unwrap();
    assert!(machine.processes.all().unwrap().is_empty());
}

#[tokio::test]
async fn a_start_that_is_taken_back_can_be_made_again() {
    let machine = Machine::new();
    let (runs, order) = (&machine.processes as &dyn Runs, key(1).order);
    let (assignment, layout) = (assignment("sleep 600"), layout(machine.workspace(), None));
    let first = runs.start(&assignment, order, &layout).await.unwrap();
    soon("the undoing", runs.undo(assignment.session, order)).await.unwrap();
    runs.undo(assignment.session, order).await.unwrap();
    assert_eq!(runs.started(assignment.session, order).await, Presence::Absent);
    let second = runs.start(&assignment, order, &layout).await.unwrap();
    assert_ne!(first.pid, second.pid);
}

#[tokio::test]
async fn an_unknown_user_is_a_fault_that_says_what_to_do() {
    let machine = Machine::new();
    let runs = &machine.processes as &dyn Runs;
    let layout = layout(machine.workspace(), Some("no-such-user"));
    let fault = runs.start(&assignment("true"), key(1).order, &layout).await.unwrap_err();
    assert_eq!((fault.code, fault.retryable), (FaultCode::UserUnknown, false));
    assert!(fault.text.contains("no-such-user") && fault.hint.contains("--run-as"), "{fault:?}");
    assert!(machine.processes.all().unwrap().is_empty());
}
