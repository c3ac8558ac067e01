//! A machine for one test: a state directory, sockets, agents that come and go, and nothing left of it afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_agent::cgroup;
use drover_agent::logs::{Chunk, From};
use drover_agent::process::{self, Boot};
use drover_agent::runtime::{Job, Key, Places, Processes, Seen};
use drover_agent::shim::record::{Exit, Limits, RunDirectory};
use drover_daemon::clock::Clock;
use drover_domain::id::{NodeId, RunId, SessionId};
use drover_domain::outcome::Outcome;
use drover_domain::presence::Presence;
use drover_domain::session::Order;
use rustix::process::Signal;

pub(crate) struct Machine {
    dir: tempfile::TempDir,
    places: Places,
    pub(crate) processes: Processes,
}

/// Whether runs get control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    With,
    Without,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with(Groups::With)
    }

    pub(crate) fn with(groups: Groups) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path(), groups);
        fs::create_dir(dir.path().join("workspace")).unwrap();
        let processes = Processes::open(&places, Clock::system()).unwrap();
        Self { dir, places, processes }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        workspace(self.dir.path())
    }

    /// An agent that is started anew.
    pub(crate) fn restart_agent(&mut self) {
        self.processes = Processes::open(&self.places, Clock::system()).unwrap();
    }

    /// As after a reboot: no process of any run is there, and the agent is told another boot.
    pub(crate) async fn reboot(&mut self) {
        for key in self.processes.all().unwrap() {
            let supervisor = self.supervisor(key);
            supervisor.signal(&boot(), Signal::KILL);
            eventually("its processes are gone", || {
                // One that was looked at may have begun another one before it was killed.
                let left = self.processes_of(key);
                left.iter().for_each(|process| drop(process.signal(&boot(), Signal::KILL)));
                supervisor.look(&boot()).is_absent() && left.is_empty()
            })
            .await;
        }
        self.places.boot_id = self.path().join("boot_id");
        fs::write(&self.places.boot_id, "another\n").unwrap();
        self.restart_agent();
    }

    pub(crate) fn job(&self, script: &str) -> Job {
        job(self.dir.path(), script)
    }

    pub(crate) fn directory(&self, key: Key) -> RunDirectory {
        let name = format!("{}-{}", key.order.ordinal, key.order.run);
        RunDirectory::at(self.places.state.join("runs").join(key.session.to_string()).join(name))
    }

    pub(crate) async fn start(&self, key: Key, script: &str) -> u32 {
        match self.processes.start(key, self.job(script)).await.unwrap() {
            Seen::Running(started) => started.process.pid,
            other => panic!("not running: {other:?}"),
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, key: Key, job: Job) -> Exit {
        self.processes.start(key, job).await.unwrap();
        soon("the end", self.processes.ended(key)).await
    }

    pub(crate) fn log(&self, key: Key) -> Vec<Chunk> {
        let mut reader = self.processes.read_log(key, &[From::Beginning]).unwrap();
        std::iter::from_fn(|| reader.next_chunk().unwrap()).collect()
    }

    pub(crate) fn output(&self, key: Key) -> String {
        text(&self.log(key))
    }

    pub(crate) async fn until_it_says(&self, key: Key, word: &str) {
        eventually(&format!("the log says {word}"), || self.output(key).contains(word)).await;
    }

    /// Every living process of the run.
    pub(crate) fn processes_of(&self, key: Key) -> Vec<process::ProcessId> {
        let boot = boot();
        process::marked(&format!("DROVER_RUN={}", key.order.run)).iter().map(|stat| stat.id(&boot)).collect()
    }

    pub(crate) fn supervisor(&self, key: Key) -> process::ProcessId {
        self.directory(key).supervisor().unwrap().unwrap().process
    }
}

impl Drop for Machine {
    /// Whatever a failed test left.
    fn drop(&mut self) {
        for key in self.processes.all().unwrap_or_default() {
            if !matches!(self.processes.look(key), Presence::Present(Seen::Ended(_))) {
                if let Ok(Some(supervisor)) = self.directory(key).supervisor() {
                    supervisor.process.signal(&boot(), Signal::KILL);
                }
                for process in self.processes_of(key) {
                    process.signal(&boot(), Signal::KILL);
                }
            }
            if let Ok(Some(run)) = self.directory(key).run()
                && let Some(path) = run.cgroup
            {
                let group = cgroup::Cgroup::at(path);
                let _ = group.kill();
                // Who was killed is in it for another moment.
                (0..200).any(|_| {
                    std::thread::sleep(Duration::from_millis(5));
                    !group.path().exists() || group.remove().is_ok()
                });
            }
        }
    }
}

pub(crate) fn places(dir: &Path, groups: Groups) -> Places {
    Places {
        state: dir.join("state"),
        sockets: dir.join("sockets"),
        node: NodeId::from_random([9; 10]),
        program: env!("CARGO_BIN_EXE_drover-agent").into(),
        boot_id: Boot::FILE.into(),
        cgroups: (groups == Groups::With).then(cgroup::home).flatten(),
    }
}

pub(crate) fn workspace(dir: &Path) -> PathBuf {
    dir.join("workspace")
}

pub(crate) fn job(dir: &Path, script: &str) -> Job {
    Job {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]),
        workspace: workspace(dir),
        fence: "1.1".to_owned(),
        user: None,
        limits: Limits { grace_ms: 1_000, ..Limits::default() },
    }
}

/// This boot, as the machine's kernel tells it.
pub(crate) fn boot() -> Boot {
    Boot::read(Path::new(Boot::FILE)).unwrap()
}

/// A run that no other test has.
pub(crate) fn key(number: u8) -> Key {
    let mut bytes = [number; 10];
    bytes[..4].copy_from_slice(&std::process::id().to_be_bytes());
    Key {
        session: SessionId::from_random(bytes),
        order: Order { run: RunId::from_random(bytes), ordinal: 1 },
    }
}

pub(crate) fn text(chunks: &[Chunk]) -> String {
    chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.data)).collect()
}

pub(crate) fn outcome(exit: &Exit) -> Outcome {
    Outcome::from(&exit.verdict)
}

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
