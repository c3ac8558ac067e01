//! What a removal would find in a workspace: the one look that both the preview and the removal take. Lists are bounded;
//! their counts are not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use drover_domain::session::Removal;

use super::create::points_to;
use super::status::{Ignored, Status};
use super::{Site, Workspaces, place, walk};
use crate::git::failure::Failure;
use crate::git::read::{self, blocking};
use crate::git::worktrees::{self, Entry, Head};

/// The work in a workspace, and what becomes of its branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The workspace's directory is there.
    pub is_present: bool,
    /// Tracked files that differ from the last commit, or that git was told to overlook.
    pub changed: Listing,
    pub untracked: Listing,
    /// Ignored files that will be saved.
    pub ignored: Listing,
    /// Ignored files that can be made again: deleted without being saved.
    pub regenerable: Listing,
    /// A rebase, merge or the like that was not finished.
    pub unfinished: Option<&'static str>,
    /// Submodules have repositories of their own in the workspace.
    pub has_submodules: bool,
    /// Commits made here that no branch, remote or tag reaches.
    pub detached: Vec<String>,
    pub branch: BranchFate,
    pub(super) staged: BTreeSet<String>,
    pub(super) head: Option<String>,
    /// Where the branch is.
    pub(super) tip: Option<String>,
    /// Every path that is work; a directory ends with a slash.
    pub(super) names: BTreeSet<Vec<u8>>,
    pub(super) admin: Option<PathBuf>,
    pub(super) skipped: BTreeSet<Vec<u8>>,
}

/// Paths with their sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub count: u64,
    pub bytes: u64,
    /// The first of them; a directory ends with a slash.
    pub items: Vec<Item>,
    /// False: there was too much to measure it all.
    pub is_measured: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub path: String,
    pub bytes: u64,
}

/// What removal does to the branch, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BranchFate {
    Absent,
    /// Nothing was committed on it.
    DeletedAtBase,
    /// Everything on it is on another branch, a remote or a tag.
    DeletedMerged,
    /// Deleted after its tip went to the trash.
    DeletedSaved {
        commits: u64,
    },
    KeptAsAsked,
    KeptUnmerged {
        commits: u64,
    },
    KeptCheckedOut {
        at: PathBuf,
    },
    /// It does not bear this session's reference.
    KeptNotOurs,
}

const LOOK: &str = "look for unsaved work";
const MOST_ITEMS: usize = 200;
const MOST_MEASURED: u64 = 200_000;

impl Work {
    /// What is saved and what is not, in words for the person.
    pub fn told(&self) -> Vec<String> {
        let counted = |listing: &Listing, what: &str| {
            (listing.count > 0).then(|| format!("{} {what} ({} bytes)", listing.count, listing.bytes))
        };
        let saved = [
            counted(&self.changed, "changed"),
            counted(&self.untracked, "untracked"),
            counted(&self.ignored, "ignored"),
            self.unfinished.map(|what| format!("{what} that was not finished")),
            self.has_submodules.then(|| "submodules".to_owned()),
            (!self.detached.is_empty()).then(|| format!("{} commits on no branch", self.detached.len())),
        ];
        let saved: Vec<String> = saved.into_iter().flatten().collect();
        let again = self.regenerable.items.iter();
        let mut lines: Vec<String> = again
            .map(|item| format!("deleted, can be made again: {} ({} bytes)", item.path, item.bytes))
            .collect();
        if !saved.is_empty() {
            lines.insert(0, format!("saved to the trash: {}", saved.join(", ")));
        }
        lines
    }

    /// Of the files that are work.
    pub fn bytes(&self) -> u64 {
        self.changed.bytes + self.untracked.bytes + self.ignored.bytes
    }

    /// Whether anything would be lost if it were not saved first.
    pub fn is_unsaved(&self) -> bool {
        let files = [&self.changed, &self.untracked, &self.ignored].iter().any(|listing| listing.count > 0);
        files || self.has_submodules || self.unfinished.is_some() || !self.detached.is_empty()
    }
}

impl BranchFate {
    pub fn keeps(&self) -> bool {
        match self {
            Self::KeptAsAsked
            | Self::KeptUnmerged { .. }
            | Self::KeptCheckedOut { .. }
            | Self::KeptNotOurs => true,
            Self::Absent | Self::DeletedAtBase | Self::DeletedMerged | Self::DeletedSaved { .. } => false,
        }
    }

    /// It stays only for now: it is this session's, and may go once nothing is lost by it.
    pub fn is_for_now(&self) -> bool {
        match self {
            Self::KeptUnmerged { .. } | Self::KeptCheckedOut { .. } => true,
            Self::Absent
            | Self::DeletedAtBase
            | Self::DeletedMerged
            | Self::DeletedSaved { .. }
            | Self::KeptAsAsked
            | Self::KeptNotOurs => false,
        }
    }

