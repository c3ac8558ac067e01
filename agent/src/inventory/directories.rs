//! What lies below the agent's directory for worktrees: workspaces, directories on their way out, and what is neither.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use drover_domain::id::SessionId;
use drover_domain::inventory::{Away, Blind, Kind};

use super::machine::{blind, changed};
use crate::workspace;

/// Everything that was found there.
#[derive(Debug, Default)]
pub(super) struct Directories {
    pub away: Vec<(SessionId, Away)>,
    /// `<project>/<name>`, with something in it.
    pub filled: Vec<Filled>,
    /// What is none of these.
    pub others: Vec<(PathBuf, &'static str)>,
    pub blind: Vec<Blind>,
}

/// A directory where a workspace may be.
#[derive(Debug)]
pub(super) struct Filled {
    pub path: PathBuf,
    /// The repository that git's pointer in it leads to.
    pub common: Option<PathBuf>,
}

impl Directories {
    pub(super) fn look(root: &Path) -> Self {
        let mut found = Self::default();
        match children(root) {
            Ok(items) => items.iter().for_each(|item| found.add(root, item)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.blind.push(blind(Kind::Directories, root, &error)),
        }
        found
    }

    fn add(&mut self, root: &Path, item: &DirEntry) {
        let (name, path) = (item.file_name(), item.path());
        let name = name.to_string_lossy();
        if let Some((session, is_saved)) = away(&name) {
            let path_told = path.to_string_lossy().into();
            self.away.push((session, Away { path: path_told, is_saved, since: changed(&path) }));
            return;
        }
        let kept = name.strip_prefix(".kept-").is_some_and(|id| id.parse::<SessionId>().is_ok());
        match item.file_type() {
            _ if kept => {}
            Ok(kind) if kind.is_dir() && !name.starts_with('.') => self.project(&path),
            Ok(kind) => self.others.push((path, what(kind))),
            Err(error) => self.blind.push(blind(Kind::Directories, root, &error)),
        }
    }

    fn project(&mut self, project: &Path) {
        let items = match children(project) {
            Ok(items) => items,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.blind.push(blind(Kind::Directories, project, &error)),
        };
        for item in items {
            let path = item.path();
            match item.file_type() {
                Ok(kind) if kind.is_dir() => self.workspace(path),
                Ok(kind) => self.others.push((path, what(kind))),
                Err(error) => self.blind.push(blind(Kind::Directories, project, &error)),
            }
        }
    }

    fn workspace(&mut self, path: PathBuf) {
        match fs::read_dir(&path).map(|mut items| items.next().is_some()) {
            Ok(true) => {
                let common = pointed_to(&path);
                self.filled.push(Filled { path, common });
            }
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.blind.push(blind(Kind::Directories, &path, &error)),
        }
    }
}

fn children(directory: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(directory)?.collect()
}

/// Whose it was, and whether it only waits to be deleted.
fn away(name: &str) -> Option<(SessionId, bool)> {
    [(workspace::Away::Leaving, false), (workspace::Away::Trash, true)]
        .into_iter()
        .find_map(|(away, is_saved)| Some((away.session(name)?, is_saved)))
}

fn what(kind: fs::FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        _ => "a file",
    }
}

/// The common directory of the repository whose worktree this says it is. A session's user may have written anything
/// there: it only says where to look.
fn pointed_to(path: &Path) -> Option<PathBuf> {
    let admin = crate::git::worktrees::pointer(path)?;
    let entries = admin.parent().filter(|parent| parent.ends_with("worktrees"))?;
    Some(entries.parent()?.to_owned())
}
