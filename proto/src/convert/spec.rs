//! What a session is asked to be.

use drover_domain::labels::Labels;
use drover_domain::name::Name;
use drover_domain::repository::{AbsolutePath, BadRepository, Repository, Url};
use drover_domain::spec::{
    Limits, OnNodeLoss, Parts, Restart, Resume, RuntimeKind, Signs, Spec, WorkspaceKind,
};

use super::time::{length, maybe_length};
use super::{Invalid, known, optional};
use crate::v1;

/// Checks a spec as a whole; `path` is where it is in its message.
pub fn from_wire(path: &str, wire: v1::SessionSpec) -> Result<Spec, Invalid> {
    let parts = parts(wire).map_err(|problems| problems.within(path))?;
    Spec::new(parts).map_err(|problems| {
        let mut invalid = Invalid::default();
        problems.into_iter().for_each(|problem| invalid.add(problem.field, problem.problem));
        invalid.within(path)
    })
}

/// A spec that was accepted before: only its form is checked.
pub fn accepted(path: &str, wire: v1::SessionSpec) -> Result<Spec, Invalid> {
    parts(wire).map(Spec::accepted).map_err(|problems| problems.within(path))
}

fn parts(wire: v1::SessionSpec) -> Result<Parts, Invalid> {
    let mut invalid = Invalid::default();
    let node = match wire.node.as_str() {
        "" => None,
        name => invalid.take(Name::new(name).map_err(|problem| Invalid::one("node", problem))),
    };
    let repository = invalid.take(repository(&wire.repository, wire.machine));
    let kinds = invalid.take(kinds(wire.workspace, wire.runtime, wire.on_node_loss));
    let resume = invalid.take(resume(wire.resume, &wire.resume_command));
    let labels = |field: &str, pairs| Labels::new(pairs).map_err(|problem| Invalid::one(field, problem));
    let node_selector = invalid.take(labels("node_selector", wire.node_selector));
    let own_labels = invalid.take(labels("labels", wire.labels));
    let limits = Limits {
        timeout: invalid.take(maybe_length("timeout", wire.timeout.as_ref())).flatten(),
        idle_timeout: invalid.take(maybe_length("idle_timeout", wire.idle_timeout.as_ref())).flatten(),
        stop_grace: invalid.take(maybe_length("stop_grace", wire.stop_grace.as_ref())).flatten(),
        queue_timeout: invalid.take(maybe_length("queue_timeout", wire.queue_timeout.as_ref())).flatten(),
        log_bytes: wire.log_bytes,
        idle_signs: wire.idle_signs.map(signs),
        extend_signs: wire.extend_signs.map(signs),
        max_extensions: wire.max_extensions,
        max_extension: invalid.take(maybe_length("max_extension", wire.max_extension.as_ref())).flatten(),
    };
    let checked = (|| {
        let (workspace, runtime, on_node_loss) = kinds?;
        Some(Parts {
            repository: repository?,
            base: optional(&wire.base),
            workspace,
            runtime,
            image: optional(&wire.image),
            command: wire.command.into_iter().map(Into::into).collect(),
            environment: wire.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            secret_names: wire.secret_names.into_iter().map(Into::into).collect(),
            limits,
            priority: wire.priority,
            node,
            node_selector: node_selector?,
            labels: own_labels?,
            on_node_loss,
            restart: if wire.restart_on_failure == 0 {
                Restart::Never
            } else {
                Restart::OnFailure(wire.restart_on_failure)
            },
            resume: resume?,
            run_as: optional(&wire.run_as),
        })
    })();
    invalid.or(checked)
}

fn signs(v1::LifeSigns { touch, output, cpu }: v1::LifeSigns) -> Signs {
    Signs { touch, output, cpu }
}

fn repository(text: &str, machine: String) -> Result<Repository, Invalid> {
    let invalid = |problem: BadRepository| Invalid::one("repository", problem);
    if text.starts_with('/') {
        Ok(Repository::Path { path: AbsolutePath::new(text).map_err(invalid)?, machine: machine.into() })
    } else if text.starts_with('.') {
        Err(invalid(BadRepository::NotAbsolute))
    } else {
        Url::new(text).map(Repository::Url).map_err(invalid)
    }
}

