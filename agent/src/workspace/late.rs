//! What is written into a workspace while it is removed. Between the look and the rename somebody may still write, and
//! whoever is inside goes on after it: so everything that the kernel saw change since the look, and that is kept nowhere
//! as it is, is saved too, again and again until nothing more comes. Only then may the directory be deleted.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use drover_domain::presence::Presence;
use drover_domain::session::Removal;
use serde::{Deserialize, Serialize};

use super::archive::{Archive, bare};
use super::create::points_to;
use super::names::POINTER;
use super::place::Away;
use super::record::{Label, Part, Record};
use super::save::next_number;
use super::work::Work;
use super::{Site, Workspaces};
use crate::git::failure::{Cause, Failure};
use crate::git::read::{self, blocking, bytes_id};

/// When a look at a workspace was begun, and what it did not have to save.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// In milliseconds since 1970.
    since: i64,
    /// The commit that was checked out.
    pub(super) head: Option<String>,
    pub(super) skipped: BTreeSet<Vec<u8>>,
    /// The id of git's own pointer to the worktree's entry, which is no work.
    pointer: Option<String>,
    /// The number that everything saved for this removal bears.
    #[serde(default)]
    pub(super) removal: u64,
    /// The caller's words for what is saved.
    #[serde(default)]
    pub label: Label,
}

/// Files that are kept somewhere: the path in a tree, its mode, the id of its content.
type KeptFiles = HashSet<(Vec<u8>, (u32, String))>;

const LET_GO: &str = "let the workspace go";
/// Somebody who still writes after so many rounds will not stop by himself.
const ROUNDS: usize = 8;
/// The kernel stamps changes by a clock that lags by up to a tick.
const LAG_NANOS: i128 = 20_000_000;

impl Workspaces {
    /// A look, and what is to be remembered of it.
    pub async fn look_now(&self, site: &Site, removal: Removal) -> Result<(Work, Look), Failure> {
        let since = self.git.clock().wall_millis();
        let work = self.look(site, removal).await?;
        let is_ours = work.admin.as_ref().is_some_and(|admin| points_to(&site.path, admin));
        let pointer = fs::read(site.path.join(".git")).ok().filter(|_| is_ours);
        let look = Look {
            since,
            head: work.head.clone(),
            skipped: work.skipped.iter().map(|path| bare(path).to_vec()).collect(),
            pointer: pointer.and_then(|bytes| bytes_id(&bytes).ok()),
            removal: next_number(&read::references(&site.common, &site.trash_prefix())?),
            label: Label::default(),
        };
        Ok((work, look))
    }

    /// For what is saved without anybody having looked.
    pub(super) fn nothing_looked_at(&self, site: &Site) -> Result<Look, Failure> {
        let removal = next_number(&read::references(&site.common, &site.trash_prefix())?);
        Ok(Look { since: self.git.clock().wall_millis(), removal, ..Look::default() })
    }

    /// For a directory that an earlier removal renamed away, and of whose look nothing is known: everything in it may have
    /// come late.
    pub fn look_at_left(&self, site: &Site, label: &Label) -> Result<Look, Failure> {
        let head = read::tip(&site.common, &site.branch_reference())?;
        let look = self.nothing_looked_at(site)?;
        let head = head.or_else(|| Some(site.base.clone()));
        Ok(Look { since: 0, head, label: label.clone(), ..look })
    }

    /// Directories of the session that were renamed away and not given up yet.
    pub fn leaving(&self, site: &Site) -> Result<Vec<PathBuf>, Failure> {
        Away::Leaving.of(site).map_err(|error| Failure::io(LET_GO, &site.root, &error))
    }

    /// Whether something of the session was renamed away and not given up yet.
    pub async fn probe_leaving(&self, site: &Site) -> Presence<()> {
        match Away::Leaving.of(site) {
            Ok(found) if found.is_empty() => Presence::Absent,
            Ok(_) => Presence::Present(()),
            Err(error) => Presence::Unknown(error.to_string()),
        }
    }

    /// Gives up what was renamed away, once nothing is in it that is kept nowhere. Returns how many files came late.
    /// Without a look nobody ever had it.
    pub async fn let_go(&self, site: &Site, look: Option<&Look>) -> Result<usize, Failure> {
        let io = |error| Failure::io(LET_GO, &site.root, &error);
        let mut count = 0;
        for directory in Away::Leaving.of(site).map_err(io)? {
            if let Some(look) = look {
                count += self.save_what_came(site, &directory, look).await?;
            }
            Away::Trash.take(site, &directory).map_err(io)?;
        }
        Ok(count)
    }

    async fn save_what_came(&self, site: &Site, directory: &Path, look: &Look) -> Result<usize, Failure> {
        let (mut since, mut count) = (look.since, 0);
        for _ in 0..ROUNDS {
            let cutoff = i128::from(since) * 1_000_000 - LAG_NANOS;
            since = self.git.clock().wall_millis();
            let (place, known, from) = (site.clone(), look.clone(), directory.to_owned());
            let files = blocking(move || {
                let archive = Archive {
                    path: Some(from),
                    skipped: known.skipped.clone(),
                    ..Archive::empty(Record::new(&place, Part::Late, 0, 0))
                };
                let found = archive.files(&|found| found.changed >= cutoff);
                let mut files = found.map_err(|broken| Failure::io(LET_GO, &broken.path, &broken.error))?;
                // Mostly nothing changed, and no tree has to be read.
                if !files.is_empty() {
                    let kept = kept(&place, &known)?;
                    files.retain(|path, file| !kept.contains(&(path.clone(), file.clone())));
                }
                Ok(files)
            })
            .await?;
            if files.is_empty() {
                return Ok(count);
            }
            count += files.len();
            self.save_late(site, look, directory.to_owned(), files).await?;
        }
        let why = format!("something still writes in it, which is {} now", directory.display());
        Err(Failure::new(LET_GO, &site.path, Cause::WorkNotSaveable(why)))
    }
}

/// Every file that the checked-out commit or the session's saved work has, as it has it.
fn kept(site: &Site, look: &Look) -> Result<KeptFiles, Failure> {
    let saved = read::references(&site.common, &site.trash_prefix())?.into_iter().map(|(_, commit)| commit);
    let pointer = look.pointer.iter().map(|id| (POINTER.to_vec(), (0o100_644, id.clone())));
    let mut kept: KeptFiles = pointer.collect();
    for commit in saved.chain(look.head.clone()) {
        kept.extend(read::files(&site.common, &commit)?);
    }
    Ok(kept)
}
