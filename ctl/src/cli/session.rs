//! The arguments of the commands that work with sessions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::values::{self, Conflict, Loss, Pair, Restart, Resume, Runtime, Since, Words, Workspace};
use drover_proto::v1::LifeSigns;

/// What every changing command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct ChangeArgs {
    /// Makes the call safe to repeat: the same id gets the same answer [default: made up]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

/// Whether to wait for the effect.
#[derive(Clone, Debug, Default, Args)]
pub struct WaitArgs {
    /// Wait for the effect, however long it takes
    #[arg(long, conflicts_with = "no_wait", action = ArgAction::SetTrue)]
    pub wait: bool,
    /// Return as soon as the controller has recorded it durably
    #[arg(long, action = ArgAction::SetTrue)]
    pub no_wait: bool,
    /// Stop waiting after this long, with exit code 7
    #[arg(long, value_name = "D", value_parser = values::duration, conflicts_with = "no_wait")]
    pub wait_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl run --repo . -- make test
  droverctl run --repo . --name fix-login --timeout 30m --env-file secrets.env -- my-agent 'fix it'
  droverctl run --repo https://example.org/app.git --base main --detach -- make
  droverctl run --repo . --timeout 1h --extend-signs touch,output --max-extension 3h -- my-agent 'fix it'
  droverctl run --repo . --resume-command \"my-agent --continue 'fix it'\" -- my-agent 'fix it'

Signs of life: touch, it touched the file named by DROVER_HEARTBEAT; output, it wrote something; cpu, its \
processes used the processor.

A run that a reboot took along is resumed: DROVER_RESUMED=1 is in its environment, and if there is a \
--resume-command, that runs instead of CMD. It is one argument, split into words as a shell does it; \
nothing in it is expanded.

Without --detach the output is shown and the exit code is the command's: 128+n if signal n ended it, \
124 if it ran out of time, 125 if Drover could not do its own work. Ctrl-C asks whether to detach or to \
stop.

A PATH belongs to this machine: an agent must run here, or --node says where it is.")]
pub struct RunArgs {
    /// The repository: a URL, or a path on this machine
    #[arg(long, value_name = "URL|PATH", env = "DROVER_REPO", hide_env = true)]
    pub repo: String,
    /// Branch, tag or commit to start from [default: the repository's HEAD]
    #[arg(long, value_name = "REF")]
    pub base: Option<String>,
    /// The session's name [default: made up]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub name: Option<String>,
    /// What hosts the run (tmux and container are not built yet)
    #[arg(long, value_name = "KIND")]
    pub runtime: Option<Runtime>,
    /// Where the files are (memory and clone are not built yet)
    #[arg(long, value_name = "KIND")]
    pub workspace: Option<Workspace>,
    /// The container's image
    #[arg(long, value_name = "I")]
    pub image: Option<String>,
    /// A variable of the command's environment; repeat for more
    #[arg(long, value_name = "K=V", value_parser = values::pair)]
    pub env: Vec<Pair>,
    /// A file of K=V lines whose values are never shown again
    #[arg(long, value_name = "F")]
    pub env_file: Vec<PathBuf>,
    /// How long the run may take: 30s, 10m, 1h30m
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub timeout: Option<Duration>,
    /// How often a run's deadline may be moved [default: 10]
    #[arg(long, value_name = "N")]
    pub max_extensions: Option<u32>,
    /// How far a run's deadline may be moved in all [default: as far as the number allows]
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub max_extension: Option<Duration>,
    /// What moves a run's deadline by itself: touch, output, cpu, joined by commas; '' for nothing [default: touch]
    #[arg(long, value_name = "SIGNS", value_parser = values::signs)]
    pub extend_signs: Option<LifeSigns>,
    /// How long the run may be without a sign of life
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub idle_timeout: Option<Duration>,
    /// What counts as one: touch, output, cpu, joined by commas [default: all of them]
    #[arg(long, value_name = "SIGNS", value_parser = values::signs)]
    pub idle_signs: Option<LifeSigns>,
    /// How long the run has to end by itself once it is stopped
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub stop_grace: Option<Duration>,
    /// How long it may wait in the queue
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub queue_timeout: Option<Duration>,
    /// Who is served first in the queue: the higher
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true,
        hide_default_value = true
    )]
    pub priority: i32,
    /// The node that it must be on
    #[arg(long, value_name = "N")]
    pub node: Option<String>,
    /// A label that its node must have; repeat for more
    #[arg(long, value_name = "K=V", value_parser = values::pair)]
    pub node_selector: Vec<Pair>,
    /// A label of the session's own; repeat for more
    #[arg(long, value_name = "K=V", value_parser = values::pair)]
    pub label: Vec<Pair>,
    /// What to do if the name is taken (resume and replace are not built yet) [default: fail, or ask]
    #[arg(long, value_name = "CHOICE")]
    pub on_conflict: Option<Conflict>,
    /// What to do when its node is lost (only wait is built yet)
    #[arg(long, value_name = "CHOICE")]
    pub on_node_loss: Option<Loss>,
    /// Whether a run that failed is started again: never, on-failure or on-failure:N (3 times, or N)
    #[arg(long, value_name = "CHOICE", value_parser = values::restart)]
    pub restart: Option<Restart>,
    /// Whether a run that a reboot took along is started again: auto or never [default: auto]
    #[arg(long, value_name = "CHOICE", hide_possible_values = true)]
    pub resume: Option<Resume>,
    /// What to run then instead of CMD: one argument, quoted as for a shell
    #[arg(long, value_name = "'CMD…'", value_parser = values::words)]
    pub resume_command: Option<Words>,
    /// The user that it runs as [default: the agent's]
    #[arg(long, value_name = "USER")]
    pub run_as: Option<String>,
    /// Print the name and return once it runs, or once it has waited in the queue for 3 s
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub detach: bool,
    /// Check everything, and create nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
    /// What to run, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl ps --filter 'state=running and node=build-1'
  droverctl ps --sort '-create_time' -o wide
  droverctl ps -o json | jq -r '.sessions[].name'

