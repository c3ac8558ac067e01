//! Puts saved work beside: into a directory of its own, with a branch at its commits. The directory is filled under
//! another name, and one rename makes it the wanted one: nothing is ever written into what is anybody's. Which piece is
//! done when, and what is taken back, is decided by whoever keeps these facts.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Workspaces;
use super::place;
use super::plan::RESTORE;
use super::remove::release;
use super::restore::{compare, planned, settle};
use super::trash::TrashItem;
use crate::git::failure::{Cause, Failure};
use crate::git::lock::alone_in;
use crate::git::read::{self, blocking};
use crate::git::runner::{Account, At, Call, Length};
use crate::git::worktrees;

/// What must be known of saved work that is put beside, to go on with it or to take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    pub common: PathBuf,
    /// What it becomes; there is no link on the way.
    pub directory: PathBuf,
    /// What it is until it is whole; nobody else has this name.
    pub beside: PathBuf,
    pub branch: String,
    /// Where the branch is to be. None: nothing was committed.
    pub tip: Option<String>,
    /// All of the files are in the directory already.
    pub is_there: bool,
    /// There was no such branch when it was meant to be made.
    pub is_branch_new: bool,
    /// Device and inode of what is filled, once it is whole.
    pub made: Option<(u64, u64)>,
}

impl Workspaces {
    /// What there is to do. Refuses what would be in anybody's way, and changes nothing.
    pub async fn plan_aside(
        &self,
        item: &TrashItem,
        directory: &Path,
        branch: &str,
        tag: &str,
    ) -> Result<Aside, Failure> {
        let name = directory.file_name().ok_or_else(|| taken(directory, "it has no name"))?;
        let parent = directory.parent().ok_or_else(|| taken(directory, "it is not below a directory"))?;
        let parent = parent.canonicalize().map_err(|error| Failure::io(RESTORE, parent, &error))?;
        let directory = parent.join(name);
        let is_there = match directory.symlink_metadata() {
            Ok(found) if !found.is_dir() => return Err(taken(&directory, "it is not a directory")),
            Ok(_) => !is_empty(&directory)?,
            Err(_) => false,
        };
        if is_there {
            compare(&directory, true, planned(item).await?.files).await?;
        } else {
            may_write(&parent, item.keeper()?.as_ref())?;
        }
        let beside = parent.join(format!(".drover-restoring-{}-{tag}", item.id.replace('/', "-")));
        if beside.symlink_metadata().is_ok() {
            return Err(taken(&beside, "it is there already"));
        }
        let mut aside = Aside {
            common: item.common.clone(),
            directory,
            beside,
            branch: branch.to_owned(),
            tip: item.record.tip.clone(),
            is_there,
            is_branch_new: false,
            made: None,
        };
        self.plan_aside_branch(&mut aside)?;
        Ok(aside)
    }

    /// Whether the branch is there is asked again before it is made: afterwards nobody can tell whose it is.
    pub fn plan_aside_branch(&self, aside: &mut Aside) -> Result<(), Failure> {
        let Some(tip) = &aside.tip else { return Ok(()) };
        match read::tip(&aside.common, &aside.reference())? {
            Some(there) if there != *tip => Err(aside.branch_taken(&there)),
            there => {
                aside.is_branch_new = there.is_none();
                Ok(())
            }
        }
    }

    /// Fills the directory under its other name, over what an earlier attempt left of it.
    pub async fn fill_aside(&self, item: &TrashItem, aside: &mut Aside) -> Result<(), Failure> {
        if aside.is_there {
            return Ok(());
        }
        let (who, plan) = (item.keeper()?, planned(item).await?);
        let io = |error| Failure::io(RESTORE, &aside.beside, &error);
        make(&aside.beside, who.as_ref()).map_err(io)?;
        let target = self.target(item, &aside.beside, who.as_ref()).await?;
        self.fill(&target, plan.clone()).await?;
        compare(&aside.beside, true, plan.files).await?;
        settle(&target).await?;
        aside.made = Some(identity(&aside.beside).map_err(io)?);
        Ok(())
    }

