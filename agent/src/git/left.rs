//! Lock files of git's that somebody may have left: which there are, who may be holding them, and whether one of our own
//! gits may have made them. One that is named is moved aside, if nobody holds it and it is the one that was seen.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::holders;
use super::lock;
use super::stale;

/// A lock file, and what was found out about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub common: PathBuf,
    /// Below the common directory.
    pub name: String,
    pub changed_millis: i64,
    /// Tells it from another file of the same name.
    pub stamp: String,
    /// None: nobody that could be seen.
    pub holder: Option<String>,
    /// The last holder of the repository's lock announced it, and is gone.
    pub is_announced: bool,
}

/// Whoever works with a lock is mostly done sooner; a younger one is not looked at.
pub const YOUNGEST: Duration = Duration::from_secs(10);
/// Of more than these it is not asked who holds them.
const MOST: usize = 64;

/// Those of these lock files (the common directory and the name below it) that have been there for a while.
pub fn judged(candidates: &[(PathBuf, String)], now_millis: i64) -> Vec<Left> {
    let youngest = i64::try_from(YOUNGEST.as_millis()).unwrap_or(i64::MAX);
    let mut found: Vec<Left> = candidates
        .iter()
        .filter(|(_, name)| name != lock::FILE)
        .filter_map(|(common, name)| seen(common, name))
        .filter(|left| now_millis.saturating_sub(left.changed_millis) >= youngest)
        .collect();
    let paths: Vec<PathBuf> = found.iter().take(MOST).map(|left| left.common.join(&left.name)).collect();
    let mut holders = holders::of_git_locks(&paths).into_iter();
    let mut records: HashMap<PathBuf, Option<lock::Record>> = HashMap::new();
    for left in &mut found {
        left.holder =
            holders.next().unwrap_or_else(|| Some("not looked for: there are too many locks".into()));
        let record = records.entry(left.common.clone()).or_insert_with(|| lock::record_of_dead(&left.common));
        left.is_announced = record.as_ref().is_some_and(|record| record.announced(&left.name));
    }
    found
}

/// `None`: there is no plain file.
pub fn seen(common: &Path, name: &str) -> Option<Left> {
    let found = fs::symlink_metadata(common.join(name)).ok().filter(fs::Metadata::is_file)?;
    Some(Left {
        common: common.to_owned(),
        name: name.to_owned(),
        changed_millis: found.mtime().saturating_mul(1000).saturating_add(found.mtime_nsec() / 1_000_000),
        stamp: format!("{:x}:{:x}:{}.{:09}", found.dev(), found.ino(), found.mtime(), found.mtime_nsec()),
        holder: None,
        is_announced: false,
    })
}

/// What became of a lock that was to be moved aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    Aside(PathBuf),
    /// There is none any more.
    Gone,
    /// It is another file than the one that was seen.
    Other,
    Held(String),
    Failed(String),
}

/// Moves a lock file aside, if it is the one with this stamp and nobody holds it. The repository's own lock must be held.
pub fn move_aside(common: &Path, name: &str, stamp: &str, now_millis: i64) -> Moved {
    if name == lock::FILE || !name.ends_with(".lock") || !stale::is_below(name) {
        return Moved::Failed(format!("{name} is no lock file of git's"));
    }
    let Some(found) = seen(common, name) else { return Moved::Gone };
    if found.stamp != stamp {
        return Moved::Other;
    }
    if let Some(holder) = holders::of_git_lock(&common.join(name)) {
        return Moved::Held(holder);
    }
    match stale::move_named(common, name, now_millis) {
        Ok(to) => Moved::Aside(to),
        Err(error) => Moved::Failed(error.to_string()),
    }
}
