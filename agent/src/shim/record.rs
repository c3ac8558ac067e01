//! What is kept of a run, in a directory of its own: `run.json` (what to do, durable before anything is started),
//! `shim.json` (the supervisor, before the command is started), `started.json` (the command), `exit.json` (how it
//! ended, durable, once no process of it is left) and `log/`. Each is written once. The lock on `run.json` is held by the
//! supervisor as long as it lives, and by whoever settles what a dead one left.
//!
//! Supervisors outlive agents: an agent reads what every supervisor of its major version wrote.

mod limits;
mod verdict;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use drover_daemon::atomic;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::process::{Boot, ProcessId};
pub use limits::{Limits, Signs};
pub use verdict::{Used, Verdict};

/// Of every file here. It rises when an older agent would misread what is written.
pub const VERSION: u32 = 1;

/// What a supervisor is told to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub version: u32,
    pub id: String,
    pub session: String,
    pub fence: String,
    /// The boot in which it was written, and in which its supervisor is started.
    pub boot: Boot,
    /// In milliseconds since 1970.
    pub written: i64,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub directory: PathBuf,
    /// None: whoever the supervisor is.
    pub user: Option<User>,
    pub limits: Limits,
    /// Where its control group is to be; none: there are none here.
    pub cgroup: Option<PathBuf>,
    pub socket: PathBuf,
    /// A directory of the command's user, for what it tells.
    pub desk: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// The supervisor, who is about to start the command or has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    pub version: u32,
    pub process: ProcessId,
    pub launched: i64,
    /// Whether the run has its control group.
    pub cgroup: bool,
}

/// The command, once it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub version: u32,
    pub process: ProcessId,
    pub started: i64,
}

/// The end of a run: no process of it is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub version: u32,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// As the system told it, whatever the verdict.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// What more there is to say, for a person.
    pub text: Option<String>,
    /// None: the command was never started.
    pub started: Option<i64>,
    pub ended: i64,
    pub used: Used,
    /// How much it wrote, and how much of that is not kept; none: whoever counted died.
    pub log_bytes: Option<u64>,
    pub log_dropped: Option<u64>,
}

/// One of a run's records.
pub trait Record: Serialize + DeserializeOwned {
    const FILE: &'static str;
}

impl Record for Run {
    const FILE: &'static str = "run.json";
}

impl Record for Supervisor {
    const FILE: &'static str = "shim.json";
}

impl Record for Started {
    const FILE: &'static str = "started.json";
}

impl Record for Exit {
    const FILE: &'static str = "exit.json";
}

#[derive(Debug, Error)]
pub enum Unreadable {
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is not what a supervisor writes: {source}", path.display())]
    Garbled { path: PathBuf, source: serde_json::Error },
    #[error("{} is of version {version}, this program knows {VERSION}", path.display())]
    Foreign { path: PathBuf, version: u64 },
}

impl Run {
    /// Touching it is a heartbeat.
    pub fn heartbeat(&self) -> PathBuf {
        self.desk.join("heartbeat")
    }
}

/// The directory of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory(PathBuf);

/// Held by who may change what is kept of a run; the kernel lets go of it when its holder dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl RunDirectory {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The lock, if nobody holds it.
    pub fn lock(&self) -> io::Result<Option<Lock>> {
        self.locked(FlockOperation::NonBlockingLockExclusive)
    }

    /// Whether somebody holds the lock: its supervisor, or who settles what a dead one left.
    pub fn is_held(&self) -> io::Result<bool> {
        // Shared, so that those who only look are not taken for holders by each other.
        self.locked(FlockOperation::NonBlockingLockShared).map(|lock| lock.is_none())
    }

    fn locked(&self, how: FlockOperation) -> io::Result<Option<Lock>> {
        let file = File::open(self.0.join(Run::FILE))?;
        match flock(&file, how) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What it is to do.
    pub fn run(&self) -> Result<Option<Run>, Unreadable> {
        self.read()
    }

    pub fn supervisor(&self) -> Result<Option<Supervisor>, Unreadable> {
        self.read()
    }

    pub fn started(&self) -> Result<Option<Started>, Unreadable> {
        self.read()
    }

    pub fn exit(&self) -> Result<Option<Exit>, Unreadable> {
        self.read()
    }

    /// Makes the directory with what is to be done, durably. It must not be there.
    pub fn create(&self, run: &Run) -> io::Result<()> {
        if let Some(session) = self.0.parent() {
            atomic::private_directory(session)?;
            fs::DirBuilder::new().mode(0o700).create(&self.0)?;
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(self.0.join(Run::FILE))?;
            file.write_all(&serde_json::to_vec(run)?)?;
            file.sync_all()?;
            atomic::sync_directory(&self.0)?;
            atomic::sync_directory(session)?;
        }
        Ok(())
    }

    /// Writes a record that need not outlive the boot.
    pub fn write<R: Record>(&self, record: &R) -> io::Result<()> {
        let path = self.0.join(R::FILE);
        let beside = path.with_extension("json.new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        fs::rename(&beside, &path)
    }

    /// Writes down the end, durably.
    pub fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        atomic::write(&self.0.join(Exit::FILE), &serde_json::to_vec(exit)?, 0o600)
    }

    /// `None`: it is not there.
    fn read<R: Record>(&self) -> Result<Option<R>, Unreadable> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let path = self.0.join(R::FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Unreadable::File { path, source }),
        };
        let garbled = |source| Unreadable::Garbled { path: path.clone(), source };
        let Versioned { version } = serde_json::from_slice(&text).map_err(garbled)?;
        if version != u64::from(VERSION) {
            return Err(Unreadable::Foreign { path, version });
        }
        serde_json::from_slice(&text).map(Some).map_err(garbled)
    }
}
