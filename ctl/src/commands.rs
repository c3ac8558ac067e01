//! One file per command: each reads its arguments, asks the API, and prints. What they share is the invocation: the
//! global options, the output, the clock.

mod checkpoint;
mod completion;
mod consent;
mod context;
#[cfg(feature = "dev")]
pub mod dev;
mod diff;
mod events;
mod extend;
mod get;
mod health;
mod hold;
mod logs;
mod node;
mod plan;
mod ps;
mod release;
mod reset;
mod rm;
mod run;
mod safe_mode;
mod start;
mod stop;
mod trash;
mod watch;
mod whoami;
mod why;

use drover_daemon::clock::Clock;
use tokio::signal::ctrl_c;

use crate::cli::{Command, Global};
use crate::client::Client;
use crate::context::{Target, project};
use crate::error::{Exit, Failure};
use crate::output::Output;

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub global: Global,
    pub out: Output,
    pub clock: Clock,
}

impl Invocation {
    pub fn new(global: Global) -> Self {
        let clock = Clock::system();
        Self { out: Output::new(&global, &clock), global, clock }
    }

    /// A connection to the controller that the options and the contexts name.
    pub async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&Target::find(&self.global)?).await
    }

    /// The project that plain names belong to; empty: the default one.
    pub fn project(&self) -> Result<String, Failure> {
        Ok(project(&self.global)?.unwrap_or_default())
    }
}

/// Whether the command is a controller and an agent itself.
pub fn serves(command: &Command) -> bool {
    match command {
        #[cfg(feature = "dev")]
        Command::Dev(_) => true,
        _ => false,
    }
}

/// Carries the command out. The answer is the exit code.
pub async fn obey(invocation: &Invocation, command: Command) -> Result<u8, Failure> {
    if minds_interrupts(&command) {
        return dispatch(invocation, command).await;
    }
    tokio::select! {
        result = dispatch(invocation, command) => result,
        _ = ctrl_c() => Ok(Exit::Interrupted.code()),
    }
}

/// Whether the command itself decides what Ctrl-C means.
fn minds_interrupts(command: &Command) -> bool {
    matches!(command, Command::Run(_)) || serves(command)
}

async fn dispatch(invocation: &Invocation, command: Command) -> Result<u8, Failure> {
    match command {
        #[cfg(feature = "dev")]
        Command::Dev(args) => dev::dev(invocation, args).await,
        Command::Run(args) => run::run(invocation, *args).await,
        Command::Ps(args) => ps::ps(invocation, args).await,
        Command::Get(args) => get::get(invocation, args).await,
        Command::Why(args) => why::why(invocation, args).await,
        Command::Watch(args) => watch::watch(invocation, args).await,
        Command::Logs(args) => logs::logs(invocation, args).await,
        Command::Diff(args) => diff::diff(invocation, args).await,
        Command::Start(args) => start::start(invocation, args).await,
        Command::Stop(args) => stop::stop(invocation, args).await,
        Command::Extend(args) => extend::extend(invocation, args).await,
        Command::Hold(args) => hold::hold(invocation, args).await,
        Command::Release(args) => release::release(invocation, args).await,
        Command::Reset(args) => reset::reset(invocation, args).await,
        Command::Rm(args) => rm::rm(invocation, args).await,
        Command::Checkpoint(args) => checkpoint::checkpoint(invocation, args).await,
        Command::Trash(command) => trash::trash(invocation, command).await,
        Command::Node(command) => node::node(invocation, command).await,
        Command::Health(args) => health::health(invocation, args).await,
        Command::Repair(args) => plan::repair(invocation, args).await,
        Command::Cleanup(args) => plan::cleanup(invocation, args).await,
        Command::Plan(command) => plan::plan(invocation, command).await,
        Command::SafeMode(command) => safe_mode::safe_mode(invocation, command).await,
        Command::Events(args) => events::events(invocation, args).await,
        Command::Whoami => whoami::whoami(invocation).await,
        Command::Context(command) => context::context(invocation, command),
        Command::Completion(args) => completion::completion(args),
    }
}

/// The command's name, for the trace.
pub fn name(command: &Command) -> &'static str {
    match command {
        #[cfg(feature = "dev")]
        Command::Dev(_) => "dev",
        Command::Run(_) => "run",
        Command::Ps(_) => "ps",
        Command::Get(_) => "get",
        Command::Why(_) => "why",
        Command::Watch(_) => "watch",
        Command::Logs(_) => "logs",
        Command::Diff(_) => "diff",
        Command::Start(_) => "start",
        Command::Stop(_) => "stop",
        Command::Extend(_) => "extend",
        Command::Hold(_) => "hold",
        Command::Release(_) => "release",
        Command::Reset(_) => "reset",
        Command::Rm(_) => "rm",
        Command::Checkpoint(_) => "checkpoint",
        Command::Trash(_) => "trash",
        Command::Node(_) => "node",
        Command::Health(_) => "health",
        Command::Repair(_) => "repair",
        Command::Cleanup(_) => "cleanup",
        Command::Plan(_) => "plan",
        Command::SafeMode(_) => "safe-mode",
        Command::Events(_) => "events",
        Command::Whoami => "whoami",
        Command::Context(_) => "context",
        Command::Completion(_) => "completion",
    }
}

/// A message of the API that must be there.
fn present<T>(part: Option<T>, what: &str) -> Result<T, Failure> {
    part.ok_or_else(|| Failure::new(Exit::Failed, format!("the controller's answer has no {what}")))
}
