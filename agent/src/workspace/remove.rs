//! Removing a workspace: look, save, put away, drop the branch. Each step may be repeated and resumes where a killed one
//! stopped. Going away is one rename; the deleting is left to [`Workspaces::delete_put_away`], in the background.

use std::fs;
use std::path::Path;

use drover_domain::session::{Kept, Removal};

use super::create::{Stage, remove_nameless, stage};
use super::late::Look;
use super::work::{BranchFate, Work, branch_fate};
use super::{Site, Workspaces, place};
use crate::git::failure::Failure;
use crate::git::lock::Held;
use crate::git::read::{self, blocking};
use crate::git::runner::{At, Call};
use crate::git::worktrees;

const REMOVE: &str = "remove the workspace";
const DROP: &str = "drop the branch";

/// What becomes of the reference that says whose a branch is, if the branch stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    GivenUp,
    /// It stays too, unless the branch is to be a person's from now on.
    WhileItStays,
}

impl Workspaces {
    /// All of it: saves what would be lost, then removes what is the session's.
    pub async fn remove(&self, site: &Site, removal: Removal) -> Result<Kept, Failure> {
        let (work, mut look) = self.look_now(site, removal).await?;
        self.save(site, &work, &mut look).await?;
        if !work.is_present {
            self.save_vanished(site, &look).await?;
        }
        self.put_away(site).await?;
        self.let_go(site, Some(&look)).await?;
        let fate = self.drop_branch_after(site, removal, Some(&look)).await?;
        self.kept(site, &work, &fate).await
    }

    /// Takes back a creation that did not come to its end. Nobody had it yet, so there is no work to save; one that
    /// did come to its end is removed in the ordinary way.
    pub async fn undo(&self, site: &Site) -> Result<Kept, Failure> {
        let looked = site.clone();
        if blocking(move || stage(&looked)).await? == Some(Stage::CheckedOut) {
            return self.remove(site, Removal::default()).await;
        }
        let is_ours = site.entry(REMOVE)?.is_some() || place::look(site)? != place::Found::Filled;
        if is_ours {
            self.put_away(site).await?;
            self.let_go(site, None).await?;
        }
        let fate = self.drop_branch(site, Removal::default()).await?;
        Ok(Kept { branch: kept_branch(site, &fate), trash: vec![], reasons: reasons(site, None, &fate) })
    }

    /// Renames the directory out of the way and removes the session's entry. The work must have been saved.
    pub async fn put_away(&self, site: &Site) -> Result<(), Failure> {
        let held = self.lock(site, REMOVE).await?;
        let site = site.clone();
        // The lock goes along: this goes on to its end even if nobody waits for it any more.
        let held = blocking(move || {
            if place::look(&site)? != place::Found::Nothing {
                let renamed = place::Away::Leaving.take(&site, &site.path);
                renamed.map_err(|error| Failure::io(REMOVE, &site.path, &error))?;
            }
            while let Some(entry) = site.entry(REMOVE)? {
                remove_entry(&entry.admin)?;
            }
            remove_nameless(&site);
            // Succeeds only if no other worktree is left, as git itself does it.
            let _ = fs::remove_dir(site.common.join("worktrees"));
            place::tidy(&site);
            Ok(held)
        })
        .await?;
        held.release();
        Ok(())
    }

    /// Deletes the branch if nothing is lost by it. What says whose it is goes in any case.
    pub async fn drop_branch(&self, site: &Site, removal: Removal) -> Result<BranchFate, Failure> {
        self.drop_with(site, removal, None, Claim::GivenUp).await
    }

    /// Deletes the branch if nothing is lost by it, or its tip is saved first and that was asked for, as part of the
    /// removal that began with this look. The session's checkpoints go with it; what says whose the branch is stays
    /// with one that stays only for now, so that it can go later.
    pub async fn drop_branch_after(
        &self,
        site: &Site,
        removal: Removal,
        look: Option<&Look>,
    ) -> Result<BranchFate, Failure> {
        self.drop_with(site, removal, look, Claim::WhileItStays).await
    }

    async fn drop_with(
        &self,
        site: &Site,
        removal: Removal,
        look: Option<&Look>,
        claim: Claim,
    ) -> Result<BranchFate, Failure> {
        let checkpoints = read::references(&site.common, &site.wip_prefix())?;
        let locks: Vec<String> = checkpoints.iter().map(|(name, _)| format!("{name}.lock")).collect();
        let held = self.lock_for(site, DROP, &locks).await?;
        let looked = site.clone();
        let fate = blocking(move || branch_fate(&looked, removal)).await?;
        let tip = read::tip(&site.common, &site.branch_reference())?.unwrap_or_default();
        match &fate {
            BranchFate::DeletedSaved { .. } => {
                let unknown = || self.nothing_looked_at(site);
                let look = look.cloned().map_or_else(unknown, Ok)?;
                self.save_tip(site, &look, &tip).await?;
                self.delete_branch(site, &tip, &held).await?;
            }
            BranchFate::DeletedAtBase | BranchFate::DeletedMerged => {
                self.delete_branch(site, &tip, &held).await?
            }
            BranchFate::Absent
            | BranchFate::KeptAsAsked
            | BranchFate::KeptUnmerged { .. }
            | BranchFate::KeptCheckedOut { .. }
            | BranchFate::KeptNotOurs => {}
        }
        let keeps_base = claim == Claim::WhileItStays && fate.is_for_now();
        self.drop_own_references(site, keeps_base, &held).await?;
        release(held, &site.common)?;
        Ok(fate)
    }

