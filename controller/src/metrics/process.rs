//! What this process uses, by the names that Prometheus' own clients give it. What the kernel does not tell is left out.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::text::Text;

pub(super) fn write(text: &mut Text) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    text.counter("process_cpu_seconds_total", "Processor time used.", seconds);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let in_status = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let sized = [
        ("process_resident_memory_bytes", "Memory in use.", in_status("VmRSS").map(|kib| kib * 1024)),
        ("process_virtual_memory_bytes", "Address space in use.", in_status("VmSize").map(|kib| kib * 1024)),
        ("process_threads", "Threads.", in_status("Threads")),
        ("process_open_fds", "Files and connections that are open.", open_files()),
        ("process_max_fds", "Files and connections that may be open.", getrlimit(Resource::Nofile).current),
    ];
    for (name, help, value) in sized {
        if let Some(value) = value {
            text.gauge(name, help, value);
        }
    }
}

fn open_files() -> Option<u64> {
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}
