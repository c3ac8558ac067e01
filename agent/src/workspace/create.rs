//! Making a workspace: the branch with the reference that says whose it is, the worktree's entry, the files. Each step
//! first puts right what a kill in the middle of it left, and does nothing if it was done. Only the first two hold
//! the repository's lock; the files are written beside other sessions' files.

use std::fs;
use std::path::Path;

use drover_domain::presence::Presence;

use super::{Site, Workspaces, place};
use crate::git::failure::{Cause, Failure};
use crate::git::lock::{Held, alone_in};
use crate::git::read::{self, blocking};
use crate::git::runner::{At, Call, Length};
use crate::git::worktrees::{self, Entry, Head};

/// A session's branch, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    pub tip: String,
    /// The session's base reference stands beside it: it was made by Drover for this session.
    pub is_ours: bool,
}

/// How far a worktree has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Parts of an entry, or a directory without one.
    Half,
    /// Registered, locked, on its branch; no files yet, or not all of them.
    Registered,
    /// All files were there once. What is in it since is the session's.
    CheckedOut,
}

const BRANCH: &str = "make the branch";
const WORKTREE: &str = "make the worktree";
const FILES: &str = "check out the files";

impl Workspaces {
    /// All of it, for those who keep no ledger.
    pub async fn create(&self, site: &Site) -> Result<(), Failure> {
        self.make_branch(site, true).await?;
        self.make_worktree(site).await?;
        self.check_out(site).await
    }

    pub async fn probe_branch(&self, site: &Site) -> Presence<Branch> {
        match branch(site).await {
            Ok(Some(branch)) => Presence::Present(branch),
            Ok(None) => Presence::Absent,
            Err(failure) => Presence::Unknown(failure.to_string()),
        }
    }

    /// Makes the branch at the base. One that is there is adopted only if the ledger (`ours`) and its reference say
    /// that this session made it and it is still at its base.
    pub async fn make_branch(&self, site: &Site, ours: bool) -> Result<(), Failure> {
        let held = self.lock(site, BRANCH).await?;
        match branch(site).await? {
            Some(found) if ours && found.is_ours && found.tip == site.base => {}
            Some(found) => return Err(taken(site, &found)),
            None => {
                let (base, branch, commit) = (site.base_reference(), site.branch_reference(), &site.base);
                let orders = format!("update {base} {commit}\ncreate {branch} {commit}\n");
                let call = Call::new(BRANCH, At::Repository(&site.common), ["update-ref", "--stdin"]);
                let call = call.by(site.run_as.as_ref()).reading(orders.as_bytes()).holding(held.file());
                self.git.run(&call).await.map_err(|failure| collision(site, failure))?;
            }
        }
        held.release();
        Ok(())
    }

    pub async fn probe_worktree(&self, site: &Site) -> Presence<Stage> {
        let site = site.clone();
        match blocking(move || stage(&site)).await {
            Ok(Some(stage)) => Presence::Present(stage),
            Ok(None) => Presence::Absent,
            Err(failure) => Presence::Unknown(failure.to_string()),
        }
    }

    /// Registers the worktree, locked with the session's mark, without its files.
    pub async fn make_worktree(&self, site: &Site) -> Result<(), Failure> {
        let held = self.lock(site, WORKTREE).await?;
        if stage(site)?.is_none_or(|stage| stage == Stage::Half) {
            // git may have stopped half-way at somebody else's lock: every attempt starts from nothing.
            self.git.patiently(Length::Quick, || self.register(site, &held)).await?;
        } else {
            self.renew_mark(site).await?;
        }
        held.release();
        Ok(())
    }

    /// Writes the files, with as many processes as the machine has. What was once complete is left as it is.
    pub async fn check_out(&self, site: &Site) -> Result<(), Failure> {
        let alone = alone_in(&site.path, FILES, self.git.limit(Length::Long)).await?;
        match stage(site)? {
            Some(Stage::CheckedOut) => return Ok(()),
            Some(Stage::Registered) => {}
            Some(Stage::Half) | None => {
                return Err(Failure::new(FILES, &site.path, Cause::PathGone(site.path.clone())));
            }
        }
        let entry = site.entry(FILES)?;
        let Some(Entry { admin, .. }) = entry else { return Ok(()) };
        // Whoever held it is dead: the directory's lock, which every checkout holds while it lives, is ours.
        remove_file(&admin.join("index.lock"))?;
        // It touches the files and the index only: a killed `reset` leaves locks on references.
        let words = ["-c", "checkout.workers=0", "read-tree", "--reset", "-u", &site.base];
        let at = At::Worktree { admin: &admin, path: &site.path };
        let call = Call::new(FILES, at, words).by(site.run_as.as_ref()).long().holding(&alone);
        self.git.run(&call).await.map(drop)
    }

    async fn register(&self, site: &Site, held: &Held) -> Result<(), Failure> {
        clear_half(site)?;
        place::make(site)?;
        let reason = site.mark.reason();
        let words = ["worktree", "add", "--quiet", "--no-checkout", "--lock", "--reason", &reason, "--"];
        let mut call = Call::new(WORKTREE, At::Repository(&site.common), words).by(site.run_as.as_ref());
        call.args.extend([site.path.clone().into_os_string(), site.branch.clone().into()]);
        self.git
            .once(&call.holding(held.file()))
            .await
            .map(drop)
            .map_err(|failure| unreachable_for(site, failure))
    }

