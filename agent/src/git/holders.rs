//! Who holds a file, or works in a repository, as far as `/proc` shows it to this process. A process is named by its
//! number and by what it is; its arguments are not repeated, because they may hold secrets. Decides nothing.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::process::Stat;

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(super) fn of(found: &Metadata) -> Self {
        Self { device: found.dev(), number: found.ino() }
    }

    /// Every process that has it open.
    pub(super) fn openers(self) -> Vec<u32> {
        processes().filter(|pid| self.descriptors(*pid).next().is_some()).collect()
    }

    /// Every process with a descriptor that holds a kernel lock on it.
    fn lockers(self) -> Vec<u32> {
        let locks = |descriptor: &PathBuf| {
            let info = descriptor.to_string_lossy().replace("/fd/", "/fdinfo/");
            fs::read_to_string(info).is_ok_and(|info| info.lines().any(|line| line.starts_with("lock:")))
        };
        processes().filter(|pid| self.descriptors(*pid).any(|descriptor| locks(&descriptor))).collect()
    }

    fn descriptors(self, pid: u32) -> impl Iterator<Item = PathBuf> {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        all.map(|entry| entry.path())
            .filter(move |path| fs::metadata(path).is_ok_and(|found| Self::of(&found) == self))
    }
}

/// Who has a lock file of git's: whoever has it open, else the gits that work where it lies. git closes some of its
/// locks while it still holds them.
pub(super) fn of_git_lock(path: &Path) -> Option<String> {
    let found = fs::symlink_metadata(path).ok()?;
    let openers = Inode::of(&found).openers();
    if !openers.is_empty() {
        return Some(named(&openers));
    }
    let common = common_above(path)?;
    let workers = gits_in(common);
    (!workers.is_empty()).then(|| format!("maybe {}, which works there", named(&workers)))
}

/// The same of several, of which each process is looked at once.
pub(super) fn of_git_locks(paths: &[PathBuf]) -> Vec<Option<String>> {
    if paths.is_empty() {
        return Vec::new();
    }
    let inodes: Vec<Option<Inode>> =
        paths.iter().map(|path| fs::symlink_metadata(path).ok().map(|found| Inode::of(&found))).collect();
    let wanted: HashSet<Inode> = inodes.iter().flatten().copied().collect();
    let mut openers: HashMap<Inode, Vec<u32>> = HashMap::new();
    for pid in processes() {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let open = all.filter_map(|entry| fs::metadata(entry.path()).ok().map(|found| Inode::of(&found)));
        for inode in open.filter(|inode| wanted.contains(inode)).collect::<HashSet<_>>() {
            openers.entry(inode).or_default().push(pid);
        }
    }
    let mut workers: HashMap<&Path, Vec<u32>> = HashMap::new();
    let mut holder = |path, inode: Option<Inode>| {
        if let Some(openers) = inode.and_then(|inode| openers.get(&inode)) {
            return Some(named(openers));
        }
        let common = common_above(path)?;
        let workers = workers.entry(common).or_insert_with(|| gits_in(common));
        (!workers.is_empty()).then(|| format!("maybe {}, which works there", named(workers)))
    };
    paths.iter().zip(inodes).map(|(path, inode)| holder(path.as_path(), inode)).collect()
}

fn common_above(path: &Path) -> Option<&Path> {
    path.ancestors().find(|above| above.join("objects").is_dir())
}

/// Who holds the kernel's lock on a file or directory.
pub(super) fn of_kernel_lock(path: &Path) -> Option<String> {
    let lockers = Inode::of(&fs::metadata(path).ok()?).lockers();
    (!lockers.is_empty()).then(|| named(&lockers))
}

pub(super) fn is_alive(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.is_alive())
}

/// Living gits that may be working on this repository. What cannot be looked at counts as one, if it is a git.
pub(super) fn gits_in(common: &Path) -> Vec<u32> {
    let home = if common.ends_with(".git") { common.parent().unwrap_or(common) } else { common };
    processes().filter(|pid| is_git(*pid) && touches(*pid, common, home)).collect()
}

/// As a person can find them: `process 12 (git commit), process 14 (sh)`.
fn named(pids: &[u32]) -> String {
    const MOST: usize = 3;
    let mut names: Vec<String> = pids.iter().take(MOST).map(|pid| name(*pid)).collect();
    if pids.len() > MOST {
        names.push(format!("{} more", pids.len() - MOST));
    }
    names.join(", ")
}

fn name(pid: u32) -> String {
    let of = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let program = String::from_utf8_lossy(&of("comm")).trim_end().escape_default().to_string();
    // Of git it is the command that tells most; nothing but letters is taken for one.
    let line = of("cmdline");
    let is_word = |word: &&[u8]| word.len() > 1 && word.iter().all(|c| c.is_ascii_lowercase() || *c == b'-');
    let word = line.split(|byte| *byte == 0).skip(1).find(|word| is_word(word) && !word.starts_with(b"-"));
    match word.filter(|_| program == "git") {
        Some(word) => format!("process {pid} (git {})", String::from_utf8_lossy(word)),
        None => format!("process {pid} ({program})"),
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_git(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.starts_with("git") && is_alive(pid)
}

fn touches(pid: u32, common: &Path, home: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    // Of one that is just ending there is nothing to read any more.
    let is_hidden = |error: &Error| error.kind() == ErrorKind::PermissionDenied;
    let words = match fs::read(process.join("cmdline")) {
        Ok(words) => words,
        Err(error) => return is_hidden(&error),
    };
    if words.is_empty() {
        // It is only starting, and has no lock yet, or was killed: its memory is gone, soon its name is.
        return false;
    }
    let cwd = match fs::read_link(process.join("cwd")) {
        Ok(cwd) => cwd,
        Err(error) => return is_hidden(&error),
    };
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
    use std::process::{Command, Stdio};

    #[test]
    fn who_has_a_lock_open_or_works_beside_it_is_named_by_number_and_command() {
        let dir = tempfile::tempdir().unwrap();
        let common = dir.path().canonicalize().unwrap();
        fs::create_dir(common.join("objects")).unwrap();
        let path = common.join("packed-refs.lock");
        assert_eq!(of_git_lock(&path), None);
        let file = fs::File::create(&path).unwrap();
        let mut holder = Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap();
        assert_eq!(of_git_lock(&path), Some(format!("process {} (sleep)", holder.id())));
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(of_git_lock(&path), None);

        let mut git = Command::new("git");
        git.args(["-c", "user.name=secret", "hash-object", "--stdin"]).current_dir(&common);
        let mut git = git.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // The child is git, and looks like one, only some time after it was started.
        while gits_in(&common).is_empty() {
            std::thread::yield_now();
        }
        let expected = format!("maybe process {} (git hash-object), which works there", git.id());
        assert_eq!(of_git_lock(&path), Some(expected));
        git.kill().unwrap();
        git.wait().unwrap();
    }
}
