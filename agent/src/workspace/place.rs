//! The directories that workspaces lie in. They are the agent's own; a path is taken only if it lies below the root
//! with no symbolic link on the way, and a directory is taken over only if nothing but git's pointer is in it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use drover_domain::id::SessionId;

use super::Site;
use crate::git::failure::{Cause, Failure};

/// What is at the workspace's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A directory with nothing in it but, maybe, the pointer of a worktree.
    Bare,
    /// A directory with files.
    Filled,
}

const LOOK: &str = "look at the workspace's directory";

/// Refuses a path that leads out of the root, then says what is there.
pub(super) fn look(site: &Site) -> Result<Found, Failure> {
    let io = |path: &Path, error: &io::Error| Failure::io(LOOK, path, error);
    let taken = |path: &Path, why: &str| {
        Failure::new(LOOK, path, Cause::PathTaken { path: path.to_owned(), why: why.to_owned() })
    };
    for step in steps(site)? {
        match fs::symlink_metadata(&step) {
            Ok(found) if found.is_symlink() => return Err(taken(&step, "it is a symbolic link")),
            Ok(found) if !found.is_dir() => return Err(taken(&step, "it is not a directory")),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(io(&step, &error)),
        }
    }
    for item in fs::read_dir(&site.path).map_err(|error| io(&site.path, &error))? {
        let item = item.map_err(|error| io(&site.path, &error))?;
        let is_file = item.file_type().map_err(|error| io(&site.path, &error))?.is_file();
        if item.file_name() != ".git" || !is_file {
            return Ok(Found::Filled);
        }
    }
    Ok(Found::Bare)
}

/// Makes the directories down to the workspace, and that one the session's user's.
pub(super) fn make(site: &Site) -> Result<(), Failure> {
    let shared = site.run_as.is_some();
    let mode = if shared { 0o711 } else { 0o700 };
    let mut steps = steps(site)?;
    let last = steps.pop().unwrap_or_default();
    let io = |path: &Path, error: &io::Error| Failure::io("make the workspace's directory", path, error);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(&site.root)
        .map_err(|error| io(&site.root, &error))?;
    for step in std::iter::once(&site.root).chain(&steps) {
        make_one(step, mode).map_err(|error| io(step, &error))?;
        if shared {
            // The session's user passes through, but does not see who else is there.
            fs::set_permissions(step, fs::Permissions::from_mode(mode)).map_err(|error| io(step, &error))?;
        }
    }
    make_one(&last, 0o700).map_err(|error| io(&last, &error))?;
    if let Some(who) = &site.run_as {
        chown(&last, Some(who.uid), Some(who.gid)).map_err(|error| io(&last, &error))?;
    }
    Ok(())
}

/// Where a removed workspace lies, beside the others, so that going there is one rename: first until nothing can have
/// been written into it that was not saved, then until it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    Leaving,
    Trash,
}

impl Away {
    fn prefix(self) -> &'static str {
        match self {
            Self::Leaving => ".leaving-",
            Self::Trash => ".trash-",
        }
    }

    /// The session that a directory of this name was of.
    pub fn session(self, name: &str) -> Option<SessionId> {
        name.strip_prefix(self.prefix())?.split('.').next()?.parse().ok()
    }

    /// All directories below `root` that are here, with the session that each was of.
    pub(super) fn all(self, root: &Path) -> io::Result<Vec<(SessionId, PathBuf)>> {
        let mut found = Vec::new();
        for item in fs::read_dir(root)? {
            let item = item?;
            let name = item.file_name();
            let session = name.to_str().and_then(|name| self.session(name));
            found.extend(session.map(|session| (session, item.path())));
        }
        Ok(found)
    }

    /// Those of this session.
    pub(super) fn of(self, site: &Site) -> io::Result<Vec<PathBuf>> {
        let all = match self.all(&site.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            all => all?,
        };
        Ok(all
            .into_iter()
            .filter(|(session, _)| *session == site.mark.session)
            .map(|(_, path)| path)
            .collect())
    }

    /// Renames a directory to here. An earlier removal's may still wait under the first name.
    pub(super) fn take(self, site: &Site, from: &Path) -> io::Result<()> {
        let first = site.root.join(format!("{}{}", self.prefix(), site.mark.session));
        for attempt in 0_u32.. {
            let to = if attempt == 0 { first.clone() } else { first.with_extension(attempt.to_string()) };
            match fs::rename(from, &to) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => {}
                done => return done,
            }
        }
        Ok(())
    }
}

/// Removes the directories above the workspace that have become empty, up to the root.
pub(super) fn tidy(site: &Site) {
    let mut steps = steps(site).unwrap_or_default();
    steps.pop();
    while let Some(step) = steps.pop() {
        // Others' workspaces in it keep it.
        if fs::remove_dir(step).is_err() {
            return;
        }
    }
}

/// Every directory below the root on the way to the workspace, itself included.
fn steps(site: &Site) -> Result<Vec<PathBuf>, Failure> {
    let refuse = || {
        let why = format!("it is not below {}", site.root.display());
        Failure::new(LOOK, &site.path, Cause::PathTaken { path: site.path.clone(), why })
    };
    let below = site.path.strip_prefix(&site.root).map_err(|_| refuse())?;
    let mut steps = Vec::new();
    let mut step = site.root.clone();
    for part in below.components() {
        let Component::Normal(part) = part else { return Err(refuse()) };
        step.push(part);
        steps.push(step.clone());
    }
    if steps.is_empty() { Err(refuse()) } else { Ok(steps) }
}

fn make_one(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Deletes a directory for good, also one whose own directories forbid it.
pub(super) fn delete(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            allow(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn allow(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for item in fs::read_dir(directory)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            allow(&item.path())?;
        }
    }
    Ok(())
}
