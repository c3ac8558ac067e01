//! Saves a workspace that stays, under `refs/drover/wip/<session>/<n>`: its commit with what was changed on top, its
//! index and state beside it. The session's index, branch, stash and files are only read, no lock of its git is taken,
//! none of its programs run. If nothing changed since the last one nothing is written: that one's fingerprint tells.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::archive::{Archive, Scope, bare};
use super::record::{Part, Record};
use super::save::{next_number, number};
use super::status::{Ignored, Status};
use super::walk::{Broken, Found, manifest_walk, walk_below};
use super::work::{head, lost_its_pointer, only_here, unfinished};
use super::{Site, Stage, Workspaces, create};
use crate::git::failure::{Cause, Failure};
use crate::git::lock::alone_in;
use crate::git::read::{self, blocking, bytes_id};
use crate::git::runner::{At, Call, Length};
use crate::git::worktrees::Entry;

/// The newest saved state of a workspace that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub reference: String,
    pub commit: String,
}

const CHECKPOINT: &str = "save a checkpoint";
/// How many a session keeps.
const KEPT: usize = 5;
/// Somebody who writes all the time makes files change while they are read.
const ATTEMPTS: usize = 4;
/// The kernel's stamps lag by up to a tick: what changed within one may change again and look the same.
const SETTLE: Duration = Duration::from_millis(20);

/// What there is to save, as it was when it was looked at.
struct Sight {
    admin: PathBuf,
    head: Option<String>,
    tip: Option<String>,
    commits: Vec<String>,
    /// Everything that may differ from the commit.
    changed: BTreeSet<Vec<u8>>,
    staged: BTreeSet<String>,
    /// There is nothing but the commit.
    is_clean: bool,
    fingerprint: String,
}

