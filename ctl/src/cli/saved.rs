//! The arguments of the commands that work with saved work.

use clap::{ArgAction, Args, Subcommand};

use super::session::{ChangeArgs, WaitArgs};
use super::values;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl checkpoint fix
  git show $(droverctl checkpoint fix -o name)    in the repository, on the session's node

The files are saved as they are, also the ones that git does not know; the run goes on and sees nothing of \
it. A checkpoint stays on the node and goes with the session.")]
pub struct CheckpointArgs {
    /// The session
    pub session: String,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  droverctl trash ls --session fix
  droverctl trash show fix                       by its session's name, or by the item's id
  droverctl trash restore fix                    as a session again, with its branch
  droverctl trash restore fix --to /tmp/fix      as a directory on the node
  droverctl trash purge --expired

`rm` and `reset --hard` save work here before they remove anything. It is kept in the repository on the \
session's node, until it has expired and is purged.")]
pub enum TrashCommand {
    /// List saved work of removed and reset sessions
    Ls(TrashLs),
    /// Show one item, and the files that are in no commit
    Show(TrashName),
    /// Bring saved work back, as a session or as a directory
    Restore(TrashRestore),
    /// Delete saved work for good
    Purge(TrashPurge),
}

#[derive(Debug, Args)]
pub struct TrashLs {
    /// Only of this session: its name or its id
    #[arg(long, value_name = "S")]
    pub session: Option<String>,
    /// Only on this node
    #[arg(long, value_name = "N")]
    pub node: Option<String>,
}

#[derive(Debug, Args)]
pub struct TrashName {
    /// The item: its id, the beginning of it, or its session's name
    pub item: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl trash restore fix                  a session of the same kind; it is not started
  droverctl trash restore fix --name second-try
  droverctl trash restore fix --to /tmp/fix --branch rescued

Values of --env-file went with the session: one that needs them has to be created anew.")]
pub struct TrashRestore {
    /// The item: its id, the beginning of it, or its session's name
    pub item: String,
    /// What to call the session [default: as it was called, or a free name like it]
    #[arg(long, value_name = "N", allow_hyphen_values = true, conflicts_with = "to")]
    pub name: Option<String>,
    /// Put it into this empty or new directory of the node instead
    #[arg(long, value_name = "DIR", value_parser = values::directory_of_node)]
    pub to: Option<String>,
    /// What to call its branch there [default: as it was called]
    #[arg(long, value_name = "B", requires = "to")]
    pub branch: Option<String>,
    #[command(flatten)]
    pub change: ChangeArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl trash purge fix
  droverctl trash purge --expired --yes

What is purged cannot be brought back: purge asks, or wants --yes. Without a terminal and without --yes it \
ends with exit code 4.")]
pub struct TrashPurge {
    /// The items: ids, beginnings of them, or their sessions' names
    #[arg(value_name = "ITEM", required_unless_present = "expired", conflicts_with = "expired")]
    pub items: Vec<String>,
    /// All that have expired
    #[arg(long, action = ArgAction::SetTrue)]
    pub expired: bool,
    /// Do not ask
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub yes: bool,
    /// Say what would be deleted, and delete nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}
