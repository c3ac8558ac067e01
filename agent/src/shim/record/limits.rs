//! What holds a run: how long it may go on, what counts as a sign of life, how long it has to end. What an older agent did
//! not say is as usual.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logs;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub timeout_ms: Option<u64>,
    pub idle_ms: Option<u64>,
    /// How long it has to end by itself once it is asked to.
    pub grace_ms: u64,
    pub log_bytes: u64,
    /// What keeps it from being idle.
    #[serde(default = "Signs::all")]
    pub idle_signs: Signs,
    /// What moves its deadline, once that comes.
    #[serde(default = "Signs::touch")]
    pub extend_signs: Signs,
    /// How often the deadline moves, grants included; none: as often as there are signs.
    #[serde(default = "most_extensions")]
    pub max_extensions: Option<u32>,
    /// How far signs move the deadline in all; none: only their number counts.
    #[serde(default)]
    pub max_extension_ms: Option<u64>,
}

/// Which signs of life count for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signs {
    /// The heartbeat's file is touched.
    pub touch: bool,
    /// It says something.
    pub output: bool,
    /// It uses processors.
    pub cpu: bool,
}

impl Signs {
    pub const fn all() -> Self {
        Self { touch: true, output: true, cpu: true }
    }

    /// What nothing does by accident.
    pub const fn touch() -> Self {
        Self { touch: true, output: false, cpu: false }
    }
}

/// Ten: a program that is caught in a loop with its heartbeat is ended some day.
#[expect(clippy::unnecessary_wraps, reason = "it stands in for a field that may say none")]
const fn most_extensions() -> Option<u32> {
    Some(10)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout_ms: None,
            idle_ms: None,
            grace_ms: 10_000,
            log_bytes: logs::CAP,
            idle_signs: Signs::all(),
            extend_signs: Signs::touch(),
            max_extensions: most_extensions(),
            max_extension_ms: None,
        }
    }
}

impl Limits {
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_ms.map(Duration::from_millis)
    }

    pub fn idle(&self) -> Option<Duration> {
        self.idle_ms.map(Duration::from_millis)
    }

    pub fn max_extension(&self) -> Option<Duration> {
        self.max_extension_ms.map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_agent_wrote_still_reads_and_is_as_usual() {
        let older = r#"{"timeout_ms":5,"idle_ms":null,"grace_ms":7,"log_bytes":9}"#;
        let read: Limits = serde_json::from_str(older).unwrap();
        let usual = Limits { timeout_ms: Some(5), grace_ms: 7, log_bytes: 9, ..Limits::default() };
        assert_eq!(read, usual);
        assert_eq!((usual.max_extensions, usual.max_extension_ms), (Some(10), None));
        assert_eq!((usual.idle_signs, usual.extend_signs), (Signs::all(), Signs::touch()));
    }

    #[test]
    fn no_limit_is_told_from_one_that_was_not_said() {
        let boundless = Limits { max_extensions: None, ..Limits::default() };
        let text = serde_json::to_string(&boundless).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), boundless);
    }
}
