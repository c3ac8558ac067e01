//! The control plane: the registry, the scheduler, and the API that everybody speaks to.
//!
//! Rules are in `drover_domain`; here they are given a disk, a network and a clock.

pub mod access;
pub mod app;
pub mod config;
mod drains;
pub mod error;
pub mod filter;
pub mod gate;
pub mod http;
mod leases;
pub mod link;
pub mod links;
pub mod listen;
pub mod metrics;
pub mod notify;
pub mod pki;
pub mod plane;
pub mod random;
pub mod registry;
mod retention;
pub mod rpc;
mod scheduler;
pub mod store;
pub mod tls;
pub mod tunnel;
pub mod upkeep;
pub mod watch;
