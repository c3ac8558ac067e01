//! How hard the machine is pressed: load, pressure stalls, memory, disk and inodes. Read anew for each heartbeat; what
//! the kernel does not tell is left out, never guessed.

use std::fs;
use std::path::Path;

/// One reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    pub cpus: u32,
    /// Average number of runnable tasks over a minute.
    pub load: Option<f64>,
    pub memory: Option<Room>,
    /// Of the file system that holds the workspaces.
    pub disk: Option<Room>,
    pub inodes: Option<Room>,
    /// Share of the last ten seconds in which some task waited, in percent.
    pub cpu_stall: Option<f64>,
    pub memory_stall: Option<f64>,
    pub io_stall: Option<f64>,
}

/// How much there is of something, and how much of it is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub total: u64,
    pub free: u64,
}

/// Reads everything; `workspaces` is a directory on the file system that matters.
pub fn read(workspaces: &Path) -> Reading {
    let stall = |what: &str| text(&format!("/proc/pressure/{what}")).and_then(|text| some_stall(&text));
    let disk = rustix::fs::statvfs(workspaces).ok();
    Reading {
        cpus: cpus(),
        load: text("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
        memory: text("/proc/meminfo").and_then(|text| memory(&text)),
        disk: disk.as_ref().map(|disk| Room {
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
        }),
        inodes: disk
            .filter(|disk| disk.f_files > 0)
            .map(|disk| Room { total: disk.f_files, free: disk.f_favail }),
        cpu_stall: stall("cpu"),
        memory_stall: stall("memory"),
        io_stall: stall("io"),
    }
}

/// How many processors the agent may use.
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn memory(meminfo: &str) -> Option<Room> {
    let bytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    Some(Room { total: bytes("MemTotal")?, free: bytes("MemAvailable")? })
}

fn some_stall(pressure: &str) -> Option<f64> {
    let line = pressure.lines().find(|line| line.starts_with("some "))?;
    line.split(' ').find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let meminfo = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n";
        assert_eq!(memory(meminfo), Some(Room { total: 1_024_000, free: 409_600 }));
        assert_eq!(memory("MemTotal: 5 kB\n"), None);
        let pressure = "some avg10=1.25 avg60=0.00 avg300=0.00 total=1\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(some_stall(pressure), Some(1.25));
        assert_eq!(some_stall("nonsense"), None);
    }

    #[test]
    fn this_machine_has_memory_and_disk() {
        let reading = read(Path::new("/"));
        assert!(reading.cpus > 0);
        assert!(reading.memory.is_some_and(|memory| memory.total > memory.free));
        assert!(reading.disk.is_some_and(|disk| disk.total > 0));
    }
}
