//! What an agent does to a machine, with real processes: the supervisor of runs, the runtime and the logs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "agent/bounds.rs"]
mod bounds;
#[path = "agent/ending.rs"]
mod ending;
#[path = "agent/extending.rs"]
mod extending;
#[path = "agent/failing_git.rs"]
mod failing_git;
#[path = "agent/killed_git.rs"]
mod killed_git;
#[path = "agent/logs.rs"]
mod logs;
#[path = "agent/losing.rs"]
mod losing;
#[path = "agent/machine.rs"]
mod machine;
#[path = "agent/running.rs"]
mod running;
#[path = "agent/runs.rs"]
mod runs;
#[path = "agent/surviving.rs"]
mod surviving;
