//! Lock files that a killed git of ours left. One is moved aside only if the crashed holder of the repository's lock
//! announced it, it is not older than that holder and not young, nobody has it open, no git that works on this
//! repository is alive, and it is still the same file when it is moved. What cannot be judged stays where it is.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::holders::{Inode, gits_in};
use super::lock::Record;

/// Where they go, below the common directory.
const ASIDE: &str = "drover-aside";
/// File stamps and the clock may differ by a tick.
const SLACK_MILLIS: i64 = 1_000;
/// Whoever works with a lock is done with it sooner, or is seen.
const YOUNG_MILLIS: i64 = 500;
/// How deep below a directory that was announced as a whole.
const DEEPEST: usize = 32;

/// What is still there, because it could not be judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub names: Vec<String>,
    /// Nothing but their age speaks for some of them.
    pub is_young: bool,
    /// A git is alive here. One that was killed may finish the call that it is in, and that may make a lock.
    pub is_busy: bool,
}

/// A lock file as it was when it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    inode: Inode,
    changed: (i64, i64),
}

impl Seen {
    /// `None`: there is no plain file.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self { inode: Inode::of(&found), changed: (found.mtime(), found.mtime_nsec()) })
    }

    fn changed_millis(self) -> i64 {
        self.changed.0 * 1000 + self.changed.1 / 1_000_000
    }
}

/// Moves aside what `died` left. An announced name that ends with a slash stands for every lock below that directory.
pub(super) fn sweep(common: &Path, died: &Record, now_millis: i64) -> Left {
    // First: what a git that ends meanwhile has made is then seen.
    let workers = gits_in(common);
    let mut unjudged = Left { is_busy: !workers.is_empty(), ..Left::default() };
    let names = died.locks.iter().filter(|name| is_below(name)).flat_map(|name| locks(common, name));
    let left: Vec<(String, Seen)> = names
        .filter_map(|name| Some((Seen::of(&common.join(&name))?, name)))
        .filter(|(seen, _)| seen.changed_millis() + SLACK_MILLIS >= died.since_millis)
        .map(|(seen, name)| (name, seen))
        .collect();
    if left.is_empty() {
        tidy(common, died);
        return unjudged;
    }
    for (name, seen) in left {
        let openers = seen.inode.openers();
        let is_young = now_millis - seen.changed_millis() < YOUNG_MILLIS;
        if !workers.is_empty() || !openers.is_empty() {
            let repository = common.display();
            tracing::info!(%repository, lock = name, ?workers, ?openers, "a lock stays: somebody may be using it");
        } else if !is_young && move_aside(common, &name, seen, now_millis) {
            continue;
        }
        unjudged.is_young |= is_young && workers.is_empty() && openers.is_empty();
        unjudged.names.push(name);
    }
    if unjudged.names.is_empty() {
        tidy(common, died);
    }
    unjudged
}

/// Removes what else git makes of a reference before it is there: empty directories, which it makes again if another one
/// needs them, and the first line of its log.
fn tidy(common: &Path, died: &Record) {
    let packed = fs::read_to_string(common.join("packed-refs")).unwrap_or_default();
    for name in died.locks.iter().filter(|name| is_below(name) && name.starts_with("refs/")) {
        let Some(reference) = name.strip_suffix(".lock") else { continue };
        let is_packed = packed.lines().any(|line| line.split(' ').nth(1) == Some(reference));
        let log = Path::new("logs").join(reference);
        if !is_packed && matches!(common.join(reference).try_exists(), Ok(false)) {
            // A directory is the log of others.
            let _ = fs::remove_file(common.join(&log));
        }
        // `refs/heads` and its like stay.
        remove_empty(common, Path::new(reference), 2);
        remove_empty(common, &log, 3);
    }
}

/// Removes the directories above `path` that are empty, but for those of so many parts.
fn remove_empty(common: &Path, path: &Path, kept: usize) {
    for parent in path.ancestors().skip(1).filter(|parent| parent.components().count() > kept) {
        if fs::remove_dir(common.join(parent)).is_err_and(|error| error.kind() != ErrorKind::NotFound) {
            return;
        }
    }
}

pub(super) fn is_below(name: &str) -> bool {
    let is_lock = name.ends_with(".lock") || name.ends_with('/');
    is_lock && !name.starts_with('/') && !name.split('/').any(|part| part == "..")
}

