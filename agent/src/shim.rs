//! The supervisor of one run: a small program without threads that starts the command, writes its log, holds its limits
//! and, when it is over, ends every process that came of it. Only then does it say how the run ended. It outlives the
//! agent and asks nobody; the agent finds it again by the run's directory.
//!
//! What it was told to do stands in `run.json`. It runs the command at most once, whoever starts it how often.

mod ending;
mod program;
pub mod protocol;
mod pulse;
pub mod record;
mod socket;
mod supervise;
mod tree;
mod usage;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use drover_daemon::clock::Clock;
use rustix::process::{Signal, set_child_subreaper, setsid};
use thiserror::Error;

use crate::cgroup::Cgroup;
use crate::logs::write::Writer;
use crate::process::ProcessId;
use crate::sys::{self, Fork};
use record::{Lock, Run, RunDirectory, Started, Supervisor, Unreadable};
use socket::Clients;
use supervise::Watch;

/// What the hidden command is called.
pub const COMMAND: &str = "shim";

/// The run directory, if a program with these arguments is asked to be a supervisor. To be looked at before anything
/// else happens in `main`.
pub fn requested(arguments: impl IntoIterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.into_iter().skip(1);
    (arguments.next()? == COMMAND).then(|| arguments.next().map(PathBuf::from))?
}

/// Supervises the run of this directory. The calling process must have one thread; it returns at once, and the
/// supervisor goes on as nobody's child. What goes wrong before the command is started is said on standard output.
pub fn main(directory: &Path) -> ExitCode {
    sys::close_inherited();
    match begin(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Whoever started it may be gone.
            let _ = writeln!(io::stdout(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Why a supervisor did not start the command.
#[derive(Debug, Error)]
enum Failure {
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("{0}")]
    Unreadable(#[from] Unreadable),
    #[error("another supervisor has this run")]
    Taken,
    #[error("this run was started before")]
    WasStarted,
    #[error("there is no run.json that says what to do")]
    Untold,
}

impl Failure {
    fn new<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}

/// Becomes nobody's child, in the run's control group, if it can have one.
fn begin(path: &Path) -> Result<(), Failure> {
    let directory = RunDirectory::at(path);
    let run = directory.run()?.ok_or(Failure::Untold)?;
    let cgroup = run.cgroup.as_deref().and_then(|path| Cgroup::create(path).ok());
    let fork = cgroup.as_ref().map_or_else(sys::split, Cgroup::split_supervisor);
    match fork.map_err(Failure::new("become a process of its own"))? {
        Fork::Parent(_) => Ok(()),
        Fork::Child => supervise(directory, run, cgroup),
    }
}

fn supervise(directory: RunDirectory, run: Run, cgroup: Option<Cgroup>) -> Result<(), Failure> {
    setsid().map_err(Failure::new("begin a session of its own"))?;
    set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(Failure::new("take in orphaned processes"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let lock = lock(&directory).map_err(Failure::new("lock the run's directory"))?.ok_or(Failure::Taken)?;
    if directory.supervisor()?.is_some() || directory.exit()?.is_some() {
        return Err(Failure::WasStarted);
    }
    rustix::process::chdir("/").map_err(Failure::new("leave its starter's directory"))?;
    let watch = prepare(directory, lock, run, cgroup)?;
    start(watch)?.watch().map_err(Failure::new("watch over the run"))
}

/// Whoever only looks at the run holds its lock for a moment.
fn lock(directory: &RunDirectory) -> io::Result<Option<Lock>> {
    for _ in 0..100 {
        if let Some(lock) = directory.lock()? {
            return Ok(Some(lock));
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Ok(None)
}

/// Everything that must be there before the command is started.
fn prepare(directory: RunDirectory, lock: Lock, run: Run, cgroup: Option<Cgroup>) -> Result<Watch, Failure> {
    let signals = sys::signal_file(&[Signal::CHILD, Signal::TERM, Signal::INT, Signal::HUP])
        .map_err(Failure::new("listen for signals"))?;
    fs::create_dir_all(directory.log()).map_err(Failure::new("make the log's directory"))?;
    program::make_desk(&run).map_err(Failure::new("make the directory for the heartbeat"))?;
    let clients = Clients::listen(&run.socket, &run.id).map_err(Failure::new("listen on its socket"))?;
    let log = Writer::new(&directory.log(), run.limits.log_bytes);
    let watch = Watch::new(directory, run, log, supervise::Ears { signals, clients }, cgroup)
        .map_err(Failure::new("make a timer"))?;
    Ok(watch.holding(lock))
}

/// Starts the command. That it is about to be is written down first: a supervisor that dies here is never taken for
/// one that did nothing.
fn start(mut watch: Watch) -> Result<Watch, Failure> {
    let boot = watch.run().boot.clone();
    let clock = Clock::system();
    let own = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    let process = ProcessId::of(own, &boot)
        .ok_or_else(|| Failure::new("find itself in /proc")(io::Error::from(io::ErrorKind::NotFound)))?;
    let cgroup = watch.cgroup().is_some();
    let nothing = fs::File::options().read(true).write(true).open("/dev/null");
    let nothing = nothing.map_err(Failure::new("open /dev/null"))?;
    let supervisor = Supervisor { version: record::VERSION, process, launched: clock.wall_millis(), cgroup };
    watch.directory().write(&supervisor).map_err(Failure::new("write down that it is there"))?;
    match program::spawn(watch.run(), watch.cgroup()) {
        Ok(program) => {
            let started = clock.wall_millis();
            let process = ProcessId { boot, pid: program.pid, start: program.start };
            watch.began(program, started);
            let record = Started { version: record::VERSION, process, started };
            if let Err(error) = watch.directory().write(&record) {
                watch.break_off(&format!("the run cannot be recorded: {error}"));
            }
        }
        Err(refused) => watch.refused(refused),
    }
    // From here on whoever started it waits no longer, and nobody hears what is said.
    let _ = rustix::stdio::dup2_stdin(&nothing);
    let _ = rustix::stdio::dup2_stdout(&nothing);
    let _ = rustix::stdio::dup2_stderr(&nothing);
    Ok(watch)
}
