//! The trash as a person sees it: one item for each removal, read from references and what the saved commits say of
//! themselves; there is no other list. An item goes only by name or by age, and only as it was seen: what was saved
//! since stays. What belongs to another installation or node is not listed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_domain::id::SessionId;
use serde::{Deserialize, Serialize};

use super::names::restored;
use super::plan::Plan;
use super::record::{Part, Record};
use super::remove::release;
use super::save::number;
use super::{Site, Workspaces};
use crate::git::failure::{Cause, Failure};
use crate::git::read::{self, Objects, blocking};
use crate::git::runner::{Account, At, Call};
use crate::git::worktrees::Mark;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrashRules {
    /// The most bytes of work in one repository's trash; none: as much as the disk holds.
    pub budget: Option<u64>,
    pub ttl: Duration,
}

impl Default for TrashRules {
    fn default() -> Self {
        Self { budget: None, ttl: Duration::from_secs(30 * 24 * 60 * 60) }
    }
}

/// Whose the saved work is: short ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub installation: String,
    pub node: String,
}

/// What one removal saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrashItem {
    /// The session, and for a later removal of the same one its number: `ses_…/4`.
    pub id: String,
    /// The repository that it is in.
    pub common: PathBuf,
    /// Of its first part, with the bytes and files of all, and where the branch was.
    pub record: Record,
    /// The work first, then what came late.
    pub parts: Vec<Saved>,
}

/// One reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub reference: String,
    pub commit: String,
    pub part: Part,
}

/// The files of an item: the first of them, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub count: u64,
    /// Their own names, with their sizes.
    pub files: Vec<(Vec<u8>, u64)>,
}

const TRASH: &str = "refs/drover/trash/";
const LIST: &str = "list the trash";
const PURGE: &str = "purge the trash";

impl Owner {
    pub fn of(mark: &Mark) -> Self {
        Self { installation: mark.installation.clone(), node: mark.node.clone() }
    }

    /// Whose a saved commit says that it is, and of which session. It lies where the session's user can write.
    pub fn said_by(common: &Path, commit: &str) -> Option<(Self, SessionId)> {
        let record = Record::read(&read::state(common, commit).ok()??.session)?;
        let session = record.session.parse().ok()?;
        Some((Self { installation: record.installation, node: record.node }, session))
    }

    pub fn is_of(&self, mark: &Mark) -> bool {
        (&self.installation, &self.node) == (&mark.installation, &mark.node)
    }
}

impl TrashItem {
    pub(super) fn part(&self, part: Part) -> Option<&Saved> {
        self.parts.iter().find(|saved| saved.part == part)
    }

    /// The commit that was checked out.
    pub(super) fn head(&self) -> Result<Option<String>, Failure> {
        let Some(saved) = self.parts.first() else { return Ok(None) };
        let state = read::state(&self.common, &saved.commit)?.map(|state| state.commit);
        let first = read::parents(&self.common, &saved.commit)?.into_iter().next();
        Ok(first.filter(|first| Some(first) != state.as_ref()))
    }

    /// As whom it is taken out of the trash: what it says of that itself does not count.
    pub fn keeper(&self) -> Result<Option<Account>, Failure> {
        keeper(&self.common)
    }

    /// Whether it is older than saved work has to be kept.
    pub fn is_expired(&self, now_millis: i64, ttl: Duration) -> bool {
        let age = now_millis.saturating_sub(self.record.created_millis);
        // One that was saved in the future has no age.
        u64::try_from(age).is_ok_and(|age| u128::from(age) >= ttl.as_millis())
    }
}

impl Workspaces {
    /// Everything saved in these repositories for this installation and node, the oldest first. A repository that
    /// cannot be read has nothing to show.
    pub async fn trash(&self, commons: &[PathBuf], owner: &Owner) -> Vec<TrashItem> {
        let mut all = Vec::new();
        for common in commons {
            let (looked, owner) = (common.clone(), owner.clone());
            match blocking(move || items(&looked, &owner)).await {
                Ok(items) => all.extend(items),
                Err(failure) => {
                    tracing::warn!(repository = %common.display(), "its trash cannot be listed: {failure}")
                }
            }
        }
        all.sort_by(|a, b| (a.record.created_millis, &a.id).cmp(&(b.record.created_millis, &b.id)));
        all
    }

    /// The item's files, `most` of them at most.
    pub async fn show(&self, item: &TrashItem, most: usize) -> Result<Contents, Failure> {
        let item = item.clone();
        blocking(move || {
            let plan = Plan::of(&item)?;
            let objects = Objects::of(&item.common)?;
            let mut contents = Contents { count: plan.files.len() as u64, files: vec![] };
            for (path, (_, id)) in plan.files.iter().take(most) {
                contents.files.push((restored(path), objects.size(id)?));
            }
            Ok(contents)
        })
        .await
    }

