//! Puts saved work back into a new session's worktree, state and all. It may be killed at any point and called again.
//! While a mark is in the worktree's entry there is nothing in it but what is restored; afterwards it is the session's
//! and is not written to.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use drover_domain::presence::Presence;
use tokio::sync::mpsc;

use super::archive::Archive;
use super::create::{Stage, points_to, stage};
use super::names::POINTER;
use super::plan::{Plan, RESTORE, Target};
use super::record::{Part, Record};
use super::save::first_difference;
use super::trash::{Saved, TrashItem};
use super::{Site, Workspaces, head};
use crate::git::failure::{Cause, Failure};
use crate::git::lock::alone_in;
use crate::git::read::{self, Files, blocking};
use crate::git::runner::{Account, At, Call, Length};

/// In the entry of a worktree that is being restored. While it is there nobody has worked in it.
const MARKER: &str = "drover-restoring";

impl Workspaces {
    /// Whether everything was restored into the site's worktree once. What is in it since is the session's.
    pub async fn probe_restored(&self, site: &Site) -> Presence<()> {
        let site = site.clone();
        let looked = blocking(move || {
            let admin = site.entry(RESTORE)?.map(|entry| entry.admin);
            let is_whole = stage(&site)? == Some(Stage::CheckedOut);
            Ok(is_whole && admin.is_some_and(|admin| !admin.join(MARKER).exists()))
        });
        match looked.await {
            Ok(true) => Presence::Present(()),
            Ok(false) => Presence::Absent,
            Err(failure) => Presence::Unknown(failure.to_string()),
        }
    }

    /// Restores everything into the site's worktree, which is registered but has no files yet.
    pub async fn restore_into(&self, site: &Site, item: &TrashItem) -> Result<(), Failure> {
        self.move_branch(site, item).await?;
        let gone = || Failure::new(RESTORE, &site.path, Cause::PathGone(site.path.clone()));
        let files = self.target(item, &site.path, site.run_as.as_ref()).await?;
        let root = site.entry(RESTORE)?.ok_or_else(gone)?.admin;
        let admin = Target { root, ..files.clone() };
        let mut plan = planned(item).await?;
        let repository = plan.take_pointers_place(item)?;
        let work = item.part(Part::Work);
        match stage(site)? {
            Some(Stage::CheckedOut) if !admin.root.join(MARKER).exists() => {
                return compare(&site.path, work.is_some(), plan.files).await;
            }
            Some(Stage::CheckedOut | Stage::Registered) => {}
            Some(Stage::Half) | None => return Err(gone()),
        }
        mark(&admin, true).await?;
        if let Some(work) = work {
            self.fill(&files, plan.clone()).await?;
            compare(&site.path, true, plan.files).await?;
            self.restore_state(site, item, work, &admin).await?;
            if points_to(&site.path, &admin.root) {
                self.fill(&files, repository).await?;
            }
            settle(&files).await?;
            return mark(&admin, false).await;
        }
        drop((files, admin));
        self.restore_commit(site, item).await?;
        let files = self.target(item, &site.path, site.run_as.as_ref()).await?;
        let root = site.entry(RESTORE)?.ok_or_else(gone)?.admin;
        self.fill(&files, plan).await?;
        settle(&files).await?;
        mark(&Target { root, ..files }, false).await
    }

    /// Checks out the commit that was, on no branch if the branch was elsewhere.
    async fn restore_commit(&self, site: &Site, item: &TrashItem) -> Result<(), Failure> {
        let looked = item.clone();
        let head = blocking(move || looked.head()).await?;
        let commit = head.or_else(|| item.record.tip.clone()).unwrap_or_else(|| site.base.clone());
        self.check_out(&Site { base: commit.clone(), ..site.clone() }).await?;
        let entry = site.entry(RESTORE)?;
        let Some(entry) = entry.filter(|_| item.record.tip.as_ref().is_some_and(|tip| *tip != commit)) else {
            return Ok(());
        };
        let at = At::Worktree { admin: &entry.admin, path: &site.path };
        let words = ["update-ref", "--no-deref", "HEAD", &commit];
        self.git.run(&Call::new(RESTORE, at, words).by(site.run_as.as_ref())).await.map(drop)
    }