    /// Why the branch stays; none if it does not.
    pub fn reason(&self, branch: &str) -> Option<String> {
        match self {
            Self::KeptAsAsked => Some(format!("branch {branch}: kept as asked")),
            Self::KeptUnmerged { commits } => {
                let commits = if *commits == 1 { "1 commit".into() } else { format!("{commits} commits") };
                Some(format!("branch {branch}: {commits} on no other branch"))
            }
            Self::KeptCheckedOut { at } => Some(format!("branch {branch}: checked out at {}", at.display())),
            Self::KeptNotOurs => Some(format!("branch {branch}: nothing says that this session made it")),
            Self::Absent | Self::DeletedAtBase | Self::DeletedMerged | Self::DeletedSaved { .. } => None,
        }
    }
}

impl Workspaces {
    /// Looks; changes nothing.
    pub async fn look(&self, site: &Site, removal: Removal) -> Result<Work, Failure> {
        let found = place::look(site)?;
        let entry = site.entry(LOOK)?;
        let is_present = found != place::Found::Nothing;
        let status = match &entry {
            Some(entry) if is_present => Some(self.status(site, &entry.admin, Ignored::Named).await?),
            _ => None,
        };
        let regenerable = self.regenerable.clone();
        let site = site.clone();
        blocking(move || {
            let mut work = Work::new(&site, entry.as_ref(), is_present);
            work.add_files(&site, status, found, &regenerable);
            if let Some(admin) = &work.admin {
                work.detached = only_here(&site, admin, work.head.as_ref())?;
            }
            work.branch = branch_fate(&site, removal)?;
            Ok(work)
        })
        .await
    }
}

impl Work {
    fn new(site: &Site, entry: Option<&Entry>, is_present: bool) -> Self {
        let admin = entry.map(|entry| entry.admin.clone());
        let modules = admin.as_ref().and_then(|admin| fs::read_dir(admin.join("modules")).ok());
        Self {
            is_present,
            changed: Listing::default(),
            untracked: Listing::default(),
            ignored: Listing::default(),
            regenerable: Listing::default(),
            unfinished: admin.as_deref().and_then(unfinished),
            has_submodules: modules.is_some_and(|mut modules| modules.next().is_some()),
            detached: vec![],
            branch: BranchFate::Absent,
            staged: BTreeSet::new(),
            head: entry.and_then(|entry| head(site, entry)),
            tip: read::tip(&site.common, &site.branch_reference()).ok().flatten(),
            names: BTreeSet::new(),
            admin,
            skipped: BTreeSet::new(),
        }
    }

    fn add_files(
        &mut self,
        site: &Site,
        status: Option<Status>,
        found: place::Found,
        regenerable: &[Box<str>],
    ) {
        let Some(mut status) = status else {
            if found == place::Found::Filled {
                // Git knows nothing of this directory any more, so all of it counts as work.
                self.names = BTreeSet::from([b"./".to_vec()]);
                self.untracked = listing(site, &self.names);
            }
            return;
        };
        if self.admin.as_ref().is_none_or(|admin| lost_its_pointer(site, admin)) {
            status.untracked.insert(b".git".to_vec());
        }
        // Only the ignored directory's own name counts: one above it may be tracked, whatever it is called, and a file or
        // a link of that name is somebody's.
        let may_go = |path: &Vec<u8>| {
            let Some(own) = path.strip_suffix(b"/") else { return false };
            let own = own.rsplit(|byte| *byte == b'/').next().unwrap_or(own);
            let is_regenerable = regenerable.iter().any(|name| name.as_bytes() == own);
            is_regenerable && !walk::holds_repository(&site.path.join(path_of(path)))
        };
        let (skipped, ignored) = status.ignored.into_iter().partition(may_go);
        self.changed = listing(site, &status.changed);
        self.untracked = listing(site, &status.untracked);
        self.ignored = listing(site, &ignored);
        self.regenerable = listing(site, &skipped);
        self.names = [status.changed, status.untracked, ignored].into_iter().flatten().collect();
        self.skipped = skipped;
        self.staged = status.staged;
    }
}

/// Commits that only this worktree leads to: its HEAD, where that was before, its own references, and whatever an
/// unfinished rebase, merge or bisection wrote down. What the trash has may be purged before this is.
pub(super) fn only_here(site: &Site, admin: &Path, head: Option<&String>) -> Result<Vec<String>, Failure> {
    let mut commits: Vec<String> = head.into_iter().cloned().collect();
    walk::walk(admin, &|path| OBJECTS.contains(&path), &mut |found| {
        if let walk::Kind::File { file: Some(mut file), .. } = found.kind {
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            commits.extend(ids(&text));
        }
        Ok(())
    })
    .map_err(|broken| Failure::io(LOOK, &broken.path, &broken.error))?;
    commits.sort();
    commits.dedup();
    Ok(read::unreached(&site.common, &commits, None, std::slice::from_ref(&site.base))?.asked)
}

