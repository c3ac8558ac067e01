//! The arguments of the commands that keep the whole in order.

use clap::{ArgAction, Args, Subcommand};

use super::session::ChangeArgs;

/// What to look at. Everything that is given must match.
#[derive(Clone, Debug, Default, Args)]
pub struct ScopeArgs {
    /// Only this session: its name, or its whole id if nobody knows it any more
    #[arg(long, value_name = "S")]
    pub session: Option<String>,
    /// Only on this node
    #[arg(long, value_name = "N")]
    pub node: Option<String>,
    /// Only in this repository: its directory on the node
    #[arg(long, value_name = "R")]
    pub repo: Option<String>,
    /// Only findings of this kind, such as WORKTREE_WITHOUT_SESSION
    #[arg(long = "code", value_name = "CODE")]
    pub codes: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl repair                  look, show what would be done, ask
  droverctl repair --dry-run        look and show only
  droverctl repair --session fix --yes

Puts right what is recorded wrongly: sessions that are said to run and do not, or that do not get on. Each \
node is asked twice what is really there; workspaces stay as they are. Without a terminal and without --yes \
it ends with exit code 4 if there is something to do.")]
pub struct RepairArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub how: HowArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl cleanup                         look, show what would be done and what is kept, ask
  droverctl cleanup --auto                  do what can lose nothing, without asking
  droverctl cleanup --repo /srv/app --dry-run
  droverctl cleanup --session ses_… --force what bears this installation's mark and is recorded nowhere

Finds what no session owns: worktrees, branches, processes, half-made things, stale locks; and sessions whose \
workspace is gone. Work is saved to the trash before anything goes, and nothing can switch that off. A branch \
goes only if it is merged or still at its base. Only what bears this installation's mark is ever touched.")]
pub struct CleanupArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Do what can lose nothing, without asking, and leave the rest
    #[arg(long, action = ArgAction::SetTrue, conflicts_with = "yes")]
    pub auto: bool,
    #[command(flatten)]
    pub how: HowArgs,
}

/// How far to go.
#[derive(Clone, Debug, Default, Args)]
pub struct HowArgs {
    /// Say what would be done, and do nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub yes: bool,
    /// Risky actions too, for what is named by --session or --repo
    #[arg(long, action = ArgAction::SetTrue)]
    pub force: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Show a plan, and how far it was carried out
    Show(PlanName),
    /// Carry out a plan as it was shown
    Apply(PlanApply),
}

#[derive(Debug, Args)]
pub struct PlanName {
    /// The plan's id, or the beginning of it
    pub plan: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A plan is good for an hour. Each action's precondition is looked at again right before it; what has changed \
is skipped. Applying a plan twice does nothing.")]
pub struct PlanApply {
    /// The plan's id, or the beginning of it
    pub plan: String,
    /// Do not ask
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub yes: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  droverctl safe-mode on --reason 'moving the disks'
  droverctl safe-mode off --node build-1
  droverctl safe-mode status

In safe mode no new session is taken and nothing is started. Stopping, logs, repair and cleanup go on.")]
pub enum SafeModeCommand {
    /// Refuse new work, everywhere or on a node
    On(SafeModeOn),
    /// Take new work again
    Off(SafeModeOff),
    /// Where new work is refused, and why
    Status,
}

#[derive(Debug, Args)]
pub struct SafeModeOn {
    /// Only on this node
    #[arg(long, value_name = "N")]
    pub node: Option<String>,
    /// Why, for whoever meets it
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Args)]
pub struct SafeModeOff {
    /// Only on this node
    #[arg(long, value_name = "N")]
    pub node: Option<String>,
    #[command(flatten)]
    pub change: ChangeArgs,
}