    pub(super) async fn target(
        &self,
        item: &TrashItem,
        root: &Path,
        who: Option<&Account>,
    ) -> Result<Target, Failure> {
        let alone = alone_in(root, RESTORE, self.git.limit(Length::Long)).await?;
        let (common, root, who) = (item.common.clone(), root.to_owned(), who.cloned());
        Ok(Target { common, root, who, alone: Arc::new(alone) })
    }

    /// The session's branch is at its base, or there already.
    async fn move_branch(&self, site: &Site, item: &TrashItem) -> Result<(), Failure> {
        let held = self.lock(site, RESTORE).await?;
        let reference = site.branch_reference();
        let now = read::tip(&site.common, &reference)?.unwrap_or_default();
        if let Some(tip) = item.record.tip.as_ref().filter(|tip| **tip != now) {
            if now != site.base {
                let place = Some("it is neither at its base nor where the saved work left it".to_owned());
                let cause = Cause::BranchTaken { branch: site.branch.clone(), place };
                return Err(Failure::new(RESTORE, &site.common, cause));
            }
            let words = ["update-ref", &reference, tip, &now];
            let call = Call::new(RESTORE, At::Repository(&site.common), words).by(site.run_as.as_ref());
            self.git.run(&call.holding(held.file())).await?;
        }
        held.release();
        Ok(())
    }

    /// The entry's own files, then its index, then its HEAD.
    async fn restore_state(
        &self,
        site: &Site,
        item: &TrashItem,
        work: &Saved,
        admin: &Target,
    ) -> Result<(), Failure> {
        let (place, of, commit) = (site.clone(), item.clone(), work.commit.clone());
        let saved = blocking(move || head::Saved::read(&place, &of, &commit)).await?;
        self.fill(admin, saved.files.clone()).await?;
        self.move_modules(site, &item.record, admin, &saved.files.files).await?;
        if let Some(index) = saved.index {
            self.fill(admin, index).await?;
        } else {
            let at = At::Worktree { admin: &admin.root, path: &site.path };
            let call = Call::new(RESTORE, at, ["read-tree", "HEAD"]).by(site.run_as.as_ref()).long();
            self.git.run(&call).await?;
        }
        // Until its index is there, an entry that is not on its branch would count as half made.
        let (to, texts) = (admin.clone(), saved.texts);
        blocking(move || {
            let mut ground = to.ground()?;
            for (name, text) in &texts {
                let written = ground.write(name, 0o644, &mut text.as_slice());
                written.map_err(|error| to.failed(name, &error))?;
            }
            Ok(())
        })
        .await
    }

    /// Repositories of submodules know where their files are, and their files where the repository is.
    async fn move_modules(
        &self,
        site: &Site,
        record: &Record,
        admin: &Target,
        files: &Files,
    ) -> Result<(), Failure> {
        let (Some(old_admin), old_path) = (&record.admin, Path::new(&record.path)) else { return Ok(()) };
        if Path::new(old_admin) == admin.root && old_path == site.path {
            return Ok(());
        }
        for module in head::modules(files) {
            let config = admin.root.join(&module).join("config");
            let ask = ["config".as_ref(), "--file".as_ref(), config.as_os_str(), "core.worktree".as_ref()];
            let at = At::Directory(&admin.root);
            let call = |words: &[&OsStr]| Call::new(RESTORE, at, words).by(site.run_as.as_ref());
            let Ok(answer) = self.git.once(&call(&ask)).await else { continue };
            let old = Path::new(old_admin).join(&module).join(String::from_utf8_lossy(&answer).trim_end());
            let old = head::plain(&old);
            let Ok(below) = old.strip_prefix(old_path) else { continue };
            let new = site.path.join(below);
            self.git.run(&call(&[&ask[..], &[new.as_os_str()]].concat())).await?;
            let (root, pointer, to) = (site.path.clone(), below.join(".git"), admin.root.join(&module));
            let files = Target { root, ..admin.clone() };
            blocking(move || repoint(&files, pointer.as_os_str().as_bytes(), &to)).await?;
        }
        Ok(())
    }

