//! The plumbing that Drover's long-running programs share: the clock, tasks and their end, files replaced
//! atomically, config files, telemetry, signals. It knows nothing of sessions, nodes or the wire.

pub mod atomic;
pub mod clock;
pub mod config;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