/// What of a worktree's administrative files names no commits: its index, and submodules' own repositories.
const OBJECTS: [&[u8]; 2] = [b"index", b"modules"];

/// Everything in a text that looks like an object's id.
fn ids(text: &[u8]) -> impl Iterator<Item = String> {
    let words = text.split(|byte| !byte.is_ascii_hexdigit()).filter(|word| word.len() == 40);
    words.filter(|id| id.iter().any(|c| *c != b'0')).map(|id| String::from_utf8_lossy(id).into_owned())
}

/// What becomes of the branch as things are; asked again, under the lock, before anything is done to it.
pub(super) fn branch_fate(site: &Site, removal: Removal) -> Result<BranchFate, Failure> {
    let reference = site.branch_reference();
    let Some(tip) = read::tip(&site.common, &reference)? else { return Ok(BranchFate::Absent) };
    if read::tip(&site.common, &site.base_reference())?.is_none() {
        return Ok(BranchFate::KeptNotOurs);
    }
    if removal.keep_branch {
        return Ok(BranchFate::KeptAsAsked);
    }
    if let Some(at) = checked_out_elsewhere(site)? {
        return Ok(BranchFate::KeptCheckedOut { at });
    }
    if tip == site.base {
        return Ok(BranchFate::DeletedAtBase);
    }
    let left = read::unreached(&site.common, &[tip], Some(&reference), &[])?;
    Ok(match left.count {
        0 => BranchFate::DeletedMerged,
        commits if removal.force_branch => BranchFate::DeletedSaved { commits },
        commits => BranchFate::KeptUnmerged { commits },
    })
}

fn checked_out_elsewhere(site: &Site) -> Result<Option<PathBuf>, Failure> {
    let io = |error| Failure::io(LOOK, &site.common, &error);
    let holders = worktrees::holders_of(&site.common, &site.branch).map_err(io)?;
    let own = site.entry(LOOK)?;
    let is_own =
        |at: &PathBuf| own.as_ref().is_some_and(|own| own.path.as_ref() == Some(at) || &own.admin == at);
    match holders.into_iter().find(|at| !is_own(at)) {
        Some(at) => Ok(Some(at)),
        None => site.elsewhere(LOOK),
    }
}

/// Whether a repository of its own took the place of git's pointer; git overlooks it.
pub(super) fn lost_its_pointer(site: &Site, admin: &Path) -> bool {
    site.path.join(".git").symlink_metadata().is_ok() && !points_to(&site.path, admin)
}

pub(super) fn head(site: &Site, entry: &Entry) -> Option<String> {
    match entry.head.as_ref()? {
        Head::Detached(commit) => Some(commit.clone()),
        Head::Branch(name) if name.starts_with("refs/") => read::tip(&site.common, name).ok()?,
        Head::Branch(name) => read::tip(&site.common, &format!("refs/heads/{name}")).ok()?,
    }
}

pub(super) fn unfinished(admin: &Path) -> Option<&'static str> {
    let signs = [
        ("rebase-merge", "a rebase"),
        ("rebase-apply", "a rebase"),
        ("MERGE_HEAD", "a merge"),
        ("CHERRY_PICK_HEAD", "a cherry-pick"),
        ("REVERT_HEAD", "a revert"),
        ("BISECT_LOG", "a bisection"),
    ];
    signs.iter().find(|(file, _)| admin.join(file).exists()).map(|(_, what)| *what)
}

fn listing(site: &Site, paths: &BTreeSet<Vec<u8>>) -> Listing {
    let mut listing = Listing { count: paths.len() as u64, is_measured: true, ..Listing::default() };
    let mut budget = MOST_MEASURED;
    for path in paths {
        let full = site.path.join(path_of(path));
        let bytes = match full.symlink_metadata() {
            Ok(found) if found.is_dir() => {
                let (bytes, files, is_all) = walk::measure(&full, budget);
                budget = budget.saturating_sub(files);
                listing.is_measured &= is_all;
                bytes
            }
            Ok(found) => found.len(),
            Err(_) => 0,
        };
        listing.bytes += bytes;
        if listing.items.len() < MOST_ITEMS {
            listing.items.push(Item { path: String::from_utf8_lossy(path).into_owned(), bytes });
        }
    }
    listing
}

pub(super) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
