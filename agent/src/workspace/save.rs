//! Saves a workspace's work to `refs/drover/trash/<session>/<n>` before anything goes: a commit whose tree is every file
//! as its bytes lie on disk (no filter, no index, no stash is touched), nested repositories included. Its second
//! parent holds the worktree's administrative files, what was only staged, and modes that a tree cannot express.
//! git writes it as one synced pack, as the session's user; then it is compared with the files again.
//!
//! A tree must not name `.git` (nor `git~1`, which is the same on Windows): such a part of a path, and every one that
//! already has it, gets the ending `~drover`.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::create::points_to;
use super::walk::{Broken, Found, Kind, manifest_walk, walk};
use super::work::Work;
use super::{Site, Workspaces, place};
use crate::git::failure::{Cause, Failure};
use crate::git::read::{self, Files, blocking, bytes_id, file_id};
use crate::git::runner::{At, Call};

const SAVE: &str = "save the work";
const ESCAPE: &[u8] = b"~drover";
/// Where the pointer of a worktree would be in a tree.
pub(super) const POINTER: &[u8] = b".git~drover";
const CHUNK: usize = 64 * 1024;

/// What is to be written, and how.
struct Saving {
    reference: String,
    path: Option<PathBuf>,
    admin: Option<PathBuf>,
    head: Option<String>,
    detached: Vec<String>,
    staged: BTreeSet<String>,
    skipped: BTreeSet<Vec<u8>>,
    /// Only what changed since then is looked at.
    cutoff: Option<i128>,
    /// Only these files are written, if there are any.
    only: Option<Files>,
    seconds: i64,
    title: String,
}

/// Files that are kept somewhere: the path in a tree, its mode, the id of its content.
pub(super) type KeptFiles = HashSet<(Vec<u8>, (u32, String))>;

/// What was written late into a directory that was renamed away.
#[derive(Clone, Debug)]
pub(super) struct Late {
    pub directory: PathBuf,
    pub skipped: BTreeSet<Vec<u8>>,
    /// In nanoseconds since 1970: only what changed since then can be late.
    pub cutoff: i128,
    /// As trees have them.
    pub files: Files,
}

impl Late {
    /// Finds what changed since the cutoff.
    pub(super) fn find(&mut self) -> Result<(), Broken> {
        self.files = Saving { cutoff: Some(self.cutoff), ..self.clone().into_saving() }.files()?;
        Ok(())
    }

    /// Leaves out what is kept already.
    pub(super) fn leave_out(&mut self, kept: &KeptFiles) {
        self.files.retain(|path, file| !kept.contains(&(path.clone(), file.clone())));
    }

    fn into_saving(self) -> Saving {
        Saving {
            reference: String::new(),
            path: Some(self.directory),
            admin: None,
            head: None,
            detached: vec![],
            staged: BTreeSet::new(),
            skipped: self.skipped,
            cutoff: None,
            only: Some(self.files),
            seconds: 0,
            title: String::new(),
        }
    }
}

impl Workspaces {
    /// Saves what `work` found, if anything, and returns the reference. A save that a killed agent made of the very
    /// same files is found again.
    pub async fn save(&self, site: &Site, work: &Work) -> Result<Option<String>, Failure> {
        if !work.is_unsaved() || (!work.is_present && is_away(site)?) {
            return Ok(None);
        }
        let before = read::references(&site.common, &site.trash_prefix())?;
        if let Some((reference, commit)) = before.iter().max_by_key(|(name, _)| number(name))
            && self.is_saved(site, work, commit).await.is_ok()
        {
            return Ok(Some(reference.clone()));
        }
        let reference = next(site, &before);
        let seconds = self.git.clock().wall_millis() / 1000;
        self.write(site, Saving::new(site, work, &reference, seconds)).await?;
        let (common, name) = (site.common.clone(), reference.clone());
        let commit = blocking(move || read::tip(&common, &name)).await?;
        self.is_saved(site, work, &commit.unwrap_or_default()).await?;
        Ok(Some(reference))
    }

