//! Lock files that a killed git of ours left. One is moved aside only if the crashed holder of the repository's lock
//! announced it by name, it is not older than that holder, and no git that works on this repository is alive.
//! What cannot be judged stays where it is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::lock::Record;

/// Where they go, below the common directory.
const ASIDE: &str = "drover-aside";
/// File stamps and the clock may differ by a tick.
const SLACK_MILLIS: i64 = 1_000;

/// Moves aside what `died` left, and returns what is still there (by name), because it could not be judged.
pub(super) fn sweep(common: &Path, died: &Record, now_millis: i64) -> Vec<String> {
    let left: Vec<&String> =
        died.locks.iter().filter(|name| is_left(common, name, died.since_millis)).collect();
    if left.is_empty() {
        return vec![];
    }
    let worker = works_here(common);
    if let Some(process) = &worker {
        let (repository, process) = (common.display(), process.display());
        tracing::info!(%repository, %process, ?left, "locks of a killed git stay: a git that works here is alive");
    }
    let is_used = worker.is_some();
    left.into_iter()
        .filter(|name| is_used || move_aside(common, name, now_millis).is_err())
        .cloned()
        .collect()
}

fn is_left(common: &Path, name: &str, since_millis: i64) -> bool {
    let plain =
        name.ends_with(".lock") && !name.starts_with('/') && !name.split('/').any(|part| part == "..");
    let Ok(found) = fs::symlink_metadata(common.join(name)) else { return false };
    let changed = found.mtime() * 1000 + found.mtime_nsec() / 1_000_000;
    plain && found.is_file() && changed + SLACK_MILLIS >= since_millis
}

fn move_aside(common: &Path, name: &str, now_millis: i64) -> io::Result<()> {
    let aside = common.join(ASIDE);
    fs::create_dir_all(&aside)?;
    fs::rename(common.join(name), aside.join(format!("{now_millis}-{}", name.replace('/', "%"))))?;
    tracing::warn!(repository = %common.display(), lock = name, "moved a lock aside that a killed git of ours left");
    Ok(())
}

/// A living git that may be working on this repository. What cannot be looked at counts as one, if it is a git.
fn works_here(common: &Path) -> Option<PathBuf> {
    let Ok(processes) = fs::read_dir("/proc") else { return Some("/proc".into()) };
    let home = if common.ends_with(".git") { common.parent().unwrap_or(common) } else { common };
    let mut processes = processes.flatten().map(|process| process.path());
    processes.find(|process| is_git(process) && touches(process, common, home))
}

fn is_git(process: &Path) -> bool {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let is_dead = || fs::read_to_string(process.join("stat")).is_ok_and(|stat| stat.contains(") Z "));
    name.starts_with("git") && !is_dead()
}

fn touches(process: &Path, common: &Path, home: &Path) -> bool {
    let Ok(words) = fs::read(process.join("cmdline")) else { return process.exists() };
    if words.is_empty() {
        // It is only starting, and has no lock yet, or was killed: its memory is gone, soon its name is.
        return false;
    }
    let Ok(cwd) = fs::read_link(process.join("cwd")) else { return process.exists() };
    let named = common.as_os_str().as_encoded_bytes();
    cwd.starts_with(home)
        || words.windows(named.len()).any(|part| part == named)
        || worktree_paths(common).iter().any(|path| cwd.starts_with(path))
}

fn worktree_paths(common: &Path) -> Vec<PathBuf> {
    let entries = super::worktrees::entries(common).unwrap_or_default();
    entries.into_iter().filter_map(|entry| entry.path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(locks: &[&str], since_millis: i64) -> Record {
        Record {
            since_millis,
            holder: "x".into(),
            locks: locks.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn only_what_the_dead_holder_announced_and_may_have_made_goes_aside() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["packed-refs.lock", "config.lock", "HEAD"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let died = record(&["packed-refs.lock", "HEAD", "../x.lock", "absent.lock"], 1_000);
        assert_eq!(sweep(dir.path(), &died, 7), Vec::<String>::new());
        assert!(!dir.path().join("packed-refs.lock").exists());
        assert_eq!(fs::read(dir.path().join(ASIDE).join("7-packed-refs.lock")).unwrap(), b"packed-refs.lock");
        assert!(dir.path().join("config.lock").exists() && dir.path().join("HEAD").exists());
        sweep(dir.path(), &record(&["config.lock"], i64::MAX / 2), 8);
        assert!(dir.path().join("config.lock").exists(), "it is older than the holder");
    }

    #[test]
    fn a_living_git_in_the_repository_keeps_every_lock() {
        let dir = tempfile::tempdir().unwrap();
        let common = dir.path().canonicalize().unwrap();
        fs::write(common.join("packed-refs.lock"), "").unwrap();
        let mut git = std::process::Command::new("git")
            .args(["hash-object", "--stdin"])
            .current_dir(&common)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The child is git, and looks like one, only some time after it was started.
        while works_here(&common).is_none() {
            std::thread::yield_now();
        }
        let died = record(&["packed-refs.lock"], 0);
        assert_eq!(sweep(&common, &died, 1), ["packed-refs.lock"]);
        git.kill().unwrap();
        git.wait().unwrap();
        assert_eq!(sweep(&common, &died, 2), Vec::<String>::new());
        assert!(!common.join("packed-refs.lock").exists());
    }
}
