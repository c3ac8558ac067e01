//! The arguments of the commands that look after nodes, the whole, and this program itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::session::{ChangeArgs, WaitArgs};
use super::values;

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A second machine joins like this:
  here:   droverctl node token create
  there:  put the token into a file, and start drover-agent with it

Not built yet: preflight.")]
pub enum NodeCommand {
    /// List nodes
    Ls(NodeLs),
    /// Show one node
    Get(NodeName),
    /// Keep new sessions away from a node
    Cordon(NodeChange),
    /// Let new sessions come again, and end a drain
    Uncordon(NodeChange),
    /// Empty a node: no run begins on it any more, and those that it has end
    Drain(NodeDrainArgs),
    /// Forget a node that has no sessions
    Rm(NodeChange),
    /// End a node's right to speak, now and for good
    Revoke(NodeRemoval),
    /// Tokens that let a machine join
    #[command(subcommand)]
    Token(TokenCommand),
    /// What would keep sessions from running on a node. Not built yet.
    #[command(hide = true)]
    Preflight(Planned),
}

/// Whatever is given to a command that is not built yet.
#[derive(Debug, Args)]
pub struct Planned {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub struct NodeLs {
    /// Only those: standing=reachable, label.KEY=VALUE, joined by `and`
    #[arg(long, value_name = "TERMS")]
    pub filter: Option<String>,
    /// In this order: name, or -name for the other way round
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
}

#[derive(Debug, Args)]
pub struct NodeName {
    /// The node, by name or the beginning of its id
    pub node: String,
}

#[derive(Debug, Args)]
pub struct NodeChange {
    /// The node, by name or the beginning of its id
    pub node: String,
    /// Check everything, and change nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Args)]
pub struct NodeRemoval {
    #[command(flatten)]
    pub change: NodeChange,
    /// Do not ask
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl node drain build-1                    wait until its runs have ended by themselves
  droverctl node drain build-1 --deadline 30m     stop what still runs after half an hour
  droverctl node drain build-1 --deadline 0s -y   stop everything now

A stop saves the workspace first, as every stop does. The session is ready afterwards, and its files stay on the node:
`droverctl start S --resume` goes on with it, as soon as the node is uncordoned; until then it is queued, and `why` says so.
The drain stands until `droverctl node uncordon`, whatever is restarted. Asked again, its deadline becomes another one.

Not built yet: moving sessions to other nodes (--migrate).")]
pub struct NodeDrainArgs {
    /// The node, by name or the beginning of its id
    pub node: String,
    /// How long its runs may go on; then they are stopped [default: until they end]
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub deadline: Option<Duration>,
    /// Check everything, and change nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub yes: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token that lets one machine join; it is shown this once
    Create(TokenCreate),
    /// List the tokens that were made, without their secrets
    Ls,
    /// Take a token back
    Revoke(TokenName),
}

#[derive(Debug, Args)]
pub struct TokenCreate {
    /// How long it is good [default: 15m]
    #[arg(long = "for", value_name = "D", value_parser = values::duration)]
    pub lifetime: Option<Duration>,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Args)]
pub struct TokenName {
    /// The token's id
    #[arg(value_name = "TOKEN")]
    pub id: String,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 healthy, 10 cleanup available, 11 cleanup required before new work, 12 somebody has to look.")]
pub struct HealthArgs {
    /// Look again every few seconds, and print what changed
    #[arg(long, action = ArgAction::SetTrue)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on as more happens
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub follow: bool,
    /// Only this session's
    #[arg(long, value_name = "S")]
    pub session: Option<String>,
    /// Only this node's
    #[arg(long, value_name = "N")]
    pub node: Option<String>,
    /// Only so many of the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub tail: u32,
}

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List the contexts; the current one is marked
    Ls,
    /// Add a context, or replace one: give --server, --ca, and the token by --token-file or DROVER_TOKEN
    #[command(after_help = "\
Example:
  droverctl context add prod --server drover.example.org:7443 --ca ca.crt --token-file operator.token")]
    Add(ContextAdd),
    /// Make a context the current one
    Use(ContextName),
    /// Forget a context
    Rm(ContextName),
}

#[derive(Debug, Args)]
pub struct ContextAdd {
    /// Its name
    pub name: String,
    /// A file with the token; `-` reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ContextName {
    /// Its name
    pub name: String,
}