    /// Saves these files of the directory, whatever git thinks of them.
    pub(super) async fn save_late(&self, site: &Site, late: Late) -> Result<(), Failure> {
        let before = read::references(&site.common, &site.trash_prefix())?;
        let seconds = self.git.clock().wall_millis() / 1000;
        let title = format!("Written while {} was removed", site.mark.session);
        let saving = Saving { reference: next(site, &before), seconds, title, ..late.into_saving() };
        self.write(site, saving).await
    }

    async fn write(&self, site: &Site, saving: Saving) -> Result<(), Failure> {
        let settings = [
            "core.fsync=all",
            "fastimport.unpackLimit=0",
            "core.bigFileThreshold=16m",
            "core.protectNTFS=false",
            "core.protectHFS=false",
        ];
        let mut words: Vec<&str> = settings.iter().flat_map(|setting| ["-c", setting]).collect();
        words.extend(["fast-import", "--quiet", "--date-format=raw"]);
        let call = Call::new(SAVE, At::Repository(&site.common), words).by(site.run_as.as_ref()).long();
        let (sender, mut receiver) = mpsc::channel(16);
        let mut producer = tokio::task::spawn_blocking(move || saving.produce(sender));
        let feed = self.git.feed(&call, &mut receiver);
        tokio::pin!(feed);
        let broken = |why: String| Failure::new(SAVE, &site.path, Cause::WorkNotSaveable(why));
        tokio::select! {
            fed = &mut feed => fed,
            produced = &mut producer => match produced {
                Ok(Ok(())) => feed.await,
                // The sender comes back with the error: were it dropped first, git would take the rest for the whole.
                Ok(Err((error, _sender))) => Err(broken(error.said())),
                Err(error) => Err(broken(error.to_string())),
            },
        }
    }

    /// Compares the saved commit with the files, byte for byte by their ids.
    async fn is_saved(&self, site: &Site, work: &Work, commit: &str) -> Result<(), Failure> {
        let (site, commit) = (site.clone(), commit.to_owned());
        let saving = Saving::new(&site, work, "", 0);
        blocking(move || {
            let broken = |why: String| Failure::new(SAVE, &site.path, Cause::WorkNotSaveable(why));
            let saved = read::files(&site.common, &commit)?;
            let there = saving.files().map_err(|error| broken(error.said()))?;
            if let Some(path) = first_difference(&there, &saved) {
                return Err(broken(format!(
                    "{path} differs from what was saved of it; is something still writing?"
                )));
            }
            let parents = read::parents(&site.common, &commit)?;
            match saving.detached.iter().chain(&saving.head).find(|commit| !parents.contains(commit)) {
                Some(missing) => Err(broken(format!("the commit {missing} is not part of what was saved"))),
                None => Ok(()),
            }
        })
        .await
    }
}

/// The reference for the next save of this session.
pub(super) fn next(site: &Site, before: &[(String, String)]) -> String {
    let last = before.iter().filter_map(|(name, _)| number(name)).max().unwrap_or(0);
    format!("{}{}", site.trash_prefix(), last + 1)
}

fn is_away(site: &Site) -> Result<bool, Failure> {
    let io = |error| Failure::io(SAVE, &site.root, &error);
    let there = |away: place::Away| away.of(site).map(|found| !found.is_empty()).map_err(io);
    Ok(there(place::Away::Leaving)? || there(place::Away::Trash)?)
}

fn number(reference: &str) -> Option<u64> {
    reference.rsplit('/').next()?.parse().ok()
}

fn first_difference(there: &Files, saved: &Files) -> Option<String> {
    let differs = |(path, file): (&Vec<u8>, &(u32, String)), other: &Files| other.get(path) != Some(file);
    let path = there
        .iter()
        .find(|entry| differs(*entry, saved))
        .or_else(|| saved.iter().find(|entry| differs(*entry, there)));
    path.map(|(path, _)| String::from_utf8_lossy(path).into_owned())
}

type Undone = (Broken, Pipe);

