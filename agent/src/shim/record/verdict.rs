//! The words for how a run ended and what it used, as an exit file has them.

use std::time::Duration;

use drover_domain::outcome::{Cause, Limit, Outcome, Usage};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Verdict {
    Succeeded,
    Failed { with: i32 },
    Signalled { by: i32 },
    TimedOut { limit: Which },
    Stopped { by: String },
    Interrupted { by: What },
    RateLimited,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    Run,
    Idle,
    Cap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Reboot,
    Agent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub peak_memory_bytes: Option<u64>,
    pub cpu_micros: Option<u64>,
    pub peak_processes: Option<u32>,
}

impl From<&Outcome> for Verdict {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed(with) => Self::Failed { with: *with },
            Outcome::Signalled(by) => Self::Signalled { by: *by },
            Outcome::TimedOut(Limit::Run) => Self::TimedOut { limit: Which::Run },
            Outcome::TimedOut(Limit::Idle) => Self::TimedOut { limit: Which::Idle },
            Outcome::TimedOut(Limit::Cap) => Self::TimedOut { limit: Which::Cap },
            Outcome::Stopped(by) => Self::Stopped { by: by.to_string() },
            Outcome::Interrupted(Cause::Reboot) => Self::Interrupted { by: What::Reboot },
            Outcome::Interrupted(Cause::Agent) => Self::Interrupted { by: What::Agent },
            Outcome::RateLimited => Self::RateLimited,
            Outcome::Lost => Self::Lost,
        }
    }
}

impl From<&Verdict> for Outcome {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Succeeded => Self::Succeeded,
            Verdict::Failed { with } => Self::Failed(*with),
            Verdict::Signalled { by } => Self::Signalled(*by),
            Verdict::TimedOut { limit: Which::Run } => Self::TimedOut(Limit::Run),
            Verdict::TimedOut { limit: Which::Idle } => Self::TimedOut(Limit::Idle),
            Verdict::TimedOut { limit: Which::Cap } => Self::TimedOut(Limit::Cap),
            Verdict::Stopped { by } => Self::Stopped(by.as_str().into()),
            Verdict::Interrupted { by: What::Reboot } => Self::Interrupted(Cause::Reboot),
            Verdict::Interrupted { by: What::Agent } => Self::Interrupted(Cause::Agent),
            Verdict::RateLimited => Self::RateLimited,
            Verdict::Lost => Self::Lost,
        }
    }
}

impl From<Usage> for Used {
    fn from(usage: Usage) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            peak_memory_bytes: usage.peak_memory_bytes,
            cpu_micros: usage.cpu_time.map(micros),
            peak_processes: usage.peak_processes,
        }
    }
}

impl From<Used> for Usage {
    fn from(used: Used) -> Self {
        Self {
            peak_memory_bytes: used.peak_memory_bytes,
            cpu_time: used.cpu_micros.map(Duration::from_micros),
            peak_processes: used.peak_processes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_reads_back_as_itself() {
        let outcomes = [
            Outcome::Succeeded,
            Outcome::Failed(3),
            Outcome::Signalled(9),
            Outcome::TimedOut(Limit::Run),
            Outcome::TimedOut(Limit::Idle),
            Outcome::TimedOut(Limit::Cap),
            Outcome::Stopped("me".into()),
            Outcome::Interrupted(Cause::Reboot),
            Outcome::Interrupted(Cause::Agent),
            Outcome::RateLimited,
            Outcome::Lost,
        ];
        for outcome in outcomes {
            let text = serde_json::to_string(&Verdict::from(&outcome)).unwrap();
            let read: Verdict = serde_json::from_str(&text).unwrap();
            assert_eq!(Outcome::from(&read), outcome, "{text}");
        }
    }
}
