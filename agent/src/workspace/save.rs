//! Saves a workspace's work to `refs/drover/trash/<session>/<n>` before anything goes, as one synced pack; then it is
//! compared with the files again. All that one removal saves bears the removal's number, so that a person sees it as
//! one thing. What is saved is never taken away here, and a full trash refuses instead.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::archive::{Archive, Scope, bare};
use super::create::points_to;
use super::late::Look;
use super::record::{Part, Record};
use super::work::Work;
use super::{Site, Workspaces, place};
use crate::git::failure::{Cause, Failure};
use crate::git::read::{self, Files, blocking};

const SAVE: &str = "save the work";

impl Workspaces {
    /// Saves what `work` found, if anything, and returns the reference. A save that a killed agent made of the very
    /// same files is found again, and the look then belongs to that removal.
    pub async fn save(&self, site: &Site, work: &Work, look: &mut Look) -> Result<Option<String>, Failure> {
        if !work.is_unsaved() || (!work.is_present && is_away(site)?) {
            return Ok(None);
        }
        let before = read::references(&site.common, &site.trash_prefix())?;
        if let Some((reference, commit)) = before.iter().max_by_key(|(name, _)| number(name))
            && self.is_saved(site, work, commit).await.is_ok()
        {
            let earlier = read::state(&site.common, commit)?.and_then(|state| Record::read(&state.session));
            look.removal = earlier.map_or(look.removal, |record| record.removal);
            return Ok(Some(reference.clone()));
        }
        self.make_room(site, work.bytes()).await?;
        let reference = next(site, &before);
        let mut archive = Archive::of_work(site, work);
        archive.reference.clone_from(&reference);
        archive.record = self.record(site, look, Part::Work, archive.record.tip.take());
        archive.record.admin = work.admin.as_ref().map(|admin| admin.to_string_lossy().into_owned());
        self.write(site, SAVE, archive, None).await?;
        let (common, name) = (site.common.clone(), reference.clone());
        let commit = blocking(move || read::tip(&common, &name)).await?;
        self.is_saved(site, work, &commit.unwrap_or_default()).await?;
        Ok(Some(reference))
    }

    /// Saves these files of the directory, whatever git thinks of them.
    pub(super) async fn save_late(
        &self,
        site: &Site,
        look: &Look,
        directory: PathBuf,
        files: Files,
    ) -> Result<(), Failure> {
        let before = read::references(&site.common, &site.trash_prefix())?;
        let tip = read::tip(&site.common, &site.branch_reference())?;
        let record = self.record(site, look, Part::Late, tip);
        let archive = Archive {
            // If nothing else is saved, these are all that the files lie on.
            head: look.head.clone(),
            commits: record.tip.iter().filter(|tip| Some(*tip) != look.head.as_ref()).cloned().collect(),
            reference: next(site, &before),
            title: format!("Written while {} was removed", site.mark.session),
            path: Some(directory),
            skipped: look.skipped.clone(),
            scope: Scope::Only(files),
            ..Archive::empty(record)
        };
        self.write(site, SAVE, archive, None).await
    }

    /// Saves the commits that the branch leads to, unless something saved does already.
    pub(super) async fn save_tip(&self, site: &Site, look: &Look, tip: &str) -> Result<(), Failure> {
        let before = read::references(&site.common, &site.trash_prefix())?;
        for (_, commit) in &before {
            if commit == tip || read::parents(&site.common, commit)?.iter().any(|parent| parent == tip) {
                return Ok(());
            }
        }
        let record = self.record(site, look, Part::Tip, Some(tip.to_owned()));
        let archive = Archive {
            reference: next(site, &before),
            title: format!("Commits of {} on {}", site.mark.session, site.branch),
            head: Some(tip.to_owned()),
            ..Archive::empty(record)
        };
        self.write(site, SAVE, archive, None).await
    }

    fn record(&self, site: &Site, look: &Look, part: Part, tip: Option<String>) -> Record {
        let record = Record::new(site, part, look.removal, self.git.clock().wall_millis());
        Record { label: look.label.clone(), tip, ..record }
    }