impl Saving {
    fn new(site: &Site, work: &Work, reference: &str, seconds: i64) -> Self {
        let mut skipped: BTreeSet<Vec<u8>> =
            work.skipped.iter().map(|path| path.strip_suffix(b"/").unwrap_or(path).to_vec()).collect();
        if work.admin.as_ref().is_some_and(|admin| points_to(&site.path, admin)) {
            skipped.insert(b".git".to_vec());
        }
        Self {
            reference: reference.to_owned(),
            path: work.is_present.then(|| site.path.clone()),
            admin: work.admin.clone(),
            head: work.head.clone(),
            detached: work
                .detached
                .iter()
                .filter(|commit| Some(*commit) != work.head.as_ref())
                .cloned()
                .collect(),
            staged: work.staged.clone(),
            skipped,
            cutoff: None,
            only: None,
            seconds,
            title: format!("Work of {} on {}", site.mark.session, site.branch),
        }
    }

    fn produce(&self, sender: mpsc::Sender<Bytes>) -> Result<(), Undone> {
        let mut pipe = Pipe { sender, waiting: Vec::with_capacity(CHUNK) };
        match self.stream(&mut pipe) {
            Ok(()) => Ok(()),
            Err(broken) => Err((broken, pipe)),
        }
    }

    fn stream(&self, pipe: &mut Pipe) -> Result<(), Broken> {
        let io = |error: io::Error| Broken { path: PathBuf::from(&self.reference), error };
        let head = |mark: u8, title: &str| {
            let Self { reference, seconds, .. } = self;
            let who = format!("committer Drover <drover@localhost> {seconds} +0000");
            format!("commit {reference}\nmark :{mark}\n{who}\ndata {}\n{title}\n", title.len())
        };
        write!(pipe, "feature done\n{}", head(1, &format!("State of its worktree\n\n{}", self.title)))
            .map_err(io)?;
        if let Some(admin) = &self.admin {
            walk(admin, &|_| false, &mut |found| put(pipe, b"admin/", &found))?;
        }
        for id in &self.staged {
            writeln!(pipe, "M 100644 {id} staged/{id}").map_err(io)?;
        }
        let manifest = self.manifest()?;
        write!(pipe, "M 100644 inline manifest\ndata {}\n{manifest}\n\n", manifest.len()).map_err(io)?;
        write!(pipe, "{}", head(2, &self.title)).map_err(io)?;
        match &self.head {
            Some(commit) => write!(pipe, "from {commit}\nmerge :1\n").map_err(io)?,
            None => writeln!(pipe, "from :1").map_err(io)?,
        }
        for commit in &self.detached {
            writeln!(pipe, "merge {commit}").map_err(io)?;
        }
        writeln!(pipe, "deleteall").map_err(io)?;
        if let Some(path) = &self.path {
            walk(path, &|path| self.skipped.contains(path), &mut |found| {
                let is_link = matches!(found.kind, Kind::Link { .. });
                let is_wanted = |only: &Files| only.contains_key(&escaped(found.path, is_link));
                if self.only.as_ref().is_none_or(is_wanted) { put(pipe, b"", &found) } else { Ok(()) }
            })?;
        }
        write!(pipe, "\ndone\n").and_then(|()| pipe.flush()).map_err(io)
    }

    /// A line for each mode that a tree cannot hold, each empty directory, and each thing that could not be saved.
    fn manifest(&self) -> Result<String, Broken> {
        let mut lines = String::new();
        let Some(path) = &self.path else { return Ok(lines) };
        manifest_walk(path, &|path| self.skipped.contains(path), &mut |found| {
            let (kind, is_plain) = match found.kind {
                Kind::File { .. } => ("file", matches!(found.mode, 0o644 | 0o755)),
                Kind::Directory { is_empty } => ("directory", found.mode == 0o755 && !is_empty),
                Kind::Link { .. } => ("link", true),
                Kind::Other => ("unsaved", false),
            };
            if !is_plain {
                let path = String::from_utf8_lossy(&quoted(found.path)).into_owned();
                writeln!(lines, "{:04o} {kind} {path}", found.mode).map_err(io::Error::other)?;
            }
            Ok(())
        })?;
        Ok(lines)
    }

