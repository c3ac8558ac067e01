//! The node agent: makes workspaces, starts and watches runs, and reports what it saw. It does what its assignments
//! say, keeps what none speaks of, and goes on while the controller is away.

pub mod app;
pub mod cgroup;
mod chance;
pub mod config;
pub mod converge;
pub mod facts;
mod failpoint;
pub mod git;
pub mod identity;
pub mod inventory;
pub mod ledger;
pub mod link;
pub mod logs;
pub mod pressure;
pub mod process;
pub mod runtime;
pub mod saga;
pub mod shim;
pub mod step;
mod sys;
pub mod tunnel;
mod upkeep;
mod wire;
pub mod workspace;