    /// Writes what of the plan is not there yet.
    pub(super) async fn fill(&self, target: &Target, plan: Plan) -> Result<(), Failure> {
        let to = target.clone();
        let (plan, large) = blocking(move || {
            let large = plan.write(&to)?;
            Ok((plan, large))
        })
        .await?;
        for (path, mode, id) in large {
            let words = ["cat-file", "blob", &id];
            let call = Call::new(RESTORE, At::Repository(&target.common), words);
            let call = call.by(target.who.as_ref()).long().holding(&target.alone);
            let (sender, receiver) = mpsc::channel(16);
            let to = target.clone();
            // Should git end early this is shorter than it was, which the comparison sees.
            let written = tokio::task::spawn_blocking(move || {
                let mut content = Stream { receiver, piece: Bytes::new() };
                let written = to.ground()?.write(&path, mode, &mut content);
                written.map_err(|error| to.failed(&path, &error))
            });
            let streamed = self.git.stream(&call, &sender).await;
            drop(sender);
            let broken = |why: String| Failure::new(RESTORE, &target.root, Cause::Other(why));
            written.await.map_err(|error| broken(error.to_string()))??;
            streamed?;
        }
        let to = target.clone();
        blocking(move || plan.close(&to)).await
    }
}

/// Makes the pointer of a submodule say where its repository is; one with a repository inside has none.
fn repoint(files: &Target, pointer: &[u8], to: &Path) -> Result<(), Failure> {
    let there = files.root.join(super::work::path_of(pointer));
    if !there.symlink_metadata().is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let text = [b"gitdir: ", to.as_os_str().as_bytes(), b"\n"].concat();
    let written = files.ground()?.write(pointer, 0o644, &mut text.as_slice());
    written.map_err(|error| files.failed(pointer, &error))
}

/// Says in the entry that what is in the worktree is not the session's yet, or that it is from here on.
async fn mark(admin: &Target, is_restoring: bool) -> Result<(), Failure> {
    let admin = admin.clone();
    blocking(move || {
        let mut ground = admin.ground()?;
        let name = MARKER.as_bytes();
        let marked = match is_restoring {
            true => ground.write(name, 0o644, &mut std::io::empty()).and_then(|()| ground.sync()),
            false => ground.sync().and_then(|()| ground.remove(name)),
        };
        marked.map_err(|error| admin.failed(name, &error))
    })
    .await
}

/// What was written survives a power cut from here on.
pub(super) async fn settle(files: &Target) -> Result<(), Failure> {
    let files = files.clone();
    blocking(move || files.ground()?.sync().map_err(|error| files.failed(b"", &error))).await
}

pub(super) async fn planned(item: &TrashItem) -> Result<Plan, Failure> {
    let item = item.clone();
    blocking(move || Plan::of(&item)).await
}

/// Compares what is in the directory with what the plan says; there may be more unless that is all.
pub(super) async fn compare(root: &Path, is_all: bool, expected: Files) -> Result<(), Failure> {
    let root = root.to_owned();
    blocking(move || {
        let mut archive = Archive { path: Some(root.clone()), ..Archive::empty(Record::nobodys()) };
        // What is in the place of git's pointer is looked at only if it was to be there.
        if !expected.keys().any(|path| path.starts_with(POINTER)) {
            archive.skipped.insert(b".git".to_vec());
        }
        let found = archive.files(&|_| true);
        let mut there = found.map_err(|broken| Failure::io(RESTORE, &broken.path, &broken.error))?;
        there.retain(|path, _| is_all || expected.contains_key(path));
        match first_difference(&there, &expected) {
            Some(path) => {
                let why = format!("{path} in it is not as it was saved");
                Err(Failure::new(RESTORE, &root, Cause::PathTaken { path: root.clone(), why }))
            }
            None => Ok(()),
        }
    })
    .await
}

/// An object that git hands on in pieces.
struct Stream {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl std::io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}
