//! A gate that programs wait at until the test lets them through: to order, and without asking again and again.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Closed at first.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    open: Option<File>,
}

impl Gate {
    /// A closed gate; nothing may be at its path.
    pub fn new(path: &Path) -> Self {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        Self { path: path.to_owned(), open: None }
    }

    /// The words of a shell script that wait here.
    pub fn wait(&self) -> String {
        format!(": < '{}'", self.path.display())
    }

    /// Whether it is open, as a condition of a shell script.
    pub fn is_open(&self) -> String {
        format!("[ -e '{}' ]", self.sign().display())
    }

    /// For whoever waits and whoever will.
    pub fn open(&mut self) {
        // With both ends held nobody waits for the other end any more.
        self.open = Some(File::options().read(true).write(true).open(&self.path).unwrap());
        File::create(self.sign()).unwrap();
    }

    fn sign(&self) -> PathBuf {
        self.path.with_extension("open")
    }
}

/// A script that writes numbered lines until the gate opens, and then ends with the code.
pub fn counting(gate: &Gate, code: i32) -> String {
    format!(
        "n=0; until {}; do n=$((n+1)); echo \"line $n\"; sleep 0.02; done; echo \"last $n\"; exit {code}",
        gate.is_open()
    )
}

/// Whether a log of [`counting`] is whole: every line once, in order, up to the last.
pub fn is_whole(log: &str) -> Result<u64, String> {
    let mut lines = log.lines();
    let last = lines.next_back().and_then(|line| line.strip_prefix("last ")?.parse().ok());
    let last: u64 = last.ok_or_else(|| format!("it has no end: {:?}", log.lines().next_back()))?;
    let mut expected = 1..=last;
    for line in lines {
        match expected.next() {
            Some(number) if line == format!("line {number}") => {}
            other => return Err(format!("{line:?} stands in the place of {other:?} of {last}")),
        }
    }
    expected.next().map_or(Ok(last), |missing| Err(format!("it lacks line {missing} of {last}")))
}