    /// Deletes for good what was put away below `root`, and returns how many workspaces that were.
    pub async fn delete_put_away(&self, root: &Path) -> Result<u64, Failure> {
        let root = root.to_owned();
        blocking(move || {
            let io = |error| Failure::io("delete removed workspaces", &root, &error);
            let mut count = 0;
            for (_, path) in place::Away::Trash.all(&root).map_err(io)? {
                place::delete(&path)
                    .map_err(|error| Failure::io("delete a removed workspace", &path, &error))?;
                count += 1;
            }
            Ok(count)
        })
        .await
    }

    async fn kept(&self, site: &Site, work: &Work, fate: &BranchFate) -> Result<Kept, Failure> {
        let (common, prefix) = (site.common.clone(), site.trash_prefix());
        let trash = blocking(move || read::references(&common, &prefix)).await?;
        let trash = trash.into_iter().map(|(name, _)| name.into_boxed_str()).collect();
        Ok(Kept { branch: kept_branch(site, fate), trash, reasons: reasons(site, Some(work), fate) })
    }

    /// What says whose the branch was, and the checkpoints, of which the trash has what the workspace had not. If
    /// another agent has this session here they are that one's.
    async fn drop_own_references(&self, site: &Site, keeps_base: bool, held: &Held) -> Result<(), Failure> {
        if site.elsewhere(DROP)?.is_some() {
            return Ok(());
        }
        let base = read::tip(&site.common, &site.base_reference())?;
        let base = base.filter(|_| !keeps_base).map(|commit| (site.base_reference(), commit));
        let orders: String = read::references(&site.common, &site.wip_prefix())?
            .into_iter()
            .chain(base)
            .map(|(name, commit)| format!("delete {name} {commit}\n"))
            .collect();
        if orders.is_empty() {
            return Ok(());
        }
        let call = self.edit(site, &["update-ref", "--stdin"]).reading(orders.as_bytes());
        self.git.run(&call.holding(held.file())).await.map(drop)
    }

    /// Only at the commit that was judged; with its settings.
    async fn delete_branch(&self, site: &Site, tip: &str, held: &Held) -> Result<(), Failure> {
        let words = ["update-ref", "-d", &site.branch_reference(), tip];
        self.git.run(&self.edit(site, &words).holding(held.file())).await?;
        let section = format!("[branch \"{}\"]", site.branch);
        let config = fs::read_to_string(site.common.join("config")).unwrap_or_default();
        if config.contains(&section) {
            let section = format!("branch.{}", site.branch);
            let words = ["config", "--local", "--remove-section", &section];
            self.git.run(&self.edit(site, &words).holding(held.file())).await?;
        }
        Ok(())
    }

    fn edit<'a>(&self, site: &'a Site, words: &[&str]) -> Call<'a> {
        Call::new(DROP, At::Repository(&site.common), words).by(site.run_as.as_ref())
    }
}

fn kept_branch(site: &Site, fate: &BranchFate) -> Option<Box<str>> {
    fate.keeps().then(|| site.branch.clone().into())
}

fn reasons(site: &Site, work: Option<&Work>, fate: &BranchFate) -> Vec<Box<str>> {
    let mut reasons: Vec<Box<str>> = fate.reason(&site.branch).map(Into::into).into_iter().collect();
    let Some(work) = work else { return reasons };
    reasons.extend(work.told().into_iter().map(Into::into));
    reasons
}

/// The lock with the mark goes last, so that a half-removed entry is still known as ours.
fn remove_entry(admin: &Path) -> Result<(), Failure> {
    let io = |error| Failure::io(REMOVE, admin, &error);
    for item in fs::read_dir(admin).map_err(io)? {
        let item = item.map_err(io)?;
        if item.file_name() == "locked" {
            continue;
        }
        let is_directory = item.file_type().map_err(io)?.is_dir();
        let result =
            if is_directory { fs::remove_dir_all(item.path()) } else { fs::remove_file(item.path()) };
        result.map_err(io)?;
    }
    fs::remove_dir_all(admin).map_err(io)
}

/// Lets a repository's lock go, with its file and the empty directories of references if nothing needs them any more.
pub(super) fn release(held: Held, common: &Path) -> Result<(), Failure> {
    if !is_drovers_last(common)? {
        held.release();
        return Ok(());
    }
    // Git leaves them when they are empty; saved work keeps them.
    for empty in ["refs/drover/base", "refs/drover/wip", "refs/drover/trash", "refs/drover"] {
        let _ = fs::remove_dir(common.join(empty));
    }
    held.release_for_good(common);
    Ok(())
}

/// Whether no workspace of Drover's is left in the repository. Saved work and branches that stay for now do not need the
/// lock's file: whoever removes them makes it again.
fn is_drovers_last(common: &Path) -> Result<bool, Failure> {
    let entries = worktrees::entries(common).map_err(|error| Failure::io(DROP, common, &error))?;
    let is_marked = |locked: &str| locked.starts_with("drover:");
    Ok(!entries.iter().any(|entry| entry.locked.as_deref().is_some_and(is_marked)))
}