fn locks(common: &Path, name: &str) -> Vec<String> {
    let Some(directory) = name.strip_suffix('/') else { return vec![name.to_owned()] };
    let (mut found, mut open) = (Vec::new(), vec![(directory.to_owned(), 0)]);
    while let Some((directory, depth)) = open.pop() {
        for item in fs::read_dir(common.join(&directory)).into_iter().flatten().flatten() {
            let Some(name) = item.file_name().to_str().map(|name| format!("{directory}/{name}")) else {
                continue;
            };
            if item.file_type().is_ok_and(|kind| kind.is_dir()) && depth < DEEPEST {
                open.push((name, depth + 1));
            } else if name.ends_with(".lock") && !name.contains('\n') {
                found.push(name);
            }
        }
    }
    found
}

/// Moves a lock aside that somebody named, as it is now.
pub(super) fn move_named(common: &Path, name: &str, now_millis: i64) -> io::Result<PathBuf> {
    let seen = Seen::of(&common.join(name)).ok_or(ErrorKind::NotFound)?;
    put_aside(common, name, seen, now_millis)
}

fn put_aside(common: &Path, name: &str, seen: Seen, now_millis: i64) -> io::Result<PathBuf> {
    let aside = common.join(ASIDE);
    let to = aside.join(format!("{now_millis}-{}", name.replace('/', "%")));
    fs::create_dir_all(&aside).and_then(|()| take(&common.join(name), &to, seen))?;
    Ok(to)
}

fn move_aside(common: &Path, name: &str, seen: Seen, now_millis: i64) -> bool {
    let moved = put_aside(common, name, seen, now_millis);
    let repository = common.display();
    match moved {
        Ok(_) => {
            tracing::warn!(%repository, lock = name, "moved a lock aside that a killed git of ours left");
            true
        }
        Err(error) => {
            tracing::warn!(%repository, lock = name, "a lock stays that a killed git of ours seems to have left: {error}");
            false
        }
    }
}

/// Moves the file, if it is the one that was judged, also at the moment at which it is moved.
fn take(from: &Path, to: &Path, seen: Seen) -> io::Result<()> {
    let other = || io::Error::other("it is another file than a moment ago");
    if Seen::of(from) != Some(seen) {
        return Err(other());
    }
    rename_new(from, to)?;
    verify(from, to, seen).then_some(()).ok_or_else(other)
}

/// Whether it is the judged file that has been moved. Another one is put back: it is somebody's lock.
fn verify(from: &Path, to: &Path, seen: Seen) -> bool {
    if Seen::of(to) == Some(seen) {
        return true;
    }
    if let Err(error) = rename_new(to, from) {
        let (lock, kept) = (from.display(), to.display());
        tracing::error!(%lock, %kept, "a lock of somebody else's was moved and cannot be put back: {error}");
    }
    false
}

