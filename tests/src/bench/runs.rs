//! Runs: how soon everything of one is ended, how many are started each second by a process that has much memory, and
//! what a supervisor and an agent take while nothing happens.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use drover_agent::cgroup;
use drover_agent::process::Boot;
use drover_agent::process::{self, Stat};
use drover_agent::runtime::{Job, Key, Places, Processes, Seen};
use drover_agent::shim::record::{Limits, RunDirectory};
use drover_controller::random;
use drover_daemon::clock::Clock;
use drover_domain::id::{NodeId, RunId, SessionId};
use drover_domain::session::Order;
use drover_proto::v1;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::task::block_in_place;

use super::line;
use super::load::kibibytes;
use super::measure::{Contest, Measured, ROUNDS, Stopwatch, Unit, warm_rounds};
use super::table::{Bound, Goal, Row};
use super::worktree::Yard;
use crate::client::script;
use crate::programs::program;
use crate::repository::Repository;

const CHILDREN: usize = 100;
const TREE: &str = "i=0; while [ $i -lt 100 ]; do sleep 100000 & i=$((i + 1)); done; wait";
const BALLAST: u64 = 512;
const STARTED: usize = 40;
const SESSIONS: usize = 100;

/// How runs end, and how they are started.
pub(crate) async fn ending() -> Result<Vec<Row>> {
    let machine = Machine::new()?;
    let measure = format!("stop of a run of {CHILDREN} children, against killing a group until all are dead");
    let goal = Goal::new("G14", measure, Bound::AtMost(5.0));
    let stop = line(goal, warm_rounds(&mut Stop { machine: &machine }, Unit::Seconds)).await;
    let measure =
        format!("rate of started runs with {BALLAST} MiB in the process that starts, against without");
    let goal = Goal::new("G14", measure, Bound::AtLeast(0.9));
    let rate = line(goal, warm_rounds(&mut Spawning, Unit::PerSecond)).await;
    Ok(vec![stop, rate])
}

/// What is taken while nothing happens.
pub(crate) async fn idle() -> Result<Vec<Row>> {
    let goal = Goal::new("G15", "private memory of a supervisor", Bound::AtMost(3.0));
    let supervisor = line(goal, supervisors()).await;
    let measure = format!("memory of the agent (RSS) with {SESSIONS} sessions, less 0.1 MiB for each");
    let memory = Goal::new("G15", measure, Bound::AtMost(30.0));
    let measure = format!("SIGKILL of the agent of {SESSIONS} runs until it answers for each of them again");
    let adoption = Goal::new("G15", measure, Bound::AtMost(10.0));
    match agent().await {
        Ok((taken, adopted)) => {
            let memory = Row { goal: memory, found: Ok(taken) };
            Ok(vec![supervisor, memory, Row { goal: adoption, found: Ok(adopted) }])
        }
        Err(error) => Ok(vec![supervisor, Row { goal: memory, found: Err(error.to_string()) }]),
    }
}

/// Runs without an agent around them: its library, in a directory of their own.
struct Machine {
    directory: tempfile::TempDir,
    processes: Processes,
}

impl Machine {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let processes = open(directory.path())?;
        Ok(Self { directory, processes })
    }

    async fn start(&self, script: &str) -> Result<(Key, u32)> {
        let key = key();
        let job = job(self.directory.path(), &["sh", "-c", script]);
        match self.processes.start(key, job).await? {
            Seen::Running(started) => Ok((key, started.process.pid)),
            other => anyhow::bail!("it does not run: {other:?}"),
        }
    }

    fn supervisor(&self, key: Key) -> Result<u32> {
        let name = format!("{}-{}", key.order.ordinal, key.order.run);
        let path = self.directory.path().join("state/runs").join(key.session.to_string()).join(name);
        let supervisor = RunDirectory::at(path).supervisor()?.context("it has a supervisor")?;
        Ok(supervisor.process.pid)
    }

    async fn stop(&self, key: Key) -> Result<()> {
        self.processes.stop(key, "bench", Duration::from_secs(5)).await?.context("it was started")?;
        Ok(())
    }
}

fn open(directory: &Path) -> Result<Processes> {
    let node = NodeId::from_random(random::bytes());
    let places = Places {
        state: directory.join("state"),
        sockets: directory.join("run").join(node.short()),
        node,
        program: program("drover-agent"),
        cgroups: cgroup::home(),
        boot_id: Boot::FILE.into(),
    };
    std::fs::create_dir_all(directory.join("run"))?;
    std::fs::create_dir_all(directory.join("workspace"))?;
    Ok(Processes::open(&places, Clock::system())?)
}

fn job(directory: &Path, command: &[&str]) -> Job {
    Job {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]),
        workspace: directory.join("workspace"),
        fence: "1.1".to_owned(),
        user: None,
        limits: Limits { grace_ms: 5_000, ..Limits::default() },
    }
}

fn key() -> Key {
    let order = Order { run: RunId::from_random(random::bytes()), ordinal: 1 };
    Key { session: SessionId::from_random(random::bytes()), order }
}

