//! How a run ended and what it used. The shim's exit file is the authority; these are its words.

use std::fmt;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    /// The command ended by itself with this code (never 0).
    Failed(i32),
    /// The command was ended by a signal that Drover did not send.
    Signalled(i32),
    TimedOut(Limit),
    /// Stopped on order; the text names who ordered it.
    Stopped(Box<str>),
    Interrupted(Cause),
    RateLimited,
    /// Nothing can be said of its end but that no process of it is left.
    Lost,
}

/// The limit that a run met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Run,
    Idle,
    /// The extensions' cap.
    Cap,
}

/// What took a run along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Reboot,
    Agent,
}

impl Outcome {
    /// From what the system says of an ended process: its code or its signal.
    pub fn of_exit(code: Option<i32>, signal: Option<i32>) -> Self {
        match (code, signal) {
            (Some(0), _) => Self::Succeeded,
            (Some(code), _) => Self::Failed(code),
            (None, Some(signal)) => Self::Signalled(signal),
            (None, None) => Self::Lost,
        }
    }

    /// The code that `droverctl run` ends with for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Succeeded => 0,
            Self::Failed(code) => *code,
            Self::Signalled(signal) => 128 + signal,
            Self::TimedOut(_) => 124,
            Self::Stopped(_) => 130,
            Self::Interrupted(_) | Self::RateLimited | Self::Lost => 125,
        }
    }

    /// Whether the restart policy `on-failure` speaks of it: it ended badly, and nobody asked for that.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Failed(_) | Self::Signalled(_) => true,
            Self::Succeeded
            | Self::TimedOut(_)
            | Self::Stopped(_)
            | Self::Interrupted(_)
            | Self::RateLimited
            | Self::Lost => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed(code) => write!(f, "failed({code})"),
            Self::Signalled(signal) => write!(f, "signalled({signal})"),
            Self::TimedOut(Limit::Run) => f.write_str("timed_out(run)"),
            Self::TimedOut(Limit::Idle) => f.write_str("timed_out(idle)"),
            Self::TimedOut(Limit::Cap) => f.write_str("timed_out(cap)"),
            Self::Stopped(by) => write!(f, "stopped({by})"),
            Self::Interrupted(Cause::Reboot) => f.write_str("interrupted(reboot)"),
            Self::Interrupted(Cause::Agent) => f.write_str("interrupted(agent)"),
            Self::RateLimited => f.write_str("rate_limited"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

/// What a run used, as far as it could be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub peak_memory_bytes: Option<u64>,
    pub cpu_time: Option<Duration>,
    pub peak_processes: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_outcome_is_what_a_shell_would_expect() {
        let table = [
            (Outcome::of_exit(Some(0), None), 0),
            (Outcome::of_exit(Some(3), None), 3),
            (Outcome::of_exit(None, Some(9)), 137),
            (Outcome::of_exit(None, None), 125),
            (Outcome::TimedOut(Limit::Idle), 124),
        ];
        for (outcome, code) in table {
            assert_eq!(outcome.exit_code(), code, "{outcome}");
        }
    }
}
