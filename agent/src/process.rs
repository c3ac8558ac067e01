//! Processes as the kernel shows them. A pid is believed only with its start time and the boot it belongs to, and
//! signalled only through a descriptor that was opened before both were compared: one that was given to another process
//! meanwhile is never hit.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;

use drover_domain::presence::Presence;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process, in all of this machine's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The boot of the machine.
    pub boot: Box<str>,
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
}

/// This boot of the machine.
pub fn boot() -> Box<str> {
    crate::facts::boot().into()
}

impl ProcessId {
    /// The process that has this pid now. `None`: there is none.
    pub fn of(pid: u32, boot: &str) -> Option<Self> {
        Stat::of(pid).map(|stat| Self { boot: boot.into(), pid, start: stat.start })
    }

    /// Whether it is alive.
    pub fn look(&self) -> Presence<()> {
        self.open().map(drop)
    }

    /// Signals it. `Absent`: it is gone, and nobody was signalled.
    pub fn signal(&self, signal: Signal) -> Presence<()> {
        match self.open() {
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
    fn open(&self) -> Presence<OwnedFd> {
        if *self.boot != *boot() {
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

    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    pub fn id(&self, boot: &str) -> ProcessId {
        ProcessId { boot: boot.into(), pid: self.pid, start: self.start }
    }

    /// The program's name stands in brackets and may hold brackets and spaces itself.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = (text.find(" (")?, text.rfind(')')?);
        let mut rest = text.get(after + 1..)?.split_ascii_whitespace();
        Some(Self {
            pid: text.get(..before)?.parse().ok()?,
            state: rest.next()?.chars().next()?,
            parent: rest.next()?.parse().ok()?,
            start: rest.nth(17)?.parse().ok()?,
        })
    }
}

/// Every process that can be seen.
pub fn all() -> Vec<Stat> {
    pids().into_iter().filter_map(Stat::of).collect()
}

/// Every living process that descends from `root`, without it.
pub fn descendants(root: u32) -> Vec<Stat> {
    let mut children: HashMap<u32, Vec<Stat>> = HashMap::new();
    for stat in all() {
        children.entry(stat.parent).or_default().push(stat);
    }
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            open.push(child.pid);
            if child.is_alive() {
                found.push(child);
            }
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

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper(mark: &str) -> Child {
        Command::new("sleep").arg("600").env("DROVER_RUN", mark).spawn().unwrap()
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_over() {
        let tail = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2";
        let stat = Stat::parse(&format!("42 (a) b (c) {tail}")).unwrap();
        assert_eq!(stat, Stat { pid: 42, parent: 7, state: 'S', start: 9876 });
        assert_eq!(Stat::parse("42 (a"), None);
    }

    #[test]
    fn a_process_of_the_same_pid_but_another_start_or_boot_is_not_touched() {
        let mut child = sleeper("x");
        let id = ProcessId::of(child.id(), &boot()).unwrap();
        assert!(id.look().is_present());
        let later = ProcessId { start: id.start + 1, ..id.clone() };
        let elsewhere = ProcessId { boot: "another".into(), ..id.clone() };
        for other in [later, elsewhere] {
            assert!(other.look().is_absent());
            assert!(other.signal(Signal::KILL).is_absent());
        }
        assert!(child.try_wait().unwrap().is_none());
        assert!(id.signal(Signal::KILL).is_present());
        child.wait().unwrap();
        assert!(id.look().is_absent());
    }

    #[test]
    fn one_that_ended_and_was_not_waited_for_is_gone() {
        let mut child = sleeper("x");
        let id = ProcessId::of(child.id(), &boot()).unwrap();
        child.kill().unwrap();
        while id.look().is_present() {
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
