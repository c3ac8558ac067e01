//! Worktrees' entries of a repository that bear this installation's and node's mark.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use drover_domain::id::SessionId;
use drover_domain::inventory::Worktree;
use drover_domain::presence::Presence;

use super::machine::changed;
use crate::git::worktrees::{Entry, Head, Mark, entries};
use crate::workspace::Owner;

/// The entries of one repository.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub ours: Vec<(SessionId, Worktree)>,
    /// Sessions of which another installation or node has a worktree here.
    pub others: Vec<SessionId>,
}

pub(super) fn look(common: &Path, owner: &Owner) -> std::io::Result<Entries> {
    let mut found = Entries::default();
    for entry in entries(common)? {
        match entry.locked.as_deref().and_then(Mark::parse) {
            Some(mark) if owner.is_of(&mark) => {
                found.ours.push((mark.session, worktree(common, &entry, &mark)))
            }
            Some(mark) => found.others.push(mark.session),
            None => {}
        }
    }
    Ok(found)
}

fn worktree(common: &Path, entry: &Entry, mark: &Mark) -> Worktree {
    let branch = match &entry.head {
        Some(Head::Branch(branch)) => Some(branch.as_str().into()),
        Some(Head::Detached(_)) | None => None,
    };
    Worktree {
        repository: common.to_string_lossy().into(),
        entry: entry.admin.to_string_lossy().into(),
        path: entry.path.as_ref().map(|path| path.to_string_lossy().into()),
        directory: entry
            .path
            .as_deref()
            .map_or_else(|| Presence::Unknown("its entry does not say where it is".into()), directory),
        branch,
        fence: mark.fence,
        since: changed(&entry.admin.join("locked")),
    }
}

/// Something else in its place is not the directory, and does not say that it is gone.
fn directory(path: &Path) -> Presence<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Presence::Present(()),
        Ok(_) => Presence::Unknown(format!("{} is not a directory", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Presence::Absent,
        Err(error) => Presence::Unknown(error.to_string()),
    }
}
