//! Processes as the kernel shows them. A pid is believed only with its start time and the boot it belongs to, and
//! signalled only through a descriptor that was opened before both were compared: one that was given to another process
//! meanwhile is never hit.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use drover_domain::presence::Presence;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One boot of the machine, by the name that its kernel gave it; empty where that tells none. Which one this is, is read
/// once and handed on: who fails to read it later must not take everything for another boot's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boot(Box<str>);

/// One process, in all of this machine's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub boot: Boot,
    pub pid: u32,
    /// When it was started, in the kernel's ticks since that boot.
    pub start: u64,
}

/// What `/proc` tells of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: u32,
    pub parent: u32,
    /// One letter; `Z` and `X` are ended.
    pub state: char,
    pub start: u64,
    /// What it used of processors, and what those used that it waited for, in ticks of the kernel.
    pub ticks: u64,
}

/// The unit of times in `/proc`, on every architecture that Drover runs on.
const TICK: Duration = Duration::from_millis(10);

impl Boot {
    /// Where the kernel tells it.
    pub const FILE: &str = "/proc/sys/kernel/random/boot_id";

    /// This boot, as the file tells it.
    pub fn read(file: &Path) -> io::Result<Self> {
        match fs::read_to_string(file) {
            Ok(text) => Ok(text.trim().into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("".into()),
            Err(error) => Err(error),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Boot {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl ProcessId {
    /// The process that has this pid now. `None`: there is none.
    pub fn of(pid: u32, boot: &Boot) -> Option<Self> {
        Stat::of(pid).map(|stat| stat.id(boot))
    }

    /// Whether it is alive in this boot.
    pub fn look(&self, boot: &Boot) -> Presence<()> {
        self.open(boot).map(drop)
    }

    /// Signals it, if it is one of this boot. `Absent`: it is gone, and nobody was signalled.
    pub fn signal(&self, boot: &Boot, signal: Signal) -> Presence<()> {
        match self.open(boot) {
            Presence::Present(descriptor) => match pidfd_send_signal(descriptor, signal) {
                Ok(()) => Presence::Present(()),
                Err(Errno::SRCH) => Presence::Absent,
                Err(error) => Presence::Unknown(format!("process {} cannot be signalled: {error}", self.pid)),
            },
            Presence::Absent => Presence::Absent,
            Presence::Unknown(why) => Presence::Unknown(why),
        }
    }

    /// The descriptor first, then the comparison: what it stands for cannot change any more.
    fn open(&self, boot: &Boot) -> Presence<OwnedFd> {
        if self.boot != *boot {
            return Presence::Absent;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Presence::Absent };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => match Stat::of(self.pid) {
                Some(stat) if stat.start == self.start && stat.is_alive() => Presence::Present(descriptor),
                Some(_) | None => Presence::Absent,
            },
            Err(Errno::SRCH) => Presence::Absent,
            Err(error) => Presence::Unknown(format!("process {} cannot be looked at: {error}", self.pid)),
        }
    }
}

impl Stat {
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// When it was started, as a time since the boot.
    pub fn started(&self) -> Duration {
        Duration::from_millis(self.start.saturating_mul(10))
    }

    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    pub fn id(&self, boot: &Boot) -> ProcessId {
        ProcessId { boot: boot.clone(), pid: self.pid, start: self.start }
    }

    /// The program's name stands in brackets and may hold brackets and spaces itself.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = (text.find(" (")?, text.rfind(')')?);
        let mut rest = text.get(after + 1..)?.split_ascii_whitespace();
        let pid = text.get(..before)?.parse().ok()?;
        let state = rest.next()?.chars().next()?;
        let parent = rest.next()?.parse().ok()?;
        let mut numbers = rest.skip(9).map(str::parse::<u64>);
        let mut ticks = 0;
        for _ in 0..4 {
            ticks += numbers.next()?.ok()?;
        }
        let start = numbers.nth(4)?.ok()?;
        Some(Self { pid, parent, state, start, ticks })
    }
}

/// Every process that can be seen.
pub fn all() -> Vec<Stat> {
    pids().into_iter().filter_map(Stat::of).collect()
}

/// Every living process that descends from `root`, without it.
pub fn descendants(root: u32) -> Vec<Stat> {
    let mut found = descent(root);
    found.retain(Stat::is_alive);
    found
}

/// What everything that descends from `root` used of processors, without what `root` itself waited for.
pub fn time_of_descendants(root: u32) -> Duration {
    let ticks: u64 = descent(root).iter().map(|stat| stat.ticks).sum();
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// Everything that descends from `root`, without it, and with what ended and was not waited for.
fn descent(root: u32) -> Vec<Stat> {
    let mut children: HashMap<u32, Vec<Stat>> = HashMap::new();
    for stat in all() {
        children.entry(stat.parent).or_default().push(stat);
    }
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            open.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// Every living process whose first environment held this entry (`NAME=value`). One that may not be looked into is
/// another user's.
pub fn marked(entry: &str) -> Vec<Stat> {
    let bears = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
    };
    pids().into_iter().filter(bears).filter_map(Stat::of).filter(Stat::is_alive).collect()
}

/// Living processes whose first environment has what is asked for.
#[derive(Clone, Debug, Default)]
pub struct Environments {
    pub found: Vec<(Stat, Vec<u8>)>,
    /// Those that may not be looked into.
    pub hidden: Vec<Stat>,
}

impl Environments {
    /// All with an entry that begins like this, and with all of their entries.
    pub fn with(beginning: &str) -> io::Result<Self> {
        let mut environments = Self::default();
        for pid in listed()? {
            match fs::read(format!("/proc/{pid}/environ")) {
                Ok(bytes) if holds(&bytes, beginning.as_bytes()) => {
                    let stat = Stat::of(pid).filter(Stat::is_alive);
                    environments.found.extend(stat.map(|stat| (stat, bytes)));
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    environments.hidden.extend(Stat::of(pid).filter(Stat::is_alive));
                }
                // It has ended meanwhile.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(environments)
    }
}

fn holds(environment: &[u8], beginning: &[u8]) -> bool {
    environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(beginning))
}

/// The value of `name` in an environment as the kernel shows it.
pub fn value<'e>(environment: &'e [u8], name: &str) -> Option<&'e str> {
    let entry = |entry: &'e [u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    environment.split(|byte| *byte == 0).find_map(entry).and_then(|value| std::str::from_utf8(value).ok())
}

/// What the process is called.
pub fn name(pid: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().escape_default().to_string()
}

fn pids() -> Vec<u32> {
    listed().unwrap_or_default()
}

fn listed() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn boot() -> Boot {
        Boot::read(Path::new(Boot::FILE)).unwrap()
    }

    fn sleeper(mark: &str) -> Child {
        Command::new("sleep").arg("600").env("DROVER_RUN", mark).spawn().unwrap()
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_over() {
        let tail = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2";
        let stat = Stat::parse(&format!("42 (a) b (c) {tail}")).unwrap();
        assert_eq!(stat, Stat { pid: 42, parent: 7, state: 'S', start: 9876, ticks: 5 + 6 + 7 + 8 });
        assert_eq!(Stat::parse("42 (a"), None);
    }

    #[test]
    fn a_process_of_the_same_pid_but_another_start_or_boot_is_not_touched() {
        let mut child = sleeper("x");
        let id = ProcessId::of(child.id(), &boot()).unwrap();
        assert!(id.look(&boot()).is_present());
        let later = ProcessId { start: id.start + 1, ..id.clone() };
        let elsewhere = ProcessId { boot: "another".into(), ..id.clone() };
        let boot = boot();
        for other in [later, elsewhere] {
            assert!(other.look(&boot).is_absent());
            assert!(other.signal(&boot, Signal::KILL).is_absent());
        }
        assert!(child.try_wait().unwrap().is_none());
        assert!(id.signal(&boot, Signal::KILL).is_present());
        child.wait().unwrap();
        assert!(id.look(&boot).is_absent());
    }

    #[test]
    fn the_boot_is_what_the_file_says_and_a_missing_file_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("boot_id");
        assert_eq!(Boot::read(&file).unwrap(), Boot::from(""));
        fs::write(&file, "one\n").unwrap();
        assert_eq!(Boot::read(&file).unwrap(), Boot::from("one"));
        assert!(Boot::read(dir.path()).is_err(), "what cannot be read is not another boot");
    }

    #[test]
    fn one_that_ended_and_was_not_waited_for_is_gone() {
        let mut child = sleeper("x");
        let id = ProcessId::of(child.id(), &boot()).unwrap();
        child.kill().unwrap();
        while id.look(&boot()).is_present() {
            std::thread::yield_now();
        }
        assert_eq!(Stat::of(child.id()).map(|stat| stat.is_alive()), Some(false));
        child.wait().unwrap();
    }

    #[test]
    fn descendants_and_marked_processes_are_found() {
        let mark = format!("run_test{}", std::process::id());
        let mut child = sleeper(&mark);
        // The new process bears the mark once it is the program.
        while marked(&format!("DROVER_RUN={mark}")).is_empty() {
            std::thread::yield_now();
        }
        assert!(descendants(std::process::id()).iter().any(|found| found.pid == child.id()));
        assert_eq!(marked(&format!("DROVER_RUN={mark}"))[0].pid, child.id());
        assert!(marked(&format!("DROVER_RUN={mark}x")).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
