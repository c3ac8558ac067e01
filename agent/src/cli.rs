//! The agent's command line. What a flag sets, the environment and the config file can set too.

use std::path::PathBuf;

use clap::Parser;
use drover_agent::config::Flags;

/// Drover's agent: makes workspaces and runs sessions on this machine, as its controller assigns them.
#[derive(Debug, Parser)]
#[command(name = "drover-agent", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// The config file [default: /etc/drover/agent.toml, if it is there].
    #[arg(long, value_name = "FILE", env = "DROVER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The controller.
    #[arg(long, value_name = "HOST:PORT")]
    controller: Option<String>,
    /// Where the agent keeps its identity, its ledger, worktrees and logs.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// The token to join with, once; others can see it in the list of processes: better use --join-token-file.
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,
    /// A file that holds the token to join with.
    #[arg(long, value_name = "FILE", conflicts_with = "join_token")]
    join_token_file: Option<String>,
    /// The node's name [default: after the host name].
    #[arg(long)]
    name: Option<String>,
    /// Sessions that may be made or run at once [default: four for each processor].
    #[arg(long, value_name = "N")]
    slots: Option<String>,
    /// A label that sessions may select the node by; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// What to log, such as debug or drover_agent=debug,info.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl Cli {
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            controller: self.controller.clone(),
            state_dir: self.state_dir.clone(),
            join_token: self.join_token.clone(),
            join_token_file: self.join_token_file.clone(),
            name: self.name.clone(),
            slots: self.slots.clone(),
            labels: self.labels.clone(),
            log: self.log.clone(),
        }
    }
}