    /// Removes what was filled. What became the wanted directory is not it any more.
    pub async fn unfill_aside(&self, aside: &Aside) -> Result<(), Failure> {
        let io = |error| Failure::io(RESTORE, &aside.beside, &error);
        match identity(&aside.beside) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => {
                if aside.made.is_some_and(|made| !found.as_ref().is_ok_and(|found| *found == made)) {
                    return Err(taken(&aside.beside, "it is not what was restored"));
                }
            }
        }
        // Whoever still writes there ends first.
        let alone = alone_in(&aside.beside, RESTORE, self.git().limit(Length::Long)).await?;
        let beside = aside.beside.clone();
        let removed = blocking(move || Ok(place::delete(&beside))).await?;
        drop(alone);
        removed.map_err(io)
    }

    pub async fn make_aside_branch(&self, aside: &Aside) -> Result<(), Failure> {
        let Some(tip) = &aside.tip else { return Ok(()) };
        let reference = aside.reference();
        let held = self.lock_at(&aside.common, RESTORE, &[format!("{reference}.lock")]).await?;
        match read::tip(&aside.common, &reference)? {
            Some(there) if there == *tip => {}
            Some(there) => return Err(aside.branch_taken(&there)),
            None => {
                let who = aside.keeper()?;
                let words = ["update-ref", &reference, tip, &"0".repeat(40)];
                let call = Call::new(RESTORE, At::Repository(&aside.common), words).by(who.as_ref());
                self.git.run(&call.holding(held.file())).await?;
            }
        }
        release(held, &aside.common)
    }

    /// Whether the branch is where it is to be.
    pub fn has_aside_branch(&self, aside: &Aside) -> Result<bool, Failure> {
        let Some(tip) = &aside.tip else { return Ok(true) };
        Ok(read::tip(&aside.common, &aside.reference())?.as_ref() == Some(tip))
    }

    /// Deletes the branch if it is this one's and nobody went on with it.
    pub async fn unmake_aside_branch(&self, aside: &Aside) -> Result<(), Failure> {
        let Some(tip) = aside.tip.as_ref().filter(|_| aside.is_branch_new) else { return Ok(()) };
        if matches!(aside.common.try_exists(), Ok(false)) {
            return Ok(());
        }
        let reference = aside.reference();
        let locks = [format!("{reference}.lock"), "packed-refs.lock".into()];
        let held = self.lock_at(&aside.common, RESTORE, &locks).await?;
        let holders = worktrees::holders_of(&aside.common, &aside.branch);
        let holders = holders.map_err(|error| Failure::io(RESTORE, &aside.common, &error))?;
        if holders.is_empty() && self.has_aside_branch(aside)? {
            let who = aside.keeper()?;
            let words = ["update-ref", "-d", &reference, tip];
            let call = Call::new(RESTORE, At::Repository(&aside.common), words).by(who.as_ref());
            self.git.run(&call.holding(held.file())).await?;
        }
        release(held, &aside.common)
    }

    /// Whether the directory is what was filled.
    pub fn is_placed(&self, aside: &Aside) -> bool {
        aside.is_there || aside.made.is_some() && identity(&aside.directory).ok() == aside.made
    }

    /// Makes it the wanted directory, which is not there or empty: a rename takes the place of nothing else.
    pub async fn place_aside(&self, aside: &Aside) -> Result<(), Failure> {
        if self.is_placed(aside) {
            return Ok(());
        }
        let found = identity(&aside.beside).map_err(|error| Failure::io(RESTORE, &aside.beside, &error))?;
        if aside.made != Some(found) {
            return Err(taken(&aside.beside, "it is not what was restored"));
        }
        let aside = aside.clone();
        blocking(move || {
            let renamed = std::fs::rename(&aside.beside, &aside.directory);
            renamed.map_err(|error| match error.kind() {
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                    taken(&aside.directory, "somebody put something there meanwhile")
                }
                _ => Failure::io(RESTORE, &aside.directory, &error),
            })?;
            let parent = aside.directory.parent().unwrap_or(&aside.directory);
            let settled = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
            settled.map_err(|error| Failure::io(RESTORE, parent, &error))
        })
        .await
    }
}

impl Aside {
    fn reference(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    fn keeper(&self) -> Result<Option<Account>, Failure> {
        super::trash::keeper(&self.common)
    }

    fn branch_taken(&self, there: &str) -> Failure {
        let place = Some(format!("it exists, at {}", there.get(..12).unwrap_or_default()));
        let cause = Cause::BranchTaken { branch: self.branch.clone(), place };
        Failure::new(RESTORE, &self.common, cause)
    }
}

fn taken(path: &Path, why: &str) -> Failure {
    Failure::new(RESTORE, path, Cause::PathTaken { path: path.to_owned(), why: why.into() })
}

fn is_empty(directory: &Path) -> Result<bool, Failure> {
    let listing = std::fs::read_dir(directory);
    let mut listing = listing.map_err(|error| Failure::io(RESTORE, directory, &error))?;
    Ok(listing.next().is_none())
}

/// Device and inode of a directory.
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    path.symlink_metadata().map(|found| (found.dev(), found.ino()))
}

/// Where a user is named it must be where he may write himself.
fn may_write(parent: &Path, who: Option<&Account>) -> Result<(), Failure> {
    let Some(who) = who else { return Ok(()) };
    let found = parent.metadata().map_err(|error| Failure::io(RESTORE, parent, &error))?;
    if found.uid() == who.uid || found.mode() & 0o002 != 0 {
        return Ok(());
    }
    let text = format!("{} is not '{}''s to write in", parent.display(), who.name);
    Err(Failure::new(RESTORE, parent, Cause::Permission(text)))
}

fn make(beside: &Path, who: Option<&Account>) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(beside) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    who.map_or(Ok(()), |who| chown(beside, Some(who.uid), Some(who.gid)))
}
