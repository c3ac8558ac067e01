//! Control groups of the second version, as far as a run needs them: one for the supervisor and in it a leaf with the
//! program and everything that comes of it, so that the kernel ends the tree at once, whoever is left to ask for it.
//! No controllers are needed; what they measure is read if they are there. Everything works without control groups.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_domain::outcome::Usage;

use crate::sys::{self, Fork};

const LEAF: &str = "tree";

/// A run's control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

/// Where this process may make control groups: its own, in the second version's tree.
pub fn home() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    home_of(&mounts, &own)
}

fn home_of(mounts: &str, own: &str) -> Option<PathBuf> {
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4))?
    })?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A group outside of what is mounted here is shown by a way up.
    (!own.split('/').any(|part| part == "..")).then(|| Path::new(mount).join(own))
}

impl Cgroup {
    /// The one at this path, whether it is there or not.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it and its leaf.
    pub fn create(path: &Path) -> io::Result<Self> {
        let group = Self::at(path);
        fs::create_dir_all(group.leaf())?;
        Ok(group)
    }

    /// Doubles this process, which has one thread: the new one is in the group itself, as its supervisor.
    pub(crate) fn split_supervisor(&self) -> io::Result<Fork> {
        split_into(&self.path)
    }

    /// Doubles this process, which has one thread: the new one is in the leaf.
    pub(crate) fn split_command(&self) -> io::Result<Fork> {
        split_into(&self.leaf())
    }

    /// Ends every process in the leaf.
    pub fn kill(&self) -> io::Result<()> {
        match OpenOptions::new().write(true).open(self.leaf().join("cgroup.kill")) {
            Ok(mut file) => file.write_all(b"1"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The processes in the leaf and below it.
    pub fn pids(&self) -> Vec<u32> {
        let mut found = Vec::new();
        each_below(&self.leaf(), &mut |group| {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        });
        found
    }

    /// Whether a process is in the leaf or below it; one that ended and was not waited for does not count.
    pub fn is_populated(&self) -> bool {
        fs::read_to_string(self.leaf().join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"))
    }

    /// What the leaf used of processors; every kernel counts that, whatever controllers there are.
    pub fn cpu_time(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.leaf().join("cpu.stat")).ok()?;
        let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        micros.map(Duration::from_micros)
    }

    /// What the leaf used.
    pub fn usage(&self) -> Usage {
        let read = |name: &str| fs::read_to_string(self.leaf().join(name)).ok();
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        Usage {
            peak_memory_bytes: number("memory.peak"),
            cpu_time: self.cpu_time(),
            peak_processes: number("pids.peak").and_then(|peak| u32::try_from(peak).ok()),
        }
    }

    /// Removes it, if nothing is in it.
    pub fn remove(&self) -> io::Result<()> {
        remove_below(&self.path)
    }

    /// Removes the leaf, if nothing is in it.
    pub fn remove_leaf(&self) -> io::Result<()> {
        remove_below(&self.leaf())
    }

    fn leaf(&self) -> PathBuf {
        self.path.join(LEAF)
    }
}

/// Without the group, where there cannot be one: then the tree is found by descent and by its mark.
fn split_into(path: &Path) -> io::Result<Fork> {
    let born_there = File::open(path).and_then(|directory| sys::split_into(directory.as_fd()));
    born_there.or_else(|_| {
        let fork = sys::split()?;
        if fork == Fork::Child {
            // A kernel that knows no other way.
            let _ = fs::write(path.join("cgroup.procs"), "0");
        }
        Ok(fork)
    })
}

/// Each group from `path` down, parents first.
fn each_below(path: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(path) else { return };
    visit(path);
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            each_below(&entry.path(), visit);
        }
    }
}

fn remove_below(path: &Path) -> io::Result<()> {
    let mut groups = Vec::new();
    each_below(path, &mut |group| groups.push(group.to_owned()));
    groups.iter().rev().try_for_each(fs::remove_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_the_mount() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let home = |own| home_of(mounts, own);
        assert_eq!(home("4:memory:/x\n0::/\n"), Some("/sys/fs/cgroup/unified/".into()));
        assert_eq!(home("0::/a.slice/b\n"), Some("/sys/fs/cgroup/unified/a.slice/b".into()));
        assert_eq!(home("0::/../../x\n"), None);
        assert_eq!(home("4:memory:/x\n"), None);
        assert_eq!(home_of("31 23 0:28 / /sys rw - sysfs sysfs rw\n", "0::/\n"), None);
    }
}
