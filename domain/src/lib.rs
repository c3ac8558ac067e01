//! The rules of Drover, pure: what may happen to sessions and nodes, and what should happen next.
//!
//! No clock, no chance, no IO: time and ids are arguments, effects are values for somebody else to carry out.

pub mod actor;
pub mod change;
pub mod command;
pub mod condition;
pub mod converge;
pub mod drain;
pub mod fence;
pub mod finding;
pub mod fleet;
pub mod id;
pub mod inventory;
pub mod labels;
pub mod lease;
pub mod name;
pub mod node;
pub mod outcome;
pub mod outlook;
pub mod placement;
pub mod plan;
pub mod presence;
pub mod reconcile;
pub mod refused;
pub mod repository;
pub mod retry;
pub mod session;
pub mod spec;
pub mod time;