impl Workspaces {
    /// Saves what is in the workspace now, unless the last checkpoint has it. `None`: there is no workspace with files.
    pub async fn checkpoint(&self, site: &Site) -> Result<Option<Checkpoint>, Failure> {
        if create::stage(site)? != Some(Stage::CheckedOut) {
            return Ok(None);
        }
        let alone = alone_in(&site.path, CHECKPOINT, self.git.limit(Length::Long)).await?;
        let mut attempt = 1;
        loop {
            let saved = self.checkpoint_once(site, &alone).await;
            let is_moving = |failure: &Failure| matches!(&*failure.cause, Cause::WorkNotSaveable(_));
            match saved {
                Err(failure) if is_moving(&failure) && attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    async fn checkpoint_once(&self, site: &Site, alone: &File) -> Result<Option<Checkpoint>, Failure> {
        let Some(sight) = self.see(site).await? else { return Ok(None) };
        let before = read::references(&site.common, &site.wip_prefix())?;
        let last =
            before.iter().filter(|(name, _)| number(name).is_some()).max_by_key(|(name, _)| number(name));
        if let Some((reference, commit)) = last
            && is_of(site, commit, &sight)?
        {
            return Ok(Some(Checkpoint { reference: reference.clone(), commit: commit.clone() }));
        }
        let commit = match &sight.head {
            Some(head) if sight.is_clean => head.clone(),
            _ => self.write_checkpoint(site, &sight, alone).await?,
        };
        let reference = format!("{}{}", site.wip_prefix(), next_number(&before));
        self.keep(site, &before, &reference, &commit).await?;
        Ok(Some(Checkpoint { reference, commit }))
    }

    /// Looks twice if something has only just changed.
    async fn see(&self, site: &Site) -> Result<Option<Sight>, Failure> {
        let mut may_wait = true;
        loop {
            let since = i128::from(self.git.clock().wall_millis()) * 1_000_000;
            let Some(entry) = site.entry(CHECKPOINT)? else { return Ok(None) };
            let status = self.status(site, &entry.admin, Ignored::LeftOut).await?;
            let looked = site.clone();
            let (mut sight, newest) = blocking(move || Sight::new(&looked, &entry, status)).await?;
            let settled = newest + nanos(SETTLE) < since;
            if settled || !may_wait {
                if !settled {
                    // Nothing equals it, so that the next one looks at the files again.
                    sight.fingerprint.clear();
                }
                return Ok(Some(sight));
            }
            tokio::time::sleep(SETTLE * 2).await;
            may_wait = false;
        }
    }

    /// Writes the commit under a reference that is nobody's yet, and compares it with the files.
    async fn write_checkpoint(&self, site: &Site, sight: &Sight, alone: &File) -> Result<String, Failure> {
        let now = self.git.clock().wall_millis();
        let record = Record {
            tip: sight.tip.clone(),
            admin: Some(sight.admin.to_string_lossy().into_owned()),
            ..Record::new(site, Part::Checkpoint, 0, now)
        };
        let archive = Archive {
            reference: format!("{}new", site.wip_prefix()),
            title: format!("Checkpoint of {} on {}", site.mark.session, site.branch),
            path: Some(site.path.clone()),
            admin: Some(sight.admin.clone()),
            head: sight.head.clone(),
            commits: sight.commits.clone(),
            staged: sight.staged.clone(),
            scope: Scope::Changed(sight.changed.clone()),
            fingerprint: Some(sight.fingerprint.clone()),
            ..Archive::empty(record)
        };
        self.write(site, CHECKPOINT, archive.clone(), Some(alone)).await?;
        let site = site.clone();
        blocking(move || {
            let commit = read::tip(&site.common, &archive.reference)?.unwrap_or_default();
            verify(&site, &archive, &commit)?;
            Ok(commit)
        })
        .await
    }

    /// Names the newest and gives up the oldest, all or nothing.
    async fn keep(
        &self,
        site: &Site,
        before: &[(String, String)],
        reference: &str,
        commit: &str,
    ) -> Result<(), Failure> {
        let mut numbered: Vec<&(String, String)> = before.iter().collect();
        numbered.sort_by_key(|(name, _)| std::cmp::Reverse(number(name)));
        let is_old = |at: usize, name: &str| at + 1 >= KEPT || number(name).is_none();
        let mut orders = format!("create {reference} {commit}\n");
        let mut locks = vec![format!("{reference}.lock"), "packed-refs.lock".to_owned()];
        let unnamed = format!("{}new", site.wip_prefix());
        // What was written just now stands there too.
        for name in numbered
            .iter()
            .enumerate()
            .filter(|(at, (name, _))| is_old(*at, name) && *name != unnamed)
            .map(|(_, (name, _))| name)
            .chain(read::tip(&site.common, &unnamed)?.map(|_| &unnamed))
        {
            let _ = writeln!(orders, "delete {name}");
            locks.push(format!("{name}.lock"));
        }
        let held = self.lock_for(site, CHECKPOINT, &locks).await?;
        let words = ["-c", "core.fsync=all", "update-ref", "--stdin"];
        let call = Call::new(CHECKPOINT, At::Repository(&site.common), words).by(site.run_as.as_ref());
        self.git.run(&call.reading(orders.as_bytes()).holding(held.file())).await?;
        held.release();
        Ok(())
    }
}

fn nanos(length: Duration) -> i128 {
    i128::try_from(length.as_nanos()).unwrap_or(i128::MAX)
}

/// Whether this commit is a checkpoint of exactly that.
fn is_of(site: &Site, commit: &str, sight: &Sight) -> Result<bool, Failure> {
    if sight.is_clean {
        return Ok(sight.head.as_deref() == Some(commit));
    }
    let state = read::state(&site.common, commit)?;
    let fingerprint = state.and_then(|state| state.fingerprint).unwrap_or_default();
    Ok(!fingerprint.is_empty() && fingerprint == sight.fingerprint.as_bytes())
}

impl Sight {
    /// The second: when the newest of its files changed, in nanoseconds since 1970.
    fn new(site: &Site, entry: &Entry, status: Status) -> Result<(Self, i128), Failure> {
        let (admin, head) = (entry.admin.clone(), head(site, entry));
        let mut commits = only_here(site, &admin, head.as_ref())?;
        commits.retain(|commit| Some(commit) != head.as_ref());
        let mut changed: BTreeSet<Vec<u8>> =
            [status.changed, status.untracked, status.ambiguous].into_iter().flatten().collect();
        if lost_its_pointer(site, &admin) {
            changed.insert(b".git".to_vec());
        }
        let modules = std::fs::read_dir(admin.join("modules"));
        let has_modules = modules.is_ok_and(|mut modules| modules.next().is_some());
        let is_clean =
            changed.is_empty() && commits.is_empty() && !has_modules && unfinished(&admin).is_none();
        let broken =
            |broken: Broken| Failure::new(CHECKPOINT, &broken.path, Cause::WorkNotSaveable(broken.said()));
        let mut text = format!("1\n{:?}\n{head:?}\n{}\n{commits:?}\n", entry.head, status.answer);
        let mut newest = 0;
        let mut add = |found: Found<'_>| stamp(&mut text, &mut newest, &found);
        for name in &changed {
            walk_below((&site.path, bare(name)), false, &|_| false, &mut add).map_err(broken)?;
        }
        // What git itself rewrites whenever it is asked something is not looked at.
        manifest_walk(&admin, &|path| path == b"index" || path.ends_with(b".lock"), &mut add)
            .map_err(broken)?;
        let unhashed = |why| Failure::new(CHECKPOINT, &site.path, Cause::Other(why));
        let fingerprint = bytes_id(text.as_bytes()).map_err(unhashed)?;
        let tip = read::tip(&site.common, &site.branch_reference())?;
        let sight = Self { admin, head, tip, commits, changed, staged: status.staged, is_clean, fingerprint };
        Ok((sight, newest))
    }
}

fn stamp(text: &mut String, newest: &mut i128, found: &Found<'_>) -> std::io::Result<()> {
    let Found { path, mode, changed, modified, inode, kind } = found;
    *newest = (*newest).max(*changed);
    let size = if let super::walk::Kind::File { size, .. } = kind { *size } else { 0 };
    writeln!(text, "{path:?} {mode:o} {size} {modified} {changed} {inode}").map_err(std::io::Error::other)
}

/// Compares every file that was to be written with what was, but for those that changed meanwhile: they are the next
/// checkpoint's.
fn verify(site: &Site, archive: &Archive, commit: &str) -> Result<(), Failure> {
    let broken = |why: String| Failure::new(CHECKPOINT, &site.path, Cause::WorkNotSaveable(why));
    let since = i128::from(archive.record.created_millis) * 1_000_000 - nanos(SETTLE);
    let there = archive.files(&|found| found.changed < since).map_err(|error| broken(error.said()))?;
    let saved = read::some_files(&site.common, commit, there.keys())?;
    match there.iter().find(|(path, file)| saved.get(*path) != Some(*file)) {
        Some((path, _)) => {
            Err(broken(format!("{} differs from what was saved of it", String::from_utf8_lossy(path))))
        }
        None => Ok(()),
    }
}
