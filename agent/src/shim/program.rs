//! Starting the command: as its user, in its directory, with its environment and nothing else, its output into pipes.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};

use super::record::{Run, User};
use crate::cgroup::Cgroup;
use crate::process::Stat;
use crate::sys::{self, Fork};

/// As shells have it: it is not there; it cannot be run.
const NOT_FOUND: i32 = 127;
const NOT_RUN: i32 = 126;

/// The command, running.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) pid: u32,
    pub(super) start: u64,
    pub(super) output: OwnedFd,
    pub(super) error: OwnedFd,
}

/// The command cannot be started.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: i32,
    pub(super) text: String,
}

/// A directory that belongs to the command's user, with what it may touch to be heard.
pub(super) fn make_desk(run: &Run) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&run.desk)?;
    for name in ["heartbeat", "state"] {
        let path = run.desk.join(name);
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        give(&path, run.user.as_ref())?;
    }
    give(&run.desk, run.user.as_ref())
}

fn give(path: &Path, user: Option<&User>) -> io::Result<()> {
    user.map_or(Ok(()), |user| std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)))
}

/// What goes from the new process to the supervisor.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn new() -> Result<Self, Refused> {
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| Refused::plain(&error.to_string()))?;
        Ok(Self { read, write })
    }

    /// The supervisor's end, which it never waits at.
    fn reading(self) -> Result<OwnedFd, Refused> {
        rustix::io::ioctl_fionbio(&self.read, true).map_err(|error| Refused::plain(&error.to_string()))?;
        Ok(self.read)
    }
}

pub(super) fn spawn(run: &Run, cgroup: Option<&Cgroup>) -> Result<Program, Refused> {
    let (program, arguments) =
        run.command.split_first().ok_or_else(|| Refused::plain("there is no command"))?;
    let (output, error, failure) = (Pipe::new()?, Pipe::new()?, Pipe::new()?);
    let copy =
        |end: &OwnedFd| end.try_clone().map(Stdio::from).map_err(|error| Refused::plain(&error.to_string()));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&run.environment);
    command.stdin(Stdio::null()).stdout(copy(&output.write)?).stderr(copy(&error.write)?);
    let (user, directory) = (run.user.clone(), run.directory.clone());
    sys::before_exec(&mut command, move || become_program(user.as_ref(), &directory));
    match cgroup.map_or_else(sys::split, Cgroup::split_command) {
        Ok(Fork::Parent(pid)) => {
            drop((command, failure.write));
            heard(&failure.read).map_err(|error| Refused::of(run, &error))?;
            // It was not waited for, so that its entry is there even if it has ended.
            let start = Stat::of(pid).map_or(0, |stat| stat.start);
            Ok(Program { pid, start, output: output.reading()?, error: error.reading()? })
        }
        Ok(Fork::Child) => {
            let code = command.exec().raw_os_error().unwrap_or(0);
            // If nobody hears it, the exit code says it too.
            let _ = rustix::io::write(&failure.write, &code.to_ne_bytes());
            sys::leave(NOT_RUN)
        }
        Err(error) => Err(Refused::of(run, &error)),
    }
}

/// Waits until the new process is the program, or says why it cannot be.
fn heard(failure: &OwnedFd) -> io::Result<()> {
    let mut code = [0; 4];
    match rustix::io::retry_on_intr(|| rustix::io::read(failure, &mut code))? {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
    }
}

/// In the new process. Only what the kernel refuses is told to the parent.
fn become_program(user: Option<&User>, directory: &Path) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if let Some(user) = user {
        let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_gid(Gid::from_raw(user.gid))?;
        rustix::thread::set_thread_uid(Uid::from_raw(user.uid))?;
    }
    // Last, so that the user's own right to be there decides.
    Ok(rustix::process::chdir(directory)?)
}

impl Refused {
    fn plain(text: &str) -> Self {
        Self { code: NOT_RUN, text: text.to_owned() }
    }

    fn of(run: &Run, error: &io::Error) -> Self {
        let name = run.command.first().map_or("", String::as_str);
        let directory = run.directory.display();
        let who = run.user.as_ref().map(|user| format!(" by user {}", user.name)).unwrap_or_default();
        let (code, text) = match error.kind() {
            io::ErrorKind::NotFound if !run.directory.is_dir() => {
                (NOT_RUN, format!("its directory {directory} is gone"))
            }
            io::ErrorKind::NotFound if Path::new(name).exists() => {
                (NOT_FOUND, format!("'{name}' is there, but the interpreter it names is not"))
            }
            io::ErrorKind::NotFound if name.contains('/') => (NOT_FOUND, format!("'{name}' is not there")),
            io::ErrorKind::NotFound => (NOT_FOUND, format!("'{name}' is in none of the directories of PATH")),
            io::ErrorKind::PermissionDenied => {
                (NOT_RUN, format!("'{name}' may not be run{who}, or {directory} not be entered"))
            }
            _ => (NOT_RUN, format!("'{name}' cannot be run: {error}")),
        };
        Self { code, text }
    }
}
