//! The state of a worktree as it was saved, and what of it has to be said anew where its branch or its place has
//! another name: HEAD, what an unfinished rebase goes back to, where submodules' repositories are. It only reads.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::Site;
use super::names::restored;
use super::plan::{Plan, RESTORE};
use super::trash::TrashItem;
use crate::git::failure::{Cause, Failure};
use crate::git::read::{self, Files, Objects};
use crate::git::worktrees;

/// What says whose the entry is, which it is already; and a mark of a restoring that was removed before it ended.
const OWN: [&[u8]; 6] = [b"drover-restoring", b"gitdir", b"commondir", b"locked", b"HEAD", b"index"];

/// Administrative files, ready to be written.
pub(super) struct Saved {
    pub files: Plan,
    /// Those that are not as they were saved.
    pub texts: Vec<(Vec<u8>, Vec<u8>)>,
    /// `None`: there was no worktree any more.
    pub index: Option<Plan>,
}

impl Saved {
    pub(super) fn read(site: &Site, item: &TrashItem, commit: &str) -> Result<Self, Failure> {
        let missing = || {
            Failure::new(
                RESTORE,
                &item.common,
                Cause::Other(format!("{commit} has no state of its worktree")),
            )
        };
        let state = read::state(&item.common, commit)?.ok_or_else(missing)?;
        let objects = Objects::of(&item.common)?;
        let all = read::files(&item.common, &state.commit)?;
        let mut admin: Files = all
            .into_iter()
            .filter_map(|(path, file)| Some((path.strip_prefix(b"admin/")?.to_vec(), file)))
            .collect();
        let head = admin.get(&b"HEAD"[..]).map(|(_, id)| objects.blob(id)).transpose()?;
        let index = admin.remove(&b"index"[..]);
        // Whoever held a lock is gone.
        admin.retain(|path, _| !OWN.contains(&&path[..]) && !path.ends_with(b".lock"));
        let mut texts = Vec::new();
        let (old, new) = (format!("refs/heads/{}", item.record.branch), site.branch_reference());
        for name in [&b"rebase-merge/head-name"[..], b"rebase-apply/head-name"] {
            if let Some((_, id)) = admin.get(name)
                && objects.blob(id)?.trim_ascii_end() == old.as_bytes()
            {
                texts.push((name.to_vec(), format!("{new}\n").into_bytes()));
            }
        }
        let parents = read::parents(&item.common, commit)?;
        let at = parents.first().filter(|first| **first != state.commit);
        if let Some(text) = head.map(|text| head_text(site, &text, &old, at)).transpose()?.flatten() {
            texts.push((b"HEAD".to_vec(), text));
        }
        let index = index.map(|file| Plan::only(Files::from([(b"index".to_vec(), file)])));
        Ok(Self { files: Plan::only(admin), texts, index })
    }
}

/// What HEAD has to say; `None`: what it says, the session's own branch.
fn head_text(site: &Site, saved: &[u8], own: &str, at: Option<&String>) -> Result<Option<Vec<u8>>, Failure> {
    let text = String::from_utf8_lossy(saved);
    let Some(reference) = text.trim_end().strip_prefix("ref: ") else {
        return Ok(Some(saved.to_vec()));
    };
    if reference == own {
        return Ok(None);
    }
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    let holders = worktrees::holders_of(&site.common, branch)
        .map_err(|error| Failure::io(RESTORE, &site.common, &error))?;
    let others = holders.iter().filter(|path| **path != site.path).count();
    let is_as_it_was = read::tip(&site.common, reference)?.as_ref() == at && others == 0;
    Ok(match at {
        Some(commit) if !is_as_it_was => Some(format!("{commit}\n").into_bytes()),
        Some(_) | None => Some(saved.to_vec()),
    })
}

/// The directories of submodules' repositories among administrative files.
pub(super) fn modules(files: &Files) -> BTreeSet<PathBuf> {
    let paths: BTreeSet<Vec<u8>> = files.keys().map(|path| restored(path)).collect();
    let has = |module: &[u8], name: &[u8]| paths.contains(&[module, name].concat());
    let module = |path: &Vec<u8>| {
        let module = path.strip_suffix(b"/config").filter(|module| module.starts_with(b"modules/"))?;
        has(module, b"/HEAD").then(|| PathBuf::from(OsStr::from_bytes(module)))
    };
    paths.iter().filter_map(module).collect()
}

/// The path without `..`, as if no part of it were a link.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}
