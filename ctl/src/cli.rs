//! The command line as clap sees it: every command with its words, grouped in the help as a new user looks for them.
//! What the commands do is in `commands`; nothing here touches the world.

mod admin;
mod saved;
mod session;
mod upkeep;
pub mod values;

pub use admin::{
    ContextAdd, ContextCommand, ContextName, EventsArgs, HealthArgs, NodeChange, NodeCommand, NodeDrainArgs,
    NodeLs, NodeRemoval, TokenCommand, TokenCreate, TokenName,
};
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
pub use saved::{CheckpointArgs, TrashCommand, TrashLs, TrashName, TrashPurge, TrashRestore};
pub use session::{
    ChangeArgs, DiffArgs, ExtendArgs, GetArgs, HoldArgs, LogsArgs, PsArgs, ReleaseArgs, ResetArgs, RmArgs,
    RunArgs, StartArgs, StopArgs, WaitArgs, WatchArgs, WhyArgs,
};
pub use upkeep::{
    CleanupArgs, HowArgs, PlanApply, PlanCommand, PlanName, RepairArgs, SafeModeCommand, SafeModeOff,
    SafeModeOn, ScopeArgs,
};
use values::Format;

use std::ffi::OsString;
use std::path::PathBuf;

/// The command of the contract that are to come, with a word on each. They answer that they are not built yet.
const PLANNED: [(&str, &str); 13] = [
    ("attach", "Join a session's terminal"),
    ("backup", "Copies of the registry"),
    ("batch", "Create many sessions from a file"),
    ("debug", "Log more for a while"),
    ("exec", "Run another command in a session's workspace"),
    ("hook", "Webhooks"),
    ("preflight", "What would keep a session from running"),
    ("project", "Projects and their limits"),
    ("pull", "Fetch a session's work into this repository"),
    ("push", "Push a session's work to its remote"),
    ("send", "Type into a session"),
    ("token", "Tokens of people and scripts"),
    ("top", "What uses the machines"),
];

const TEMPLATE: &str = "\
{about}

{usage-heading} {usage}

Try it, in a git repository:
  dev         Controller and agent in one process, on this machine

Sessions:
  run         Create a session and run a command in it
  ps          List sessions
  get         Show one session
  why         Why a session is as it is, and what comes next
  watch       Follow sessions as they change
  logs        Show what a run wrote
  diff        Show what changed in a session's workspace
  start       Run a session's command again
  stop        Stop a session's run; its workspace stays
  extend      Give a run more time
  hold        Keep a session from being started
  release     End a hold
  reset       Stop a session and begin anew, in the same workspace or in a new one
  rm          Save a session's work and remove it

Saved work:
  checkpoint  Save a workspace while it is in use
  trash       What removed and reset sessions left: list, restore, purge

Machines:
  node        See nodes, let them join, take them out of service

The whole:
  health      How healthy everything is
  repair      Put right what is recorded wrongly
  cleanup     Find and remove what no session owns
  plan        Show a plan of repair or cleanup, or carry it out
  safe-mode   Refuse new work, or take it again
  events      What happened
  whoami      Who the controller takes you for

This program:
  context     The controllers that this program knows
  completion  Completions for your shell
  help        Help on a command

Options:
{options}{after-help}";

/// The commands, grouped; without the ones that this build does not have.
fn template() -> String {
    let (before, rest) = TEMPLATE.split_once("Try it").expect("it stands there");
    match rest.split_once("Sessions:") {
        Some((_, sessions)) if cfg!(not(feature = "dev")) => format!("{before}Sessions:{sessions}"),
        _ => TEMPLATE.to_owned(),
    }
}

const AFTER: &str = "\
Examples:
  droverctl dev -- make test                          run a command in a worktree of this repository
  droverctl run --repo . -- make test                 the same, once `dev` or a controller is there
  droverctl run --repo . --name fix --detach -- make  do not wait for the end
  droverctl logs fix -f                               follow what it writes
  droverctl diff fix --stat                           what it changed
  droverctl why fix                                   why it is as it is, and what comes next
  droverctl rm fix                                    save what is not committed, and remove it
  droverctl trash restore fix                         bring it back

