//! The controller as its clients and agents see it: a real one on a free port, with a real disk, over real TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

#[path = "controller/access.rs"]
mod access;
#[path = "controller/calls.rs"]
mod calls;
#[path = "controller/drains.rs"]
mod drains;
#[path = "controller/edge.rs"]
mod edge;
#[path = "controller/harness.rs"]
mod harness;
#[path = "controller/links.rs"]
mod links;
#[path = "controller/notify.rs"]
mod notify;
#[path = "controller/saved.rs"]
mod saved;
#[path = "controller/steering.rs"]
mod steering;
#[path = "controller/watches.rs"]
mod watches;
