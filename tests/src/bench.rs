//! How fast Drover is, against bare ways to the same end on the same machine in the same minutes. A file per story; each
//! gives lines of the table. Figures of this machine are shown and never judged.
//!
//! Everything lives below one temporary directory, and every process that was started from there is ended with it.

pub mod bare;
mod controller;
mod creation;
mod fill;
mod load;
mod measure;
mod memory;
mod mutations;
mod oneshot;
mod reads;
mod restart;
mod runs;
mod table;
mod watchers;
mod worktree;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Result;
use futures::FutureExt;

use measure::Measured;
pub use runs::{SpawnArgs, spawns};
use table::{Bound, Goal, Row};

/// How large everything is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Files of the large repository.
    files: usize,
    /// Files of the worktrees that are removed.
    removed: usize,
    /// Rows of a large registry, and how many sessions of them are live: the registry takes 200,000 of those.
    rows: u64,
    live: u64,
    /// Sessions of the registry that is killed.
    killed: u64,
    /// How long a rate is measured.
    window: Duration,
    watchers: usize,
}

impl Scale {
    /// Minutes in all.
    pub const QUICK: Self = Self {
        files: 20_000,
        removed: 2_000,
        rows: 100_000,
        live: 100_000,
        killed: 20_000,
        window: Duration::from_secs(1),
        watchers: 1_000,
    };
    /// As the goals say it; maybe an hour.
    pub const ALL: Self = Self {
        files: 50_000,
        removed: 50_000,
        rows: 1_000_000,
        live: 190_000,
        killed: 100_000,
        window: Duration::from_secs(4),
        watchers: 1_000,
    };
}

/// What can be asked for by name.
pub const GOALS: [&str; 9] = ["G1", "G3", "G4", "G5", "G7", "G8", "G10", "G14", "G15"];

const MISSING: [(&str, &str); 8] = [
    ("G2", "layered workspaces are not built"),
    ("G6", "simulated agents are not built"),
    ("G9", "simulated agents are not built"),
    ("G11", "simulated agents are not built"),
    ("G12", "following logs at full speed is not measured"),
    ("G13", "containers are not built"),
    ("G14", "a rate of spawns inside a real agent: runs are started through its library instead"),
    ("G15", "the round of the inventory is not built"),
];

/// Measures these goals (all, if none is named) and gives the table.
pub async fn run(scale: Scale, wanted: &[String]) -> String {
    let is_wanted =
        |id: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(id));
    let mut rows = Vec::new();
    if is_wanted("G1") || is_wanted("G14") {
        rows.extend(story("G1", worktree::rows(&scale, is_wanted("G1"), is_wanted("G14"))).await);
    }
    if is_wanted("G3") {
        rows.extend(story("G3", creation::rows(&scale)).await);
    }
    if is_wanted("G4") {
        rows.extend(story("G4", mutations::rows(&scale)).await);
    }
    if is_wanted("G5") {
        rows.extend(story("G5", reads::rows(&scale)).await);
    }
    if is_wanted("G7") {
        rows.extend(story("G7", memory::rows(&scale)).await);
    }
    if is_wanted("G8") {
        rows.extend(story("G8", watchers::rows(&scale)).await);
    }
    if is_wanted("G10") {
        rows.extend(story("G10", restart::rows(&scale)).await);
    }
    if is_wanted("G14") {
        rows.extend(story("G14", runs::ending()).await);
        rows.extend(story("G14", oneshot::rows()).await);
    }
    if is_wanted("G15") {
        rows.extend(story("G15", runs::idle()).await);
    }
    table::render(&rows, &MISSING)
}

/// All lines of one story; one that says why, if it cannot even begin.
async fn story(id: &'static str, lines: impl Future<Output = Result<Vec<Row>>>) -> Vec<Row> {
    match caught(lines).await {
        Ok(rows) => rows,
        Err(why) => {
            vec![Row { goal: Goal::new(id, "what it is measured on", Bound::Shown), found: Err(why) }]
        }
    }
}

/// One line, whatever becomes of it.
async fn line(goal: Goal, measuring: impl Future<Output = Result<Measured>>) -> Row {
    tracing::info!("{}: {}", goal.id, goal.measure);
    let found = caught(measuring).await;
    let row = Row { goal, found };
    tracing::info!("{}", table::render(std::slice::from_ref(&row), &[]).trim_end());
    row
}

/// The harness panics where a test would fail; here that is a line without a number.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T, String> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned())
        }
    }
}

/// A number that looks like chance and is always the same.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Ends every process that works below this directory or was started with a path in it. Only this program's own are
/// there: the directory is its own.
pub fn end_processes_below(directory: &std::path::Path) {
    use rustix::process::{Pid, Signal, kill_process};
    let own = std::process::id();
    let text = directory.display().to_string();
    for _ in 0..100 {
        let here = drover_agent::process::all().into_iter().filter(|stat| {
            let proc = format!("/proc/{}", stat.pid);
            let works_here =
                std::fs::read_link(format!("{proc}/cwd")).is_ok_and(|path| path.starts_with(directory));
            let words = std::fs::read(format!("{proc}/cmdline")).unwrap_or_default();
            stat.pid != own
                && stat.is_alive()
                && (works_here || String::from_utf8_lossy(&words).contains(&text))
        });
        let pids: Vec<_> =
            here.filter_map(|stat| Pid::from_raw(i32::try_from(stat.pid).unwrap_or(0))).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Removes the control groups of the agents that kept their sockets below this directory. Their processes have ended.
pub fn remove_groups_of(directory: &std::path::Path) {
    let listing = |path: &std::path::Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let Some(home) = drover_agent::cgroup::home() else { return };
    for installation in listing(directory) {
        for node in listing(&installation.path().join("run")) {
            remove_group(&home.join("drover").join(node.file_name()));
        }
    }
}

/// A group is a directory whose files come and go with it.
fn remove_group(group: &std::path::Path) {
    for item in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&item.path());
        }
    }
    // One that still holds a process stays.
    let _ = std::fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_fails_says_why_and_the_others_go_on() {
        let goal = || Goal::new("G1", "a thing", Bound::AtMost(1.0));
        let failed = line(goal(), async { anyhow::bail!("no git here") }).await;
        assert_eq!(failed.found.unwrap_err(), "no git here");
        let panicked = line(goal(), async { panic!("it did not come to this") }).await;
        assert_eq!(panicked.found.unwrap_err(), "it did not come to this");
    }

    #[test]
    fn processes_below_a_directory_are_ended_and_others_are_not() {
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sleep = |directory: &tempfile::TempDir| {
            std::process::Command::new("sleep").arg("100").current_dir(directory.path()).spawn().unwrap()
        };
        let (mut ended, mut spared) = (sleep(&here), sleep(&elsewhere));
        end_processes_below(here.path());
        assert!(!ended.wait().unwrap().success());
        assert!(spared.try_wait().unwrap().is_none());
        spared.kill().unwrap();
        spared.wait().unwrap();
    }
}