fn kinds(
    workspace: i32,
    runtime: i32,
    loss: i32,
) -> Result<(WorkspaceKind, RuntimeKind, OnNodeLoss), Invalid> {
    use v1::{OnNodeLoss as L, RuntimeKind as R, WorkspaceKind as W};
    let mut invalid = Invalid::default();
    let workspace = invalid.take(known("workspace", workspace)).map(|kind| match kind {
        W::Unspecified | W::Worktree => WorkspaceKind::Worktree,
        W::Memory => WorkspaceKind::Memory,
        W::Clone => WorkspaceKind::Clone,
    });
    let runtime = invalid.take(known("runtime", runtime)).map(|kind| match kind {
        R::Unspecified | R::Process => RuntimeKind::Process,
        R::Tmux => RuntimeKind::Tmux,
        R::Container => RuntimeKind::Container,
    });
    let loss = invalid.take(known("on_node_loss", loss)).map(|policy| match policy {
        L::Unspecified | L::Wait => OnNodeLoss::Wait,
        L::Reschedule => OnNodeLoss::Reschedule,
        L::Fail => OnNodeLoss::Fail,
    });
    invalid
        .or(workspace.zip(runtime).zip(loss).map(|((workspace, runtime), loss)| (workspace, runtime, loss)))
}

fn resume(policy: i32, command: &[String]) -> Result<Resume, Invalid> {
    let command: Vec<Box<str>> = command.iter().map(|word| word.as_str().into()).collect();
    match known("resume", policy)? {
        v1::ResumePolicy::Unspecified | v1::ResumePolicy::Auto => Ok(Resume::Auto { command }),
        v1::ResumePolicy::Never if command.is_empty() => Ok(Resume::Never),
        v1::ResumePolicy::Never => Err(Invalid::one("resume_command", "does not go with the policy 'never'")),
    }
}

pub fn to_wire(spec: &Spec) -> v1::SessionSpec {
    let (repository, machine) = match &spec.repository {
        Repository::Url(url) => (url.as_str().to_owned(), String::new()),
        Repository::Path { path, machine } => (path.as_str().to_owned(), machine.to_string()),
    };
    let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
    let words = |words: &[Box<str>]| words.iter().map(ToString::to_string).collect();
    let labels =
        |labels: &Labels| labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let (resume, resume_command) = match &spec.resume {
        Resume::Auto { command } => (v1::ResumePolicy::Auto, words(command)),
        Resume::Never => (v1::ResumePolicy::Never, vec![]),
    };
    v1::SessionSpec {
        repository,
        machine,
        base: text(&spec.base),
        workspace: workspace_kind(spec.workspace).into(),
        runtime: runtime_kind(spec.runtime).into(),
        image: text(&spec.image),
        command: words(&spec.command),
        env: spec.environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        secret_names: words(&spec.secret_names),
        timeout: spec.limits.timeout.map(length),
        idle_timeout: spec.limits.idle_timeout.map(length),
        stop_grace: spec.limits.stop_grace.map(length),
        queue_timeout: spec.limits.queue_timeout.map(length),
        log_bytes: spec.limits.log_bytes,
        priority: spec.priority,
        node: spec.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        node_selector: labels(&spec.node_selector),
        labels: labels(&spec.labels),
        on_node_loss: on_node_loss(spec.on_node_loss).into(),
        restart_on_failure: match spec.restart {
            Restart::Never => 0,
            Restart::OnFailure(most) => most,
        },
        resume: resume.into(),
        resume_command,
        run_as: text(&spec.run_as),
        idle_signs: spec.limits.idle_signs.map(life_signs),
        extend_signs: spec.limits.extend_signs.map(life_signs),
        max_extensions: spec.limits.max_extensions,
        max_extension: spec.limits.max_extension.map(length),
    }
}

fn life_signs(Signs { touch, output, cpu }: Signs) -> v1::LifeSigns {
    v1::LifeSigns { touch, output, cpu }
}

fn workspace_kind(kind: WorkspaceKind) -> v1::WorkspaceKind {
    match kind {
        WorkspaceKind::Worktree => v1::WorkspaceKind::Worktree,
        WorkspaceKind::Memory => v1::WorkspaceKind::Memory,
        WorkspaceKind::Clone => v1::WorkspaceKind::Clone,
    }
}

fn runtime_kind(kind: RuntimeKind) -> v1::RuntimeKind {
    match kind {
        RuntimeKind::Process => v1::RuntimeKind::Process,
        RuntimeKind::Tmux => v1::RuntimeKind::Tmux,
        RuntimeKind::Container => v1::RuntimeKind::Container,
    }
}

fn on_node_loss(policy: OnNodeLoss) -> v1::OnNodeLoss {
    match policy {
        OnNodeLoss::Wait => v1::OnNodeLoss::Wait,
        OnNodeLoss::Reschedule => v1::OnNodeLoss::Reschedule,
        OnNodeLoss::Fail => v1::OnNodeLoss::Fail,
    }
}
