//! What is said on a supervisor's socket: one JSON object to a line, the client's first line a hello. Every line is
//! answered by one line, in order; to one who waits, the end and being stuck are told when they come.

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
    /// Be told of the end.
    Wait,
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
    },
    Stopping,
    Waiting,
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
