//! What is to be written where, to put saved work back: all parts of an item laid over each other, under the names that
//! trees have, with the modes of the manifest. What is there already, as it has to be, is not written again.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::ground::Ground;
use super::manifest::{self, Modes};
use super::names::{POINTER, restored};
use super::record::Part;
use super::trash::TrashItem;
use super::work::path_of;
use crate::git::failure::Failure;
use crate::git::read::{self, Files, Objects};
use crate::git::runner::Account;

pub(super) const RESTORE: &str = "restore saved work";
/// A larger file is not read into memory.
const LARGE: u64 = 16 * 1024 * 1024;
const LINK: u32 = 0o120_000;
const GITLINK: u32 = 0o160_000;

/// What is to be where, under the names of trees.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub files: Files,
    /// Under files' own names.
    modes: Modes,
}

/// Where files are written.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The repository that has them.
    pub common: PathBuf,
    pub root: PathBuf,
    pub who: Option<Account>,
    /// Held until the last writer has ended, also if nobody waits for it any more.
    pub alone: Arc<File>,
}

impl Target {
    pub(super) fn ground(&self) -> Result<Ground, Failure> {
        Ground::open(&self.root, self.who.as_ref()).map_err(|error| self.failed(b"", &error))
    }

    pub(super) fn failed(&self, path: &[u8], error: &std::io::Error) -> Failure {
        Failure::io(RESTORE, &self.root.join(path_of(path)), error)
    }
}

impl Plan {
    /// All files of an item, late ones over others.
    pub(super) fn of(item: &TrashItem) -> Result<Self, Failure> {
        let mut plan = Self::default();
        for saved in item.parts.iter().filter(|saved| saved.part != Part::Tip) {
            for (path, file) in read::files(&item.common, &saved.commit)? {
                plan.lay(path, file);
            }
            let state = read::state(&item.common, &saved.commit)?;
            plan.modes.extend(manifest::read(&state.map(|state| state.manifest).unwrap_or_default()));
        }
        Ok(plan)
    }

    pub(super) fn only(files: Files) -> Self {
        Self { files, modes: Modes::new() }
    }

    /// Puts a file over whatever is where it has to be.
    fn lay(&mut self, path: Vec<u8>, file: (u32, String)) {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.files.remove(&path[..at]);
        }
        let below = [&path[..], b"/"].concat();
        let inner: Vec<Vec<u8>> = self
            .files
            .range(below.clone()..)
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&below))
            .collect();
        for path in inner {
            self.files.remove(&path);
        }
        self.files.insert(path, file);
    }

    /// Takes out what stands where git's own pointer has to be, and returns it if it is a repository of its own.
    pub(super) fn take_pointers_place(&mut self, item: &TrashItem) -> Result<Self, Failure> {
        let is_there = |path: &Vec<u8>| path == POINTER || path.starts_with(b".git~drover/");
        let taken: Files = self
            .files
            .iter()
            .filter(|(path, _)| is_there(path))
            .map(|(path, file)| (path.clone(), file.clone()))
            .collect();
        self.files.retain(|path, _| !is_there(path));
        if let Some((mode, id)) = taken.get(POINTER).filter(|_| taken.len() == 1) {
            let ours = format!("gitdir: {}/", item.common.join("worktrees").display());
            let is_pointer =
                *mode != LINK && Objects::of(&item.common)?.blob(id)?.starts_with(ours.as_bytes());
            if is_pointer {
                return Ok(Self::default());
            }
        }
        Ok(Self { files: taken, modes: self.modes.clone() })
    }

    /// Writes all but what is large, and returns that: path, mode, object.
    pub(super) fn write(&self, target: &Target) -> Result<Vec<(Vec<u8>, u32, String)>, Failure> {
        let objects = Objects::of(&target.common)?;
        let mut ground = target.ground()?;
        let mut large = Vec::new();
        for (name, (mode, id)) in &self.files {
            let path = restored(name);
            let failed = |error: std::io::Error| target.failed(&path, &error);
            if *mode == GITLINK {
                ground.directory(&path).map_err(failed)?;
            } else if *mode == LINK {
                if !ground.has_link(&path, id).map_err(failed)? {
                    ground.link(&path, &objects.blob(id)?).map_err(failed)?;
                }
            } else {
                let plain = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                // No file gets its owner's rights for others by being restored.
                let mode = self.modes.get(&path).map_or(plain, |(mode, _)| mode & 0o777);
                if ground.has(&path, mode, id).map_err(failed)? {
                    continue;
                }
                if objects.size(id)? > LARGE {
                    large.push((path, mode, id.clone()));
                } else {
                    ground.write(&path, mode, &mut objects.blob(id)?.as_slice()).map_err(failed)?;
                }
            }
        }
        Ok(large)
    }

    /// Makes the empty directories, and gives every directory its mode, the innermost first.
    pub(super) fn close(&self, target: &Target) -> Result<(), Failure> {
        let failed = |error: std::io::Error| target.failed(b"", &error);
        let mut ground = target.ground()?;
        let of_files = self.files.keys().map(|name| restored(name));
        let noted: Vec<Vec<u8>> =
            self.modes.iter().filter(|(_, mode)| mode.1).map(|(path, _)| path.clone()).collect();
        let mut directories: BTreeSet<Vec<u8>> = noted.iter().cloned().collect();
        for path in of_files.chain(noted) {
            let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            directories.extend(above.map(|(at, _)| path[..at].to_vec()));
        }
        for path in &directories {
            ground.directory(path).map_err(failed)?;
        }
        for path in directories.iter().rev() {
            let mode = self.modes.get(path).map_or(0o755, |(mode, _)| mode & 0o3777);
            ground.close(path, mode).map_err(failed)?;
        }
        Ok(())
    }
}