    /// Whether nothing of these is left as it was seen. With its repository everything is gone.
    pub fn is_purged(&self, common: &Path, parts: &[Saved]) -> Result<bool, Failure> {
        if matches!(common.try_exists(), Ok(false)) {
            return Ok(true);
        }
        for Saved { reference, commit, .. } in parts {
            if read::tip(common, reference)?.as_ref() == Some(commit) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deletes these for good, as they were seen. Done again it changes nothing.
    pub async fn purge(&self, common: &Path, parts: &[Saved]) -> Result<(), Failure> {
        let names: Vec<String> = parts.iter().map(|saved| format!("{}.lock", saved.reference)).collect();
        let held = self.lock_at(common, PURGE, &[names, vec!["packed-refs.lock".into()]].concat()).await?;
        let mut orders = String::new();
        for Saved { reference, commit, .. } in parts {
            if read::tip(common, reference)?.is_some() {
                let _ = writeln!(orders, "delete {reference} {commit}");
            }
        }
        if !orders.is_empty() {
            let who = keeper(common)?;
            let call = Call::new(PURGE, At::Repository(common), ["update-ref", "--stdin"]).by(who.as_ref());
            self.git.run(&call.reading(orders.as_bytes()).holding(held.file())).await?;
        }
        release(held, common)
    }

    /// Those that are older than saved work has to be kept.
    pub async fn expired(&self, commons: &[PathBuf], owner: &Owner, now_millis: i64) -> Vec<TrashItem> {
        let mut all = self.trash(commons, owner).await;
        all.retain(|item| item.is_expired(now_millis, self.trash.ttl));
        all
    }

    /// Refuses what the repository's trash has no room for, if not enough of it has expired.
    pub(super) async fn make_room(&self, site: &Site, needed: u64) -> Result<(), Failure> {
        let Some(budget) = self.trash.budget else { return Ok(()) };
        let (common, owner) = (site.common.clone(), Owner::of(&site.mark));
        let mut held = self.held(&common, &owner).await?;
        if held.saturating_add(needed) > budget {
            let now = self.git.clock().wall_millis();
            for item in self.expired(std::slice::from_ref(&common), &owner, now).await {
                if let Err(failure) = self.purge(&item.common, &item.parts).await {
                    tracing::warn!(item = item.id, "stays in the trash: {failure}");
                }
            }
            held = self.held(&common, &owner).await?;
        }
        if held.saturating_add(needed) > budget {
            let cause = Cause::TrashFull { held, needed, budget };
            return Err(Failure::new("save the work", &site.path, cause));
        }
        Ok(())
    }

    async fn held(&self, common: &Path, owner: &Owner) -> Result<u64, Failure> {
        let (common, owner) = (common.to_owned(), owner.clone());
        let items = blocking(move || items(&common, &owner)).await?;
        Ok(items.iter().map(|item| item.record.bytes).sum())
    }
}

/// Those of one repository.
fn items(common: &Path, owner: &Owner) -> Result<Vec<TrashItem>, Failure> {
    let mut removals: BTreeMap<(String, u64), Vec<(Saved, Record)>> = BTreeMap::new();
    for (reference, commit) in read::references(common, TRASH)? {
        let session = reference.strip_prefix(TRASH).and_then(|rest| rest.split_once('/')).map(|(id, _)| id);
        let session = session.and_then(|id| id.parse::<SessionId>().ok()).map(|id| id.to_string());
        let record = read::state(common, &commit)?.and_then(|state| Record::read(&state.session));
        let (Some(session), Some(record)) = (session, record) else { continue };
        // What it says of itself must fit where it lies.
        let is_ours = record.session == session
            && (&record.installation, &record.node) == (&owner.installation, &owner.node);
        if is_ours {
            let saved = Saved { reference, commit, part: record.part };
            removals.entry((session, record.removal)).or_default().push((saved, record));
        }
    }
    Ok(removals
        .into_iter()
        .filter_map(|((session, removal), parts)| item(common, session, removal, parts))
        .collect())
}

fn item(common: &Path, session: String, removal: u64, mut parts: Vec<(Saved, Record)>) -> Option<TrashItem> {
    parts.sort_by_key(|(saved, _)| (saved.part, number(&saved.reference)));
    let mut record = parts.first()?.1.clone();
    record.bytes = parts.iter().map(|(_, record)| record.bytes).sum();
    record.files = parts.iter().map(|(_, record)| record.files).sum();
    record.tip = parts.iter().find_map(|(_, record)| record.tip.clone());
    let id = if removal == 1 { session } else { format!("{session}/{removal}") };
    let parts = parts.into_iter().map(|(saved, _)| saved).collect();
    Some(TrashItem { id, common: common.to_owned(), record, parts })
}

/// As whom a repository's references are changed, or a directory removed, when no session asks for it: its owner. What
/// a saved commit says of that does not count, as whoever may write to the repository wrote it.
pub fn keeper(common: &Path) -> Result<Option<Account>, Failure> {
    let found = common.metadata().map_err(|error| Failure::io(LIST, common, &error))?;
    let own = rustix::process::geteuid();
    let is_other = own.is_root() && found.uid() != own.as_raw();
    Ok(is_other.then(|| Account {
        name: format!("#{}", found.uid()),
        uid: found.uid(),
        gid: found.gid(),
        home: "/nonexistent".into(),
    }))
}