A session is named by its name, by project/name, or by the beginning of its id.
Options can be given by the environment too: DROVER_CONTEXT, DROVER_PROJECT, DROVER_TOKEN …

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict or precondition, 5 unavailable, \
6 not allowed, 7 timed out waiting, 130 interrupted.

Not built yet: attach, backup, batch, debug, exec, hook, preflight, project, pull, push, send, token, \
top, node preflight.";

/// Many coding agents at work in many worktrees, on many machines.
#[derive(Debug, Parser)]
#[command(name = "droverctl", version, help_template = template(), after_help = AFTER, max_term_width = 104)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The context to use instead of the current one
    #[arg(long, global = true, env = "DROVER_CONTEXT", hide_env = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The project that plain names belong to
    #[arg(short, long, global = true, env = "DROVER_PROJECT", hide_env = true, value_name = "NAME")]
    pub project: Option<String>,
    /// How to print: table, wide, json, yaml or name
    #[arg(
        short,
        long,
        global = true,
        env = "DROVER_OUTPUT",
        hide_env = true,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub output: Format,
    /// No colours, as with NO_COLOR
    #[arg(long, global = true, action = ArgAction::SetTrue)]
    pub no_color: bool,
    /// The file of contexts instead of $XDG_CONFIG_HOME/drover/config.toml
    #[arg(long, global = true, env = "DROVER_CONFIG", hide_env = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The controller's address instead of the context's: HOST:PORT
    #[arg(long, global = true, env = "DROVER_SERVER", hide_env = true, value_name = "ADDRESS")]
    pub server: Option<String>,
    /// The token instead of the context's (others can see arguments: better set DROVER_TOKEN)
    #[arg(long, global = true, env = "DROVER_TOKEN", value_name = "TOKEN", hide_env = true)]
    pub token: Option<String>,
    /// The certificate authority to trust instead of the context's, PEM
    #[arg(long, global = true, env = "DROVER_CA", hide_env = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Controller and agent in one process, on this machine
    #[cfg(feature = "dev")]
    Dev(DevArgs),
    /// Create a session and run a command in it
    Run(Box<RunArgs>),
    /// List sessions
    Ps(PsArgs),
    /// Show one session
    Get(GetArgs),
    /// Why a session is as it is, and what comes next
    Why(WhyArgs),
    /// Follow sessions as they change
    Watch(WatchArgs),
    /// Show what a run wrote
    Logs(LogsArgs),
    /// Show what changed in a session's workspace since its base
    Diff(DiffArgs),
    /// Run a session's command again, or try again after a fault
    Start(StartArgs),
    /// Stop a session's run; its workspace stays
    Stop(StopArgs),
    /// Give a run more time: move its deadline
    Extend(ExtendArgs),
    /// Keep a session from being started
    Hold(HoldArgs),
    /// End a hold
    Release(ReleaseArgs),
    /// Stop a session and begin anew, in the same workspace or in a new one
    Reset(ResetArgs),
    /// Stop a session, save its work and remove it
    Rm(RmArgs),
    /// Save a workspace while it is in use
    Checkpoint(CheckpointArgs),
    /// What removed and reset sessions left: list, restore, purge
    #[command(subcommand)]
    Trash(TrashCommand),
    /// See nodes, let them join, take them out of service
    #[command(subcommand)]
    Node(NodeCommand),
    /// How healthy everything is
    Health(HealthArgs),
    /// Put right what is recorded wrongly
    Repair(RepairArgs),
    /// Find and remove what no session owns
    #[command(alias = "cleanup-dangling")]
    Cleanup(CleanupArgs),
    /// Show a plan of repair or cleanup, or carry it out
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Refuse new work, or take it again
    #[command(subcommand)]
    SafeMode(SafeModeCommand),
    /// What happened
    Events(EventsArgs),
    /// Who the controller takes you for
    Whoami,
    /// The controllers that this program knows
    #[command(subcommand)]
    Context(ContextCommand),
    /// Completions for your shell
    ///
    /// bash: droverctl completion bash > ~/.local/share/bash-completion/completions/droverctl
    Completion(CompletionArgs),
}

