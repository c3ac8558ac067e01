//! The one way to run the git command: a clean environment, hooks and prompts off, a process group of its own, a time
//! limit (SIGTERM, then SIGKILL), bounded output, and errors sorted by cause. Dropping a call ends its processes.
//! It does not know what a command means; what may be tried again is the caller's to say (`run` or `once`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_daemon::clock::Clock;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use super::failure::{Cause, Failure, classify};
use super::limits::{Limits, Own, own};
use super::patience::Patience;

/// How git is run on this machine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Git(Arc<Settings>);

#[derive(Clone, Debug)]
pub struct Settings {
    pub program: PathBuf,
    pub limits: Limits,
    /// Of the repositories that have their own.
    pub repositories: Vec<Own>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    pub clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            program: "git".into(),
            limits: Limits::default(),
            repositories: Vec::new(),
            grace: Duration::from_secs(5),
            clock: Clock::system(),
        }
    }
}

/// The user that a repository's own parts run as, when it is not the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

/// Where a command works.
#[derive(Clone, Copy, Debug)]
pub enum At<'a> {
    /// The repository with this git directory.
    Repository(&'a Path),
    /// A directory, in which git finds its own way.
    Directory(&'a Path),
    /// A worktree by its administrative and its work directory, whatever its `.git` file or its settings say.
    Worktree { admin: &'a Path, path: &'a Path },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Quick,
    Long,
    /// The first word with a remote.
    Connect,
}

/// What the command reads.
#[derive(Debug)]
pub enum Input<'a> {
    Nothing,
    Bytes(&'a [u8]),
}

/// One command.
#[derive(Debug)]
pub struct Call<'a> {
    pub operation: &'static str,
    pub at: At<'a>,
    pub who: Option<&'a Account>,
    pub args: Vec<OsString>,
    pub environment: Vec<(&'static str, OsString)>,
    pub length: Length,
    pub input: Input<'a>,
    /// A locked file: the lock stays held while the command lives, even if the agent dies first. It takes the place
    /// of the input, or with an input that of the answer.
    pub holding: Option<&'a File>,
}

impl<'a> Call<'a> {
    pub fn new<S: AsRef<OsStr>>(
        operation: &'static str,
        at: At<'a>,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let (who, environment, length, input) = (None, vec![], Length::Quick, Input::Nothing);
        Self { operation, at, who, args, environment, length, input, holding: None }
    }

    pub fn by(self, who: Option<&'a Account>) -> Self {
        Self { who, ..self }
    }

    pub fn long(self) -> Self {
        Self { length: Length::Long, ..self }
    }

    pub fn connecting(self) -> Self {
        Self { length: Length::Connect, ..self }
    }

    pub fn reading(self, bytes: &'a [u8]) -> Self {
        Self { input: Input::Bytes(bytes), ..self }
    }

    pub fn holding(self, file: &'a File) -> Self {
        Self { holding: Some(file), ..self }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn place(&self) -> &Path {
        match self.at {
            At::Repository(path) | At::Directory(path) | At::Worktree { path, .. } => path,
        }
    }
}

/// The most that a command's answer may have; more is an error, not a longer answer.
const LONGEST_ANSWER: usize = 256 * 1024 * 1024;
const LONGEST_COMPLAINT: usize = 64 * 1024;
const CHUNK: usize = 64 * 1024;

/// Settings that hold for every command, whatever the repository's or the user's configuration says.
const FIXED: [&str; 12] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.ext.allow=never",
    "advice.detachedHead=false",
    "core.pager=cat",
    "submodule.recurse=false",
    "safe.bareRepository=all",
    "worktree.useRelativePaths=false",
    "core.ignoreStat=false",
    "core.untrackedCache=false",
];

/// What of the agent's environment a command of the agent's own user sees.
const PASSED: [&str; 16] = [
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CEILING_DIRECTORIES",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];
const PASSED_TO_ALL: [&str; 5] = ["PATH", "http_proxy", "https_proxy", "no_proxy", "all_proxy"];

impl Git {
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Where no repository says otherwise.
    pub fn limit(&self, length: Length) -> Duration {
        self.0.limits.of(length)
    }

    fn limit_of(&self, call: &Call<'_>) -> Duration {
        let common = match call.at {
            At::Repository(path) | At::Directory(path) => path,
            At::Worktree { admin, .. } => admin.ancestors().nth(2).unwrap_or(admin),
        };
        own(&self.0.repositories, common).unwrap_or(self.0.limits).of(call.length)
    }

    /// Runs a command that may be repeated: again after a moment while a lock or the network is in the way, as long
    /// as the operation's time allows.
    pub async fn run(&self, call: &Call<'_>) -> Result<Vec<u8>, Failure> {
        let mut patience = Patience::new(&self.0.clock, self.limit_of(call));
        loop {
            match self.once_within(call, patience.left()).await {
                Err(failure) => patience.after(failure).await?,
                done => return done,
            }
        }
    }

    /// The same for more than one command.
    pub async fn patiently<T, F>(&self, length: Length, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut patience = Patience::new(&self.0.clock, self.limit(length));
        loop {
            match attempt().await {
                Err(failure) => patience.after(failure).await?,
                done => return done,
            }
        }
    }

    /// Runs a command once.
    pub async fn once(&self, call: &Call<'_>) -> Result<Vec<u8>, Failure> {
        self.once_within(call, self.limit_of(call)).await
    }

    async fn once_within(&self, call: &Call<'_>, limit: Duration) -> Result<Vec<u8>, Failure> {
        let mut running = self.start(call, false)?;
        let work = async {
            let (_, answer, complaint) = tokio::join!(
                feed_bytes(running.child.stdin.take(), &call.input),
                read_up_to(running.child.stdout.take(), LONGEST_ANSWER),
                read_up_to(running.child.stderr.take(), LONGEST_COMPLAINT),
            );
            (answer, complaint, running.child.wait().await)
        };
        let ended = tokio::time::timeout(limit, work).await;
        let Ok((answer, complaint, status)) = ended else {
            running.stop(self.0.grace).await;
            return Err(self.failure(call, Cause::TimedOut(limit)));
        };
        running.is_over = true;
        let status = status.map_err(|error| Failure::io(call.operation, call.place(), &error))?;
        if !status.success() {
            return Err(self.failure(call, classify(&String::from_utf8_lossy(&complaint.kept))));
        }
        if answer.dropped {
            return Err(
                self.failure(call, Cause::Other(format!("git answered more than {LONGEST_ANSWER} bytes")))
            );
        }
        Ok(answer.kept)
    }

    /// Runs a command whose answer is handed on in pieces as it comes. Ends early, without error, if nobody listens.
    pub async fn stream(&self, call: &Call<'_>, out: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
        let mut running = self.start(call, false)?;
        let limit = self.limit_of(call);
        let (stdout, stderr) = (running.child.stdout.take(), running.child.stderr.take());
        let work = async {
            let (heard, complaint) =
                tokio::join!(pass_on(stdout, out), read_up_to(stderr, LONGEST_COMPLAINT));
            (heard, complaint, running.child.wait().await)
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, work) => Some(ended),
            () = out.closed() => None,
        };
        match ended {
            None => {
                running.stop(self.0.grace).await;
                Ok(())
            }
            Some(Err(_)) => {
                running.stop(self.0.grace).await;
                Err(self.failure(call, Cause::TimedOut(limit)))
            }
            Some(Ok((_, complaint, status))) => {
                running.is_over = true;
                let status = status.map_err(|error| Failure::io(call.operation, call.place(), &error))?;
                let text = String::from_utf8_lossy(&complaint.kept);
                if status.success() { Ok(()) } else { Err(self.failure(call, classify(&text))) }
            }
        }
    }

    /// Runs a command that reads what `source` brings, until the other end is dropped.
    pub async fn feed(&self, call: &Call<'_>, source: &mut mpsc::Receiver<Bytes>) -> Result<(), Failure> {
        let mut running = self.start(call, true)?;
        let (stdin, stderr) = (running.child.stdin.take(), running.child.stderr.take());
        let work = async {
            let ((), complaint) =
                tokio::join!(feed_from(stdin, source), read_up_to(stderr, LONGEST_COMPLAINT));
            (complaint, running.child.wait().await)
        };
        let limit = self.limit_of(call);
        let Ok((complaint, status)) = tokio::time::timeout(limit, work).await else {
            running.stop(self.0.grace).await;
            return Err(self.failure(call, Cause::TimedOut(limit)));
        };
        running.is_over = true;
        let status = status.map_err(|error| Failure::io(call.operation, call.place(), &error))?;
        let text = String::from_utf8_lossy(&complaint.kept);
        if status.success() { Ok(()) } else { Err(self.failure(call, classify(&text))) }
    }

    fn failure(&self, call: &Call<'_>, cause: Cause) -> Failure {
        let cause = match cause {
            // git may name it as seen from where it works.
            Cause::LockHeld { path, holder } => Cause::LockHeld { path: call.place().join(path), holder },
            cause => cause,
        };
        Failure::new(call.operation, call.place(), cause)
    }

    fn start(&self, call: &Call<'_>, is_fed: bool) -> Result<Running, Failure> {
        let io = |error: std::io::Error| Failure::io(call.operation, call.place(), &error);
        let held = call.holding.map(|file| file.try_clone().map(Stdio::from)).transpose().map_err(io)?;
        let reads = is_fed || matches!(call.input, Input::Bytes(_));
        let (stdin, stdout) = match (held, reads) {
            (None, true) => (Stdio::piped(), Stdio::piped()),
            (None, false) => (Stdio::null(), Stdio::piped()),
            (Some(held), true) => (Stdio::piped(), held),
            (Some(held), false) => (held, Stdio::piped()),
        };
        let mut command = self.command(call);
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).process_group(0);
        match command.spawn() {
            Ok(child) => {
                let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
                Ok(Running { child, group, is_over: false })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && call.place().is_dir() => {
                Err(self.failure(call, Cause::GitMissing(self.0.program.display().to_string())))
            }
            Err(error) => Err(io(error)),
        }
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new(&self.0.program);
        command.arg("--no-pager");
        for setting in FIXED {
            command.arg("-c").arg(setting);
        }
        match call.at {
            At::Repository(path) => command.arg("--git-dir").arg(path).current_dir(path),
            At::Directory(path) => command.current_dir(path),
            At::Worktree { admin, path } => {
                command.arg("--git-dir").arg(admin).arg("--work-tree").arg(path).current_dir(path)
            }
        };
        command.args(&call.args);
        set_environment(&mut command, call.who);
        command.envs(call.environment.iter().map(|(name, value)| (name, value)));
        if let Some(who) = call.who {
            command.uid(who.uid).gid(who.gid);
        }
        command
    }
}

fn set_environment(command: &mut Command, who: Option<&Account>) {
    command.env_clear();
    let passed: &[&str] = if who.is_some() { &PASSED_TO_ALL } else { &PASSED };
    for name in passed.iter().chain(&["PATH"]) {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(who) = who {
        command.env("HOME", &who.home).env("USER", &who.name).env("LOGNAME", &who.name);
    }
    command.envs([
        ("LC_ALL", "C"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS_REQUIRE", "never"),
        ("GCM_INTERACTIVE", "never"),
        ("GIT_EDITOR", "/bin/false"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
    ]);
}

/// A command that runs. Dropped before it is over, its whole group is killed.
#[derive(Debug)]
struct Running {
    child: Child,
    group: Option<Pid>,
    is_over: bool,
}

impl Running {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that is gone already is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(grace, self.child.wait()).await;
        // Also when git itself ended: its children may not have.
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
        self.is_over = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            self.signal(Signal::KILL);
        }
    }
}

#[derive(Debug, Default)]
struct Bounded {
    kept: Vec<u8>,
    dropped: bool,
}

async fn read_up_to(from: Option<impl AsyncRead + Unpin>, most: usize) -> Bounded {
    let mut read = Bounded::default();
    let Some(mut from) = from else { return read };
    let mut chunk = vec![0; CHUNK];
    // A pipe that breaks ends the answer; whether that was right the exit status tells.
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let fits = length.min(most - read.kept.len());
        read.kept.extend_from_slice(&chunk[..fits]);
        read.dropped |= fits < length;
    }
    read
}

async fn pass_on(from: Option<impl AsyncRead + Unpin>, out: &mpsc::Sender<Bytes>) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if out.send(Bytes::copy_from_slice(&chunk[..length])).await.is_err() {
            return;
        }
    }
}

async fn feed_bytes(stdin: Option<ChildStdin>, input: &Input<'_>) {
    if let (Some(mut stdin), Input::Bytes(bytes)) = (stdin, input) {
        // A command that ends without reading all says why on its standard error.
        let _ = stdin.write_all(bytes).await;
    }
}

async fn feed_from(stdin: Option<ChildStdin>, source: &mut mpsc::Receiver<Bytes>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = source.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            source.close();
        }
    }
}

#[cfg(test)]
mod tests;