Filters: state, node, owner, label.KEY, each with = or !=, joined by `and`.
Sorting: number, name, create_time, state_time; with `-` before it the other way round.")]
pub struct PsArgs {
    /// Cleaned sessions too
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub all: bool,
    /// Only those: state=running, node=NAME, owner=NAME, label.KEY=VALUE, joined by `and`
    #[arg(long, value_name = "TERMS")]
    pub filter: Option<String>,
    /// In this order: number, name, create_time, state_time; -name for the other way round
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
}

#[derive(Debug, Args)]
pub struct GetArgs {
    /// The session
    pub session: String,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only this session
    pub session: Option<String>,
    /// Only those: state=running, node=NAME, owner=NAME, label.KEY=VALUE, joined by `and`
    #[arg(long, value_name = "TERMS", conflicts_with = "session")]
    pub filter: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl logs fix-login -f            until the run ends
  droverctl logs fix-login --tail 50
  droverctl logs fix-login --since 10m --run 2

What the run wrote goes to standard output, byte for byte; on a terminal, escapes other than colours \
are left out.")]
pub struct LogsArgs {
    /// The session
    pub session: String,
    /// Go on as more is written, until the run ends
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub follow: bool,
    /// Only so many lines from the end
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// Only what is newer: 10m, or a time like 2026-11-24T10:00:00Z, on the node's clock
    #[arg(long, value_name = "T", value_parser = values::since)]
    pub since: Option<Since>,
    /// Which run: 1 is the first [default: the newest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub run: Option<u32>,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The session
    pub session: String,
    /// Only how much changed in which file
    #[arg(long, action = ArgAction::SetTrue)]
    pub stat: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl start fix            its command again, in the workspace as it is
  droverctl start fix --resume   its resume command, if it has one; DROVER_RESUMED=1 tells the program")]
pub struct StartArgs {
    /// The session
    pub session: String,
    /// Go on with what an earlier run began: with the session's resume command, if it has one
    #[arg(long, action = ArgAction::SetTrue)]
    pub resume: bool,
    /// Check everything, and change nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct StopArgs {
    /// The session
    pub session: String,
    /// How long it has to end by itself [default: as the session's spec says]
    #[arg(long, value_name = "D", value_parser = values::duration)]
    pub grace: Option<Duration>,
    /// Check everything, and change nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl extend fix 30m
  droverctl extend fix 2h -o json | jq -r .currentRun.deadline

How often and how far a deadline can be moved is the session's own: `run` has --max-extensions and \
--max-extension. How often it was moved by the run's own signs of life counts too.")]
pub struct ExtendArgs {
    /// The session
    pub session: String,
    /// By how much its run's deadline is moved: 30m, 1h30m
    #[arg(value_name = "D", value_parser = values::duration)]
    pub by: Duration,
    /// Check everything, and change nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl reset fix                  stop it, and forget holds, faults and failures; its files stay
  droverctl reset fix --hard --dry-run  what would be saved and removed
  droverctl reset fix --hard --yes     save its work, and make its workspace anew from the same commit

What --hard removes is in the trash first: work that is not committed, ignored files that cannot be made \
again, and commits of its branch. Then reset asks, or wants --yes. Without a terminal and without --yes it \
ends with exit code 4. `droverctl trash restore` brings it back.")]
pub struct ResetArgs {
    /// The session
    pub session: String,
    /// Save its work and make its workspace anew
    #[arg(long, action = ArgAction::SetTrue)]
    pub hard: bool,
    /// Do not ask
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub yes: bool,
    /// Say what would be saved and removed, and change nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  droverctl why fix            its last decisions, what each rests on, and what comes next
  droverctl why fix -o wide    with the times, on the controller's clock")]
pub struct WhyArgs {
    /// The session
    pub session: String,
}

#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The session
    pub session: String,
    /// For how long [default: until it is released]
    #[arg(long = "for", value_name = "D", value_parser = values::duration)]
    pub duration: Option<Duration>,
    /// Why, for others to read
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The session
    pub session: String,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A branch that is merged or still at its base is deleted; one with commits of its own is kept and named. \
Work that is not committed, and ignored files that cannot be made again, are saved before anything goes: \
then rm asks, or wants --yes. Without a terminal and without --yes it ends with exit code 4.")]
pub struct RmArgs {
    /// The sessions
    #[arg(required = true, value_name = "SESSION")]
    pub sessions: Vec<String>,
    /// Do not ask
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub yes: bool,
    /// Delete a branch with commits of its own too, once its tip is saved
    #[arg(long, action = ArgAction::SetTrue, conflicts_with = "keep_branch")]
    pub force: bool,
    /// Keep the branch, merged or not
    #[arg(long, action = ArgAction::SetTrue)]
    pub keep_branch: bool,
    /// Say what would be removed and kept, and change nothing
    #[arg(long, action = ArgAction::SetTrue)]
    pub dry_run: bool,
    #[command(flatten)]
    pub change: ChangeArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}
