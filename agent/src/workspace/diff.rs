//! What a session changed: its workspace against its base, uncommitted and untracked files included. Works on a copy of
//! the index, so that the session's own is not touched; no filter, text converter or external diff runs.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::OFlags;
use tokio::sync::mpsc;

use super::{Site, Workspaces};
use crate::git::failure::{Cause, Failure};
use crate::git::runner::{At, Call};

/// How much to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A line for each file.
    Stat,
    Patch,
}

const DIFF: &str = "compare the workspace with its base";

impl Workspaces {
    /// Sends the diff in pieces of at most 64 KiB; waits while nobody takes them, and ends when nobody listens.
    pub async fn diff(&self, site: &Site, detail: Detail, out: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
        let gone = || Failure::new(DIFF, &site.path, Cause::PathGone(site.path.clone()));
        let admin = site.entry(DIFF)?.filter(|_| site.path.is_dir()).ok_or_else(gone)?.admin;
        let scratch = Scratch::new(site).map_err(|error| Failure::io(DIFF, &site.root, &error))?;
        scratch.copy(&admin.join("index"), site).map_err(|error| Failure::io(DIFF, &admin, &error))?;
        let index = scratch.0.join("index");
        let at = At::Worktree { admin: &admin, path: &site.path };
        let mut settings = self.without_filters(site, &admin).await?;
        // A name that another system could not have is shown all the same.
        let any_name = ["-c", "core.protectNTFS=false", "-c", "core.protectHFS=false"];
        settings.extend(any_name.map(OsString::from));
        let call = |words: Vec<OsString>| {
            Call::new(DIFF, at, settings.iter().chain(&words))
                .by(site.run_as.as_ref())
                .long()
                .with("GIT_INDEX_FILE", index.clone())
        };
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let others =
            self.git.run(&call(words(&["ls-files", "--others", "--exclude-standard", "-z"]))).await?;
        let files: Vec<u8> = others
            .split_inclusive(|byte| *byte == 0)
            // A repository of its own inside the workspace is not this one's change.
            .filter(|name| !name.ends_with(b"/\0"))
            .collect::<Vec<_>>()
            .concat();
        if !files.is_empty() {
            let add = ["add", "--intent-to-add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul"];
            self.git.run(&call(words(&add)).reading(&files)).await?;
        }
        let mut compare =
            words(&["diff", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=none"]);
        compare.extend(words(match detail {
            Detail::Stat => &["--stat=120", "--summary"],
            Detail::Patch => &["--binary", "--full-index"],
        }));
        compare.extend(words(&[&site.base, "--"]));
        self.git.stream(&call(compare), out).await
    }
}

/// A directory for the index's copy, the session's user's, gone with this value.
struct Scratch(PathBuf);

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    fn new(site: &Site) -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = site.root.join(format!(".diff-{}-{}-{number}", site.mark.session, std::process::id()));
        // What a killed diff left under the same process id means nothing.
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let scratch = Self(path);
        give(&scratch.0, site)?;
        Ok(scratch)
    }

    /// The index lies where the session's user may plant a link to what he must not read.
    fn copy(&self, index: &Path, site: &Site) -> io::Result<()> {
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
        let mut from = OpenOptions::new().read(true).custom_flags(flags).open(index)?;
        let to = self.0.join("index");
        io::copy(&mut from, &mut File::create_new(&to)?)?;
        give(&to, site)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a diff's scratch directory stays");
        }
    }
}

fn give(path: &Path, site: &Site) -> io::Result<()> {
    match &site.run_as {
        Some(who) => chown(path, Some(who.uid), Some(who.gid)),
        None => Ok(()),
    }
}
