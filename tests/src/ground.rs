//! A directory that agents live in for one test. With it ends everything that was started from it, however the test
//! went: found by the directory's own path, which nobody else has in arguments or environment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_agent::cgroup;
use drover_agent::identity::Identity;
use rustix::process::{Pid, Signal, kill_process};

/// Must outlive the programs that run in it: declare it after them.
#[derive(Debug)]
pub struct Ground {
    directory: tempfile::TempDir,
}

impl Default for Ground {
    fn default() -> Self {
        Self::from(tempfile::tempdir().unwrap())
    }
}

impl From<tempfile::TempDir> for Ground {
    fn from(directory: tempfile::TempDir) -> Self {
        // Sessions of other users pass through to what is theirs.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self { directory }
    }
}

impl Ground {
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Every living process that was started from here, but for this one.
    pub fn processes(&self) -> Vec<u32> {
        processes_naming(self.path())
    }

    /// The control groups of the agents that live here; those that are there.
    pub fn control_groups(&self) -> Vec<PathBuf> {
        let Some(home) = cgroup::home() else { return vec![] };
        let nodes = self.agents().into_iter();
        nodes.map(|node| home.join("drover").join(node)).filter(|group| group.is_dir()).collect()
    }

    /// The short ids of the agents that joined from here.
    fn agents(&self) -> Vec<String> {
        let states = below(self.path(), 3).into_iter();
        let known = states.filter_map(|state| Identity::load(&state).ok().flatten());
        known.map(|identity| identity.node.short().to_string()).collect()
    }

    fn end_processes(&self) {
        // Who is being started just now is seen at the next look.
        for _ in 0..400 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.end_processes();
        for group in self.control_groups() {
            // Who was killed is in it for another moment.
            let _ = (0..400).any(|_| {
                remove_groups(&group);
                std::thread::sleep(Duration::from_millis(5 * u64::from(group.is_dir())));
                !group.is_dir()
            });
        }
        for node in self.agents() {
            // The usual place, for an agent that was given no other; only what is empty goes.
            let usual = Path::new("/run/drover").join(node);
            for desk in below(&usual, 1) {
                let _ = fs::remove_dir_all(desk);
            }
            for socket in fs::read_dir(&usual).into_iter().flatten().flatten() {
                let _ = fs::remove_file(socket.path());
            }
            let _ = fs::remove_dir(&usual);
        }
    }
}

/// Every living process, but for this one, that has the path in its arguments or environment.
pub fn processes_naming(path: &Path) -> Vec<u32> {
    let own = std::process::id();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own && names(*pid, path)).collect()
}

fn names(pid: u32, path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    let is_in = |file: &str| {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.windows(path.len()).any(|window| window == path)
    };
    is_in("cmdline") || is_in("environ")
}

/// The directories down to this depth.
fn below(path: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    if depth > 1 {
        let deeper: Vec<_> = found.iter().flat_map(|folder| below(folder, depth - 1)).collect();
        found.extend(deeper);
    }
    found
}

fn remove_groups(group: &Path) {
    for inner in below(group, 1) {
        remove_groups(&inner);
    }
    // One with a process in it cannot go yet.
    let _ = fs::remove_dir(group);
}