#[cfg(feature = "dev")]
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl dev                           serve until Ctrl-C; use `droverctl ps` and the rest in another terminal
  droverctl dev -- make test              run `make test` in a new worktree of this repository, then serve on
  droverctl dev --once -- make test       the same, and end with its exit code

Everything is kept in the data directory. Started again, it carries on: sessions, identity, address.")]
pub struct DevArgs {
    /// Where everything is kept [default: $XDG_STATE_HOME/drover/dev]
    #[arg(long, value_name = "DIR", env = "DROVER_DATA_DIR", hide_env = true)]
    pub data_dir: Option<PathBuf>,
    /// Where to listen [default: a free port of 127.0.0.1, remembered]
    #[arg(long, value_name = "ADDR", env = "DROVER_LISTEN", hide_env = true)]
    pub listen: Option<std::net::SocketAddr>,
    /// End with the command's exit code instead of serving on
    #[arg(long, requires = "command")]
    pub once: bool,
    /// What to run as a session on the repository of the current directory
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Your shell
    pub shell: clap_complete::Shell,
}

/// What the arguments ask for.
pub enum Asked {
    Command(Box<Cli>),
    /// A command of the contract that is not built yet.
    Planned(String),
}

/// Reads the arguments. Help, the version and wrong usage are clap's to print.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    match matches.subcommand_name() {
        Some(name) if PLANNED.iter().any(|(planned, _)| *planned == name) => {
            Ok(Asked::Planned(name.to_owned()))
        }
        _ => {
            let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
            Ok(Asked::Command(Box::new(cli)))
        }
    }
}

/// Everything there is on the command line, with the commands that are to come hidden.
pub fn command() -> clap::Command {
    PLANNED.iter().fold(Cli::command(), |command, (name, about)| {
        let planned = clap::Command::new(*name)
            .about(format!("{about}. Not built yet."))
            .hide(true)
            .arg(Arg::new("args").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true).hide(true));
        command.subcommand(planned)
    })
}

/// Writes the completions for a shell.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "droverctl", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_nothing_wrong_with_the_commands() {
        command().debug_assert();
    }

    #[test]
    fn no_command_has_an_argument_that_is_a_global_options_too() {
        fn walk(command: &clap::Command, globals: &[String], path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                let own = sub.get_arguments().filter(|argument| !argument.is_global_set());
                for argument in own {
                    assert!(
                        !globals.contains(&argument.get_id().to_string()),
                        "{path}: {}",
                        argument.get_id()
                    );
                }
                walk(sub, globals, &path);
            }
        }
        let command = Cli::command();
        let globals = command.get_arguments().filter(|argument| argument.is_global_set());
        let globals: Vec<String> = globals.map(|argument| argument.get_id().to_string()).collect();
        assert!(globals.contains(&"token".to_owned()));
        walk(&command, &globals, "droverctl");
    }

    #[test]
    fn the_grouped_help_names_every_command_and_nothing_else() {
        let template = template();
        let listed: Vec<&str> = template
            .lines()
            .filter(|line| line.starts_with("  "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|word| *word != "help")
            .collect();
        let mut real: Vec<String> =
            Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let mut listed: Vec<String> = listed.into_iter().map(str::to_owned).collect();
        real.sort();
        listed.sort();
        assert_eq!(listed, real);
    }

    #[test]
    fn the_help_names_every_command_that_is_to_come() {
        for (name, _) in PLANNED {
            assert!(AFTER.contains(name), "{name}");
        }
    }
}
