//! The real programs: started, killed and started again as an operator or a power cut would.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::patience::LONG;

/// A program of this workspace, built beside this one.
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let folder = here.ancestors().find(|folder| folder.join(name).is_file());
    let advice = "build it first: cargo build --workspace --bins";
    folder.unwrap_or_else(|| panic!("{name} is not there; {advice}")).join(name)
}

/// The program as it is started in a directory: with nothing from outside that it could be configured by.
pub fn command(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(program(name));
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if ["DROVER_", "OTEL_", "GIT_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&variable);
        }
    }
    command.current_dir(directory).stdin(Stdio::null()).env("HOME", directory);
    for (variable, name) in [
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_RUNTIME_DIR", "runtime"),
        ("DROVER_SOCKETS", "run"),
    ] {
        command.env(variable, directory.join(name));
    }
    command
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Runs it to its end, which must come.
    pub fn of(command: &mut Command) -> Self {
        let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let ended = end_of(&mut child);
        let mut ran = Self {
            code: ended.and_then(|status| status.code()).unwrap_or(-1),
            stdout: text(&mut stdout),
            stderr: text(&mut stderr),
        };
        if ended.is_none() {
            let _ = child.kill();
            let _ = child.wait();
            ran.stderr.insert_str(0, "it did not end by itself\n");
        }
        ran
    }
}

fn text(file: &mut File) -> String {
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How it ended; none: it goes on and on.
fn end_of(child: &mut Child) -> Option<ExitStatus> {
    let pause = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    while waited < LONG {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(pause);
        waited += pause;
    }
    None
}

/// A program that runs, and is killed with this value.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pub log: PathBuf,
}

impl Program {
    /// Starts it with its output in `log`.
    pub fn start(name: &str, log: &Path, arguments: &[&str], directory: &Path) -> Self {
        let mut command = command(name, directory);
        command.args(arguments);
        Self::spawn(command, log)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts this command with its output in `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let child = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Self { child, log: log.to_owned() }
    }

    /// As a power cut would: no word, no chance.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and the end of it.
    pub fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.end_of_it()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> ExitStatus {
        self.end_of_it()
    }

    /// Whether it has ended by itself, or was killed.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it has said until now.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn end_of_it(&mut self) -> ExitStatus {
        end_of(&mut self.child).unwrap_or_else(|| panic!("it does not end; it said:\n{}", self.said()))
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// A port that was free a moment ago, and that no outgoing connection of this machine is given: one that is dialled
/// while nobody listens would else, now and then, be connected to itself.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let given = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768_u16);
    let (lowest, span) = (10_000, given.saturating_sub(10_000).max(1_000));
    let own = std::process::id().wrapping_mul(61) % u32::from(span);
    (0..span)
        .find_map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = lowest + (u16::try_from(own).unwrap() + step % span) % span;
            std::net::TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
        })
        .expect("some port is free")
}

/// Whether a process lives (and is no zombie).
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
