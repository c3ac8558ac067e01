//! The request that `run` and `dev` make of their arguments.

use drover_proto::v1::{
    CreateSessionRequest, OnConflict, OnNodeLoss, ResumePolicy, RuntimeKind, SessionSpec, WorkspaceKind,
};

use crate::cli::RunArgs;
use crate::client::requests;
use crate::error::{Exit, Failure};
use crate::repository::{self, Repository};
use crate::variables;

/// What the arguments of `run` ask for.
pub fn of(args: &RunArgs, project: String) -> Result<CreateSessionRequest, Failure> {
    let repository = repository::named(&args.repo, args.node.is_some())?;
    let env = variables::unique("--env", &args.env)?;
    let secrets = variables::of_files(&args.env_file)?;
    if let Some(both) = secrets.keys().find(|name| env.contains_key(*name)) {
        return Err(Failure::new(Exit::Usage, format!("{both} is given by --env and by --env-file")));
    }
    let request = made(repository, args.command.clone(), project);
    let spec = SessionSpec {
        base: args.base.clone().unwrap_or_default(),
        workspace: args.workspace.map_or(WorkspaceKind::Unspecified, Into::into).into(),
        runtime: args.runtime.map_or(RuntimeKind::Unspecified, Into::into).into(),
        image: args.image.clone().unwrap_or_default(),
        env,
        secret_names: secrets.keys().cloned().collect(),
        timeout: args.timeout.map(requests::length),
        idle_timeout: args.idle_timeout.map(requests::length),
        stop_grace: args.stop_grace.map(requests::length),
        queue_timeout: args.queue_timeout.map(requests::length),
        priority: args.priority,
        node: args.node.clone().unwrap_or_default(),
        node_selector: variables::unique("--node-selector", &args.node_selector)?,
        labels: variables::unique("--label", &args.label)?,
        on_node_loss: args.on_node_loss.map_or(OnNodeLoss::Unspecified, Into::into).into(),
        restart_on_failure: args.restart.map_or(0, |restart| restart.0),
        resume: args.resume.map_or(ResumePolicy::Unspecified, Into::into).into(),
        resume_command: args.resume_command.as_ref().map(|words| words.0.clone()).unwrap_or_default(),
        idle_signs: args.idle_signs,
        extend_signs: args.extend_signs,
        max_extensions: args.max_extensions,
        max_extension: args.max_extension.map(requests::length),
        run_as: args.run_as.clone().unwrap_or_default(),
        ..request.spec.unwrap_or_default()
    };
    Ok(CreateSessionRequest {
        request_id: requests::id(&args.change),
        name: args.name.clone().unwrap_or_default(),
        spec: Some(spec),
        secrets,
        on_conflict: args.on_conflict.map_or(OnConflict::Unspecified, Into::into).into(),
        ..request
    })
}

/// A session of a command in a repository, and everything else as usual.
pub fn made(repository: Repository, command: Vec<String>, project: String) -> CreateSessionRequest {
    let Repository { text: repository, machine } = repository;
    CreateSessionRequest {
        request_id: requests::id(&Default::default()),
        project,
        spec: Some(SessionSpec { repository, machine, command, ..Default::default() }),
        ..Default::default()
    }
}
