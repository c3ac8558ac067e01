//! `droverctl dev`: Drover whole on one machine. A controller and an agent in this process, everything in one
//! directory, and the same API for everybody: what this command does itself, it does as a client too.

mod directory;
mod serving;

use std::process::ExitCode;

use drover_proto::v1::{GetDiffRequest, ListSessionsRequest, Session};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Invocation, diff, run};
use crate::attached::{End, stand_by};
use crate::cli::DevArgs;
use crate::client::{Api, Client};
use crate::context::Target;
use crate::error::{Exit, Failure};
use crate::output::sessions::title;
use crate::output::times::count;
use crate::repository::{self, Repository};
use directory::Directory;
use serving::Serving;

/// Becomes the supervisor of a run, if this process is asked to be one. Before anything else: it must have one thread.
pub fn shim() -> Option<ExitCode> {
    let directory = drover_agent::shim::requested(std::env::args_os())?;
    Some(drover_agent::shim::main(&directory))
}

pub async fn dev(invocation: &Invocation, args: DevArgs) -> Result<u8, Failure> {
    let repository = if args.command.is_empty() { None } else { Some(repository::here()?) };
    let directory = Directory::open(args.data_dir.as_deref())?;
    let mut ends =
        Ends { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let serving = tokio::select! {
        serving = Serving::start(&directory, args.listen, &invocation.clock) => serving?,
        () = ends.next() => return Ok(Exit::Interrupted.code()),
    };
    let code = serve(invocation, &args, repository, (&directory, &serving), &mut ends).await;
    let left = match Client::connect(&serving.target).await {
        Ok(client) => running(&client).await,
        Err(_) => Vec::new(),
    };
    tokio::select! {
        () = serving.end() => {}
        () = ends.next() => invocation.out.note("droverctl: ending at once"),
    }
    farewell(invocation, &left);
    code
}

/// The two ways to be told to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn serve(
    invocation: &Invocation,
    args: &DevArgs,
    repository: Option<Repository>,
    (directory, serving): (&Directory, &Serving),
    ends: &mut Ends,
) -> Result<u8, Failure> {
    let context = directory.remember(&invocation.global, &serving.target)?;
    welcome(invocation, directory, &serving.target, &context);
    if let Some(repository) = repository {
        let stays = !args.once && invocation.out.can_ask();
        let request = run::made(repository, args.command.clone(), invocation.project()?);
        let client = Client::connect(&serving.target).await?;
        let session = run::create(invocation, &client, request, false).await?;
        invocation.out.note(format!("droverctl: session {}\n", title(&session)));
        let code = tokio::select! {
            end = stand_by(invocation, &client, session.clone()) => match end {
                Ok(End::Over(code)) => {
                    show_work(invocation, &client, &session, stays).await;
                    code
                }
                Ok(End::Detached) => Exit::Interrupted.code(),
                Err(failure) if stays => {
                    invocation.out.error(&failure.to_string());
                    failure.exit.code()
                }
                Err(failure) => return Err(failure),
            },
            _ = ends.terminate.recv() => return Ok(Exit::Interrupted.code()),
        };
        if !stays {
            return Ok(code);
        }
        // Interrupts until now were for the run.
        ends.interrupt = signal(SignalKind::interrupt())?;
    }
    invocation.out.note("droverctl: serving; Ctrl-C ends it, and leaves what runs running");
    ends.next().await;
    Ok(0)
}

fn welcome(invocation: &Invocation, directory: &Directory, target: &Target, context: &str) {
    let out = &invocation.out;
    out.note(format!("droverctl: controller and agent are up at {}", target.address));
    out.note(format!("droverctl: everything is kept in {}", directory.path().display()));
    let current = if context == directory.context() {
        "in another terminal, `droverctl ps` and the rest just work".to_owned()
    } else {
        format!(
            "the current context is {context}: in another terminal, use `droverctl --context {} ps`",
            directory.context()
        )
    };
    out.note(format!("droverctl: {current}"));
}

/// What the command changed, and what to do with it.
async fn show_work(invocation: &Invocation, client: &Client, session: &Session, stays: bool) {
    let out = &invocation.out;
    let name = title(session);
    let session = match super::get::session(client, session.id.clone(), String::new()).await {
        Ok(session) => session,
        Err(failure) => return out.error(&failure.to_string()),
    };
    let ended = session.last_run.as_ref().map(crate::output::runs::outcome).unwrap_or_default();
    out.note(format!("\ndroverctl: {name} {ended}. It changed:"));
    let request = GetDiffRequest { session: session.id.clone(), stat: true, ..Default::default() };
    match diff::print(client, request).await {
        Ok(true) => {}
        Ok(false) => out.note("  nothing"),
        Err(failure) => out.error(&failure.to_string()),
    }
    let branch = session.workspace.as_ref().map(|workspace| workspace.branch.clone()).unwrap_or_default();
    let first =
        if stays { "\nWhat to try next:" } else { "\nWhat to try next (`droverctl dev` serves again):" };
    out.note(first);
    for (command, what) in [
        (format!("droverctl diff {name}"), "the change itself"),
        (format!("droverctl logs {name}"), "what it printed"),
        (format!("droverctl start {name}"), "run it again, in the same workspace"),
        (format!("git merge {branch}"), "take over what it committed"),
        (format!("droverctl rm {name}"), "save what is not committed, and remove it"),
    ] {
        out.note(format!("  {command:<38}  {what}"));
    }
    out.note("");
}

/// The names of the sessions that run.
async fn running(client: &Client) -> Vec<String> {
    let request =
        ListSessionsRequest { filter: "state=running".into(), page_size: 1000, ..Default::default() };
    let call = |mut api: Api, request| async move { api.sessions.list_sessions(request).await };
    let sessions = client.call(request, call).await.map(|answer| answer.sessions).unwrap_or_default();
    sessions.iter().map(title).collect()
}

fn farewell(invocation: &Invocation, left: &[String]) {
    if !left.is_empty() {
        let runs = count(left.len() as u64, "run goes on", "runs go on");
        invocation.out.note(format!("droverctl: {runs}: {}", left.join(", ")));
        invocation.out.note("droverctl: `droverctl dev` takes them up again");
    }
}
