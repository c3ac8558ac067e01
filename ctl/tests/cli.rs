//! The real binary, as people and scripts use it: what it prints, where, and how it ends. Every test has a home of its
//! own; nothing outside of it is read or changed.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may fail by panicking, and is no library")]
#![allow(clippy::too_many_lines, reason = "what is printed stands in the test that looks at it")]

#[cfg(feature = "dev")]
#[path = "cli/dev.rs"]
mod dev;
#[path = "cli/draining.rs"]
mod draining;
#[path = "cli/offline.rs"]
mod offline;
#[path = "cli/saved.rs"]
mod saved;
#[path = "cli/server.rs"]
mod server;
#[path = "cli/steering.rs"]
mod steering;
#[path = "cli/world.rs"]
mod world;