    /// What the saved tree must hold.
    fn files(&self) -> Result<Files, Broken> {
        let mut files = Files::new();
        let Some(path) = &self.path else { return Ok(files) };
        walk(path, &|path| self.skipped.contains(path), &mut |found| {
            if self.cutoff.is_some_and(|cutoff| found.changed < cutoff) {
                return Ok(());
            }
            let id = match &found.kind {
                Kind::File { file: Some(file), .. } => file_id(file),
                Kind::Link { target } => bytes_id(target),
                Kind::File { file: None, .. } | Kind::Directory { .. } | Kind::Other => return Ok(()),
            };
            let is_link = matches!(found.kind, Kind::Link { .. });
            files.insert(escaped(found.path, is_link), (tree_mode(&found), id.map_err(io::Error::other)?));
            Ok(())
        })?;
        Ok(files)
    }
}

fn tree_mode(found: &Found<'_>) -> u32 {
    match found.kind {
        Kind::Link { .. } => 0o120_000,
        _ if found.mode & 0o100 != 0 => 0o100_755,
        _ => 0o100_644,
    }
}

fn put(pipe: &mut Pipe, prefix: &[u8], found: &Found<'_>) -> io::Result<()> {
    let is_link = matches!(found.kind, Kind::Link { .. });
    let path = quoted(&[prefix, &escaped(found.path, is_link)].concat());
    let mut head = |length: u64| {
        write!(pipe, "M {:o} inline ", tree_mode(found))?;
        pipe.write_all(&path)?;
        write!(pipe, "\ndata {length}\n")
    };
    match &found.kind {
        Kind::Link { target } => {
            head(target.len() as u64)?;
            pipe.write_all(target)?;
        }
        Kind::File { file: Some(file), size } => {
            head(*size)?;
            let copied = io::copy(&mut file.take(*size), pipe)?;
            if copied < *size {
                return Err(io::Error::other("it became shorter while it was saved"));
            }
        }
        Kind::File { file: None, .. } | Kind::Directory { .. } | Kind::Other => return Ok(()),
    }
    pipe.write_all(b"\n")
}

/// The path with the parts that no tree may have made harmless.
fn escaped(path: &[u8], is_link: bool) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
    let last = parts.len() - 1;
    for (at, part) in parts.iter_mut().enumerate() {
        let mut bare = part.as_slice();
        while let Some(shorter) = bare.strip_suffix(ESCAPE) {
            bare = shorter;
        }
        let is_modules =
            bare.eq_ignore_ascii_case(b".gitmodules") && ((is_link && at == last) || bare.len() < part.len());
        if bare.eq_ignore_ascii_case(b".git") || bare.eq_ignore_ascii_case(b"git~1") || is_modules {
            part.extend_from_slice(ESCAPE);
        }
    }
    parts.join(&b'/')
}

/// As git reads a path in double quotes.
fn quoted(path: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            b'\n' => text.extend(b"\\n"),
            other => text.push(*other),
        }
    }
    text.push(b'"');
    text
}

impl Broken {
    fn said(&self) -> String {
        format!("{}: {}", self.path.display(), self.error)
    }
}

/// Towards git's input, in pieces.
struct Pipe {
    sender: mpsc::Sender<Bytes>,
    waiting: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.waiting, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(full.into()).map_err(|_| io::Error::other("git ended early"))
    }
}

/// The name that an escaped path had.
#[cfg(test)]
pub(super) fn restored(path: &std::path::Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let part = |part: std::path::Component<'_>| {
        let bytes = part.as_os_str().as_bytes();
        let is_escaped = [b".git~drover".as_slice(), b"git~1~drover", b".gitmodules~drover"]
            .iter()
            .any(|name| bytes.starts_with(name));
        let shorter = bytes.strip_suffix(ESCAPE).filter(|_| is_escaped);
        std::ffi::OsString::from_vec(shorter.unwrap_or(bytes).to_vec())
    };
    path.components().map(part).collect()
}
