//! Tells one state of remains from another, by what would matter to a removal and costs little to look at. Files' contents
//! are not in it: the removal looks at them itself, and saves what it finds.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::subject::Subject;
use crate::git::failure::Failure;
use crate::git::read::{self, bytes_id};
use crate::git::worktrees;

/// Words with an id each, so that it can be said what changed.
pub(super) fn of(subject: &Subject) -> Result<String, Failure> {
    let site = &subject.site;
    let tip = |name: &str| read::tip(&site.common, name);
    let entries: Vec<_> = worktrees::entries(&site.common)
        .map_err(|error| Failure::io("look at the worktrees", &site.common, &error))?
        .into_iter()
        .filter(|entry| site.mark.is_on(entry))
        .collect();
    let locks: Vec<_> = entries.iter().map(|entry| file(&entry.admin.join("locked"))).collect();
    let heads: Vec<_> = entries.iter().map(|entry| (&entry.head, &entry.path)).collect();
    let mut away = subject.away.clone();
    away.sort();
    let parts = [
        ("entry", format!("{locks:?} {heads:?}")),
        ("directory", format!("{:?}", file(&site.path).map(|(device, inode, _)| (device, inode)))),
        ("leaving", format!("{away:?}")),
        ("branch", format!("{} {:?}", site.branch, tip(&site.branch_reference())?)),
        ("base", format!("{} {:?}", site.base, tip(&site.base_reference())?)),
        ("checkpoints", format!("{:?}", read::references(&site.common, &site.wip_prefix())?)),
    ];
    let part = |(word, text): &(&str, String)| {
        let id = bytes_id(text.as_bytes()).unwrap_or_default();
        format!("{word}={}", id.get(..16).unwrap_or_default())
    };
    Ok(parts.iter().map(part).collect::<Vec<_>>().join(" "))
}

/// The words of what differs.
pub(super) fn difference(before: &str, now: &str) -> String {
    let before: Vec<&str> = before.split(' ').collect();
    let changed = now.split(' ').filter(|part| !before.contains(part));
    changed.filter_map(|part| part.split('=').next()).collect::<Vec<_>>().join(", ")
}

fn file(path: &Path) -> Option<(u64, u64, (i64, i64))> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino(), (found.mtime(), found.mtime_nsec())))
}