    /// Compares the saved commit with the files, byte for byte by their ids.
    async fn is_saved(&self, site: &Site, work: &Work, commit: &str) -> Result<(), Failure> {
        let (site, commit) = (site.clone(), commit.to_owned());
        let archive = Archive::of_work(&site, work);
        blocking(move || {
            let broken = |why: String| Failure::new(SAVE, &site.path, Cause::WorkNotSaveable(why));
            let saved = read::files(&site.common, &commit)?;
            let there = archive.files(&|_| true).map_err(|error| broken(error.said()))?;
            if let Some(path) = first_difference(&there, &saved) {
                return Err(broken(format!(
                    "{path} differs from what was saved of it; is something still writing?"
                )));
            }
            let parents = read::parents(&site.common, &commit)?;
            match archive.commits.iter().chain(&archive.head).find(|commit| !parents.contains(commit)) {
                Some(missing) => Err(broken(format!("the commit {missing} is not part of what was saved"))),
                None => Ok(()),
            }
        })
        .await
    }
}

impl Archive {
    /// Nothing but its record yet.
    pub(super) fn empty(record: Record) -> Self {
        Self {
            reference: String::new(),
            title: String::new(),
            path: None,
            admin: None,
            head: None,
            commits: vec![],
            staged: BTreeSet::new(),
            skipped: BTreeSet::new(),
            scope: Scope::All,
            work: BTreeSet::new(),
            record,
            fingerprint: None,
        }
    }

    /// All that a look found.
    fn of_work(site: &Site, work: &Work) -> Self {
        let mut skipped: BTreeSet<Vec<u8>> = work.skipped.iter().map(|path| bare(path).to_vec()).collect();
        if work.admin.as_ref().is_some_and(|admin| points_to(&site.path, admin)) {
            skipped.insert(b".git".to_vec());
        }
        // With its branch's tip it can be put back even if the branch is deleted.
        let mut commits: BTreeSet<&String> = work.detached.iter().chain(&work.tip).collect();
        commits.retain(|commit| Some(*commit) != work.head.as_ref());
        let record = Record { tip: work.tip.clone(), ..Record::new(site, Part::Work, 0, 0) };
        Self {
            title: format!("Work of {} on {}", site.mark.session, site.branch),
            path: work.is_present.then(|| site.path.clone()),
            admin: work.admin.clone(),
            head: work.head.clone(),
            commits: commits.into_iter().cloned().collect(),
            staged: work.staged.clone(),
            skipped,
            work: work.names.clone(),
            ..Self::empty(record)
        }
    }
}

/// The reference for the next save of this session.
fn next(site: &Site, before: &[(String, String)]) -> String {
    format!("{}{}", site.trash_prefix(), next_number(before))
}

pub(super) fn next_number(before: &[(String, String)]) -> u64 {
    before.iter().filter_map(|(name, _)| number(name)).max().unwrap_or(0) + 1
}

pub(super) fn number(reference: &str) -> Option<u64> {
    reference.rsplit('/').next()?.parse().ok()
}

pub(super) fn is_away(site: &Site) -> Result<bool, Failure> {
    let io = |error| Failure::io(SAVE, &site.root, &error);
    let there = |away: place::Away| away.of(site).map(|found| !found.is_empty()).map_err(io);
    Ok(there(place::Away::Leaving)? || there(place::Away::Trash)?)
}

/// The first path that only one of them has, or that they have differently.
pub(super) fn first_difference(there: &Files, saved: &Files) -> Option<String> {
    let differs = |(path, file): (&Vec<u8>, &(u32, String)), other: &Files| other.get(path) != Some(file);
    let path = there
        .iter()
        .find(|entry| differs(*entry, saved))
        .or_else(|| saved.iter().find(|entry| differs(*entry, there)));
    path.map(|(path, _)| String::from_utf8_lossy(path).into_owned())
}