/// Renames, and replaces nothing.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it.
        Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => fs::rename(from, to),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long after everything that a test writes.
    const LATER: i64 = i64::MAX / 4;

    fn record(locks: &[&str], since_millis: i64) -> Record {
        Record {
            since_millis,
            holder: "x".into(),
            locks: locks.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn left(names: &[&str], is_young: bool) -> Left {
        Left { names: names.iter().map(|&name| name.to_owned()).collect(), is_young, is_busy: false }
    }

    #[test]
    fn only_what_the_dead_holder_announced_and_may_have_made_goes_aside() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["packed-refs.lock", "config.lock", "HEAD"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let died = record(&["packed-refs.lock", "HEAD", "../x.lock", "absent.lock"], 1_000);
        assert_eq!(sweep(dir.path(), &died, LATER), Left::default());
        assert!(!dir.path().join("packed-refs.lock").exists());
        let aside = dir.path().join(ASIDE).join(format!("{LATER}-packed-refs.lock"));
        assert_eq!(fs::read(aside).unwrap(), b"packed-refs.lock");
        assert!(dir.path().join("config.lock").exists() && dir.path().join("HEAD").exists());
        sweep(dir.path(), &record(&["config.lock"], i64::MAX / 2), LATER);
        assert!(dir.path().join("config.lock").exists(), "it is older than the holder");
    }

    #[test]
    fn what_was_made_for_a_reference_that_is_not_there_goes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["refs/heads/drover/a", "refs/drover/base", "refs/drover/trash"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("refs/drover/trash/kept"), "").unwrap();
        for name in ["s", "there", "packed"] {
            fs::create_dir_all(dir.path().join("logs/refs/heads/drover/a")).unwrap();
            fs::write(dir.path().join("logs/refs/heads/drover/a").join(name), "").unwrap();
        }
        sweep(dir.path(), &record(&["refs/heads/drover/a/s.lock", "refs/drover/base/s.lock"], 0), LATER);
        let log = |name: &str| dir.path().join("logs/refs/heads/drover/a").join(name);
        assert!(!log("s").exists() && log("there").exists(), "nobody else's log goes");
        fs::write(dir.path().join("packed-refs"), "# x\n1234 refs/heads/drover/a/packed\n").unwrap();
        fs::create_dir_all(dir.path().join("refs/heads/drover/a")).unwrap();
        fs::write(dir.path().join("refs/heads/drover/a/there"), "1234").unwrap();
        let names = ["refs/heads/drover/a/there.lock", "refs/heads/drover/a/packed.lock"];
        sweep(dir.path(), &record(&names, 0), LATER);
        assert!(log("there").exists() && log("packed").exists(), "what is there has its log");
        fs::remove_dir_all(dir.path().join("refs/heads/drover")).unwrap();
        assert!(dir.path().join("refs/heads").exists() && !dir.path().join("refs/heads/drover").exists());
        assert!(
            dir.path().join("refs/drover/trash").exists() && !dir.path().join("refs/drover/base").exists()
        );
    }

    #[test]
    fn a_directory_that_was_announced_stands_for_the_locks_below_it_and_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("refs/remotes/origin");
        fs::create_dir_all(&below).unwrap();
        for name in ["a.lock", "a", "b.lock"] {
            fs::write(below.join(name), "").unwrap();
        }
        fs::write(dir.path().join("refs/c.lock"), "").unwrap();
        assert_eq!(sweep(dir.path(), &record(&["refs/remotes/"], 0), LATER), Left::default());
        let there: Vec<_> = fs::read_dir(&below).unwrap().map(|item| item.unwrap().file_name()).collect();
        assert_eq!(there, ["a"]);
        assert!(dir.path().join("refs/c.lock").exists());
    }

    #[test]
    fn a_lock_that_is_young_or_that_somebody_has_open_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("packed-refs.lock");
        let open = fs::File::create(&path).unwrap();
        let died = record(&["packed-refs.lock"], 0);
        assert_eq!(sweep(dir.path(), &died, LATER), left(&["packed-refs.lock"], false));
        drop(open);
        let now = Seen::of(&path).unwrap().changed_millis();
        assert_eq!(sweep(dir.path(), &died, now + YOUNG_MILLIS - 1), left(&["packed-refs.lock"], true));
        assert_eq!(sweep(dir.path(), &died, now + YOUNG_MILLIS), Left::default());
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_that_became_another_file_since_it_was_judged_stays_or_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a.lock"), dir.path().join("aside"));
        fs::write(&from, "the judged one").unwrap();
        let seen = Seen::of(&from).unwrap();
        // Kept, so that its number is not given to the next file.
        fs::rename(&from, dir.path().join("kept")).unwrap();
        fs::write(&from, "somebody's").unwrap();
        assert!(take(&from, &to, seen).is_err());
        assert!(from.exists() && !to.exists());
        // It changed at the very moment at which it was moved.
        fs::rename(&from, &to).unwrap();
        assert!(!verify(&from, &to, seen));
        assert_eq!(fs::read(&from).unwrap(), b"somebody's");
        assert!(!to.exists());
        assert!(take(&from, &to, Seen::of(&from).unwrap()).is_ok());
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
        while gits_in(&common).is_empty() {
            std::thread::yield_now();
        }
        let died = record(&["packed-refs.lock"], 0);
        let busy = Left { is_busy: true, ..left(&["packed-refs.lock"], false) };
        assert_eq!(sweep(&common, &died, LATER), busy);
        let nothing = sweep(&common, &record(&["config.lock"], 0), LATER);
        assert_eq!(nothing, Left { is_busy: true, ..Left::default() }, "it may still make one");
        git.kill().unwrap();
        git.wait().unwrap();
        assert_eq!(sweep(&common, &died, LATER), Left::default());
        assert!(!common.join("packed-refs.lock").exists());
    }
}