    /// A newer placement of the same session takes over what an older one made here.
    async fn renew_mark(&self, site: &Site) -> Result<(), Failure> {
        let Some(entry) = site.entry(WORKTREE)? else { return Ok(()) };
        let reason = site.mark.reason();
        if entry.locked.as_deref() == Some(&reason) {
            return Ok(());
        }
        let path = site.path.as_os_str();
        let who = site.run_as.as_ref();
        let here = At::Repository(&site.common);
        let unlock = ["worktree".as_ref(), "unlock".as_ref(), "--".as_ref(), path];
        if entry.locked.is_some() {
            self.git.run(&Call::new(WORKTREE, here, unlock).by(who)).await?;
        }
        let lock =
            ["worktree".as_ref(), "lock".as_ref(), "--reason".as_ref(), reason.as_ref(), "--".as_ref(), path];
        self.git.run(&Call::new(WORKTREE, here, lock).by(who)).await.map(drop)
    }
}

async fn branch(site: &Site) -> Result<Option<Branch>, Failure> {
    let (common, branch, base) = (site.common.clone(), site.branch_reference(), site.base_reference());
    blocking(move || {
        let Some(tip) = read::tip(&common, &branch)? else { return Ok(None) };
        Ok(Some(Branch { tip, is_ours: read::tip(&common, &base)?.is_some() }))
    })
    .await
}

fn taken(site: &Site, found: &Branch) -> Failure {
    let at = worktrees::holders_of(&site.common, &site.branch).ok().and_then(|at| at.into_iter().next());
    let place = match at {
        Some(path) => format!("it is checked out at {}", path.display()),
        None => format!("it exists, at {}", &found.tip[..found.tip.len().min(12)]),
    };
    let cause = Cause::BranchTaken { branch: site.branch.clone(), place: Some(place) };
    Failure::new(BRANCH, &site.common, cause)
}

/// A branch `drover` makes every `drover/…` impossible, and the other way round.
fn collision(site: &Site, failure: Failure) -> Failure {
    match &*failure.cause {
        Cause::Other(text) if text.contains("exists") => {
            let place = Some(text.clone());
            Failure::new(BRANCH, &site.common, Cause::BranchTaken { branch: site.branch.clone(), place })
        }
        _ => failure,
    }
}

/// A user who may not pass the directories above cannot have a workspace there: say which user.
fn unreachable_for(site: &Site, failure: Failure) -> Failure {
    match (&*failure.cause, &site.run_as) {
        (Cause::Permission(text), Some(who)) => {
            let text = format!("the user '{}' needs access: {text}", who.name);
            Failure { cause: Box::new(Cause::Permission(text)), ..failure }
        }
        _ => failure,
    }
}

/// `None`: nothing of it is there.
pub(super) fn stage(site: &Site) -> Result<Option<Stage>, Failure> {
    let found = place::look(site)?;
    let Some(entry) = site.entry(WORKTREE)? else {
        return Ok((found != place::Found::Nothing).then_some(Stage::Half));
    };
    let is_whole = site.mark.is_on(&entry)
        && entry.path.as_ref() == Some(&site.path)
        && entry.admin.join("commondir").is_file()
        && points_to(&site.path, &entry.admin);
    if entry.admin.join("index").is_file() && site.mark.is_on(&entry) && found == place::Found::Filled {
        Ok(Some(Stage::CheckedOut))
    } else if is_whole && entry.head == Some(Head::Branch(site.branch.clone())) {
        // An empty commit has no files: its index alone says that it was checked out.
        let is_empty_commit = entry.admin.join("index").is_file();
        Ok(Some(if is_empty_commit { Stage::CheckedOut } else { Stage::Registered }))
    } else {
        Ok(Some(Stage::Half))
    }
}

pub(super) fn points_to(path: &Path, admin: &Path) -> bool {
    let pointer = fs::read_to_string(path.join(".git")).unwrap_or_default();
    pointer.trim_end().strip_prefix("gitdir: ").is_some_and(|to| Path::new(to) == admin)
}

/// Takes away what a killed `worktree add` left. A directory with files in it is not a leftover of that.
fn clear_half(site: &Site) -> Result<(), Failure> {
    if place::look(site)? == place::Found::Filled {
        let cause = Cause::PathTaken { path: site.path.clone(), why: "it is there, with files in it".into() };
        return Err(Failure::new(WORKTREE, &site.path, cause));
    }
    while let Some(entry) = site.entry(WORKTREE)? {
        if entry.admin.join("index").is_file() {
            // It was complete once, and its directory went: a state of it may be all that is left of somebody's work.
            return Err(Failure::new(WORKTREE, &site.path, Cause::PathGone(site.path.clone())));
        }
        let result = fs::remove_dir_all(&entry.admin);
        result.map_err(|error| Failure::io(WORKTREE, &entry.admin, &error))?;
    }
    remove_nameless(site);
    remove_file(&site.path.join(".git"))
}

/// Entries killed right after their directory was made, maybe with a lock without its reason yet: git names them
/// after the worktree. All later ones bear the mark.
pub(super) fn remove_nameless(site: &Site) {
    let name = site.path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(listing) = fs::read_dir(site.common.join("worktrees")) else { return };
    for item in listing.flatten() {
        let its = item.file_name().to_string_lossy().into_owned();
        if its.strip_prefix(&*name).is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_digit())) {
            let lock = item.path().join("locked");
            if lock.metadata().is_ok_and(|lock| lock.len() == 0) && !item.path().join("gitdir").exists() {
                let _ = fs::remove_file(lock);
            }
            // Succeeds only where nothing is in it.
            let _ = fs::remove_dir(item.path());
        }
    }
}

fn remove_file(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io(WORKTREE, path, &error))
        }
        _ => Ok(()),
    }
}