/// Waits until all children of the script are there.
async fn grown(root: u32) -> Result<Vec<Stat>> {
    let patience = Stopwatch::start();
    loop {
        let found = process::descendants(root);
        if found.len() >= CHILDREN {
            return Ok(found);
        }
        anyhow::ensure!(patience.seconds() < 20.0, "only {} processes came up", found.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Stop<'a> {
    machine: &'a Machine,
}

impl Contest for Stop<'_> {
    async fn bare(&mut self) -> Result<f64> {
        let mut command = Command::new("sh");
        command.args(["-c", TREE]).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.current_dir(self.machine.directory.path()).spawn()?;
        let mut all = grown(child.id()).await?;
        all.extend(Stat::of(child.id()));
        let watch = Stopwatch::start();
        kill_process_group(Pid::from_child(&child), Signal::KILL)?;
        while all.iter().any(|stat| Stat::of(stat.pid).is_some_and(|now| now.is_alive())) {
            std::hint::spin_loop();
        }
        let seconds = watch.seconds();
        child.wait()?;
        Ok(seconds)
    }

    async fn product(&mut self) -> Result<f64> {
        let (key, pid) = self.machine.start(TREE).await?;
        let all = grown(pid).await?;
        let watch = Stopwatch::start();
        self.machine.stop(key).await?;
        let seconds = watch.seconds();
        let is_left = all.iter().any(|stat| Stat::of(stat.pid).is_some_and(|now| now.is_alive()));
        anyhow::ensure!(!is_left, "processes are left after the stop");
        self.machine.processes.forget(key)?;
        Ok(seconds)
    }
}

struct Spawning;

impl Contest for Spawning {
    async fn bare(&mut self) -> Result<f64> {
        spawning(0)
    }

    async fn product(&mut self) -> Result<f64> {
        spawning(BALLAST)
    }
}

/// A process of its own starts runs, and says how many each second.
fn spawning(ballast: u64) -> Result<f64> {
    let directory = tempfile::tempdir()?;
    let output = block_in_place(|| {
        Command::new(std::env::current_exe()?)
            .args(["spawns", "--ballast", &ballast.to_string(), "--count", &STARTED.to_string()])
            .arg("--directory")
            .arg(directory.path())
            .stderr(Stdio::inherit())
            .output()
    })?;
    let text = String::from_utf8(output.stdout)?;
    let said = text.trim().parse().with_context(|| format!("it said {text:?}"));
    super::remove_groups_of(directory.path().parent().context("it is in one")?);
    said
}

/// What a process that only starts runs is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct SpawnArgs {
    /// MiB that it holds meanwhile.
    #[arg(long)]
    pub ballast: u64,
    #[arg(long)]
    pub count: usize,
    #[arg(long)]
    pub directory: PathBuf,
}

/// Starts runs one after the other; gives how many each second.
pub async fn spawns(args: SpawnArgs) -> Result<f64> {
    let ballast = vec![1_u8; usize::try_from(args.ballast << 20)?];
    let processes = open(&args.directory)?;
    let mut keys = Vec::new();
    let watch = Stopwatch::start();
    for _ in 0..args.count {
        let key = key();
        processes.start(key, job(&args.directory, &["/bin/true"])).await?;
        keys.push(key);
    }
    let seconds = watch.seconds();
    for key in keys {
        processes.ended(key).await;
        processes.forget(key)?;
    }
    anyhow::ensure!(ballast.iter().all(|byte| *byte == 1), "the ballast was there all the time");
    Ok(args.count as f64 / seconds)
}

async fn supervisors() -> Result<Measured> {
    let machine = Machine::new()?;
    let mut found = Vec::new();
    for _ in 0..ROUNDS {
        let (key, _) = machine.start("exec sleep 100000").await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        found.push(kibibytes(machine.supervisor(key)?, "smaps_rollup", "Private_")? / 1024.0);
        machine.stop(key).await?;
        machine.processes.forget(key)?;
    }
    Ok(Measured::plain(found, Unit::Mebibytes, "one run, sleeping"))
}

/// What the agent of many runs takes, and how soon a new one knows them all.
async fn agent() -> Result<(Measured, Measured)> {
    let mut yard = Yard::start_in(tempfile::tempdir()?).await?;
    let repository = Repository::with_files(1);
    for number in 0..SESSIONS {
        let asked = script(&format!("idle-{number}"), &repository.path, "exec sleep 100000");
        yard.create(asked, |session| session.state() == v1::SessionState::Running).await?;
    }
    let pid = yard.agent()?;
    let mut found = Vec::new();
    for _ in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(500)).await;
        found.push(kibibytes(pid, "status", "VmRSS:")? / 1024.0 - 0.1 * SESSIONS as f64);
    }
    let own = kibibytes(pid, "status", "RssAnon:")? / 1024.0;
    let mut adopted = Vec::new();
    for _ in 0..ROUNDS {
        adopted.push(yard.adopt().await?);
    }
    yard.end().await?;
    let memory =
        Measured::plain(found, Unit::Mebibytes, format!("{own:.1} MiB of it are not of the program's file"));
    Ok((memory, Measured::plain(adopted, Unit::Seconds, "the same processes")))
}
