//! What is said on a supervisor's socket: one JSON object to a line, the client's first line a hello. Every line is
//! answered by one line, in order; to one who waits, the end, being stuck and a moved deadline are told when they come.
//!
//! Additions are free: an older supervisor refuses what it does not know, an older client looks again.

use serde::{Deserialize, Serialize};

/// It rises when an older client would misunderstand.
pub const VERSION: u32 = 1;
/// The longest line.
pub const LONGEST: usize = 4 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    Hello {
        version: u32,
    },
    Status,
    /// Ends the run. Asked again, a shorter grace counts.
    Stop {
        by: String,
        grace_ms: u64,
    },
    /// Be told of the end, and whenever the deadline moves.
    Wait,
    /// Gives the run more time: everything that a person ever granted it, and in how many grants. What is known already
    /// changes nothing.
    Grant {
        total_ms: u64,
        count: u32,
    },
    /// The node may run it until then, on the clock that counts from the machine's boot. What is earlier than what is
    /// known changes nothing.
    Fence {
        boot_ms: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Hello {
        version: u32,
        run: String,
    },
    Status {
        state: State,
        pid: Option<u32>,
        /// In milliseconds since 1970; none: it has no timeout.
        #[serde(default)]
        deadline_wall_ms: Option<i64>,
        /// How often the deadline was moved.
        #[serde(default)]
        extensions: u32,
    },
    Stopping,
    Waiting,
    Granted {
        deadline_wall_ms: Option<i64>,
        extensions: u32,
    },
    /// The deadline was moved, by whatever.
    Extended {
        deadline_wall_ms: i64,
        extensions: u32,
    },
    Fenced {
        boot_ms: u64,
    },
    /// The exit file is there. The last that is said.
    Ended,
    /// These processes do not end although they were killed; it goes on trying.
    Stuck {
        pids: Vec<u32>,
    },
    Refused {
        why: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    Stopping,
    Stuck,
}

/// A line to send.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages are plain data");
    line.push(b'\n');
    line
}
