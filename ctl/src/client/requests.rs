//! The parts that requests share: ids that make a change safe to repeat, and lengths of time.

use std::time::Duration;

use crate::chance;
use crate::cli::ChangeArgs;

/// The id that the person gave, or a new one.
pub fn id(change: &ChangeArgs) -> String {
    change.request_id.clone().unwrap_or_else(|| format!("ctl-{}", chance::hex::<16>()))
}

/// A length as the wire has it.
pub fn length(length: Duration) -> prost_types::Duration {
    drover_proto::convert::time::length(length)
}
