//! A commit as git's fast-import reads it, made of files as their bytes lie on disk: no filter, no index, no stash is
//! touched; nested repositories are files like others. Beside the files, a parent of its own holds the state of the
//! worktree: administrative files, what was only staged, modes that a tree cannot express, and whose it is.
//! It writes no reference that git did not sync first, and it compares nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::names::{escaped, quoted};
use super::record::{Part, Record};
use super::walk::{Broken, Found, Kind, manifest_walk, walk, walk_below};
use super::{Site, Workspaces, manifest};
use crate::git::failure::{Cause, Failure};
use crate::git::read::{Files, STATE, bytes_id, file_id};
use crate::git::runner::{At, Call};

const CHUNK: usize = 64 * 1024;

/// What is to be written, and how.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    pub reference: String,
    pub title: String,
    /// The files' directory.
    pub path: Option<PathBuf>,
    pub admin: Option<PathBuf>,
    pub head: Option<String>,
    /// Commits to keep alive beside it.
    pub commits: Vec<String>,
    /// Objects that only the index names.
    pub staged: BTreeSet<String>,
    /// Paths of which nothing is written.
    pub skipped: BTreeSet<Vec<u8>>,
    pub scope: Scope,
    /// The paths that are work, to be counted; a directory ends with a slash.
    pub work: BTreeSet<Vec<u8>>,
    pub record: Record,
    /// A further file of the state: what it was made of.
    pub fingerprint: Option<String>,
}

/// Which files the tree has.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// Every file there is.
    All,
    /// Only these, as trees have them.
    Only(Files),
    /// The commit's own, with these things as they are on disk now.
    Changed(BTreeSet<Vec<u8>>),
}

/// What git's fast-import is asked for.
pub(super) struct Import<'a> {
    pub operation: &'static str,
    pub part: Part,
    /// Stays locked as long as that git lives.
    pub held: Option<&'a File>,
}

/// What went wrong, and the pipe, which must not end before that is known.
pub(super) type Undone = (Broken, Pipe);

impl Workspaces {
    /// Has git write it, as the session's user; `held` stays locked as long as that git lives.
    pub(super) async fn write(
        &self,
        site: &Site,
        operation: &'static str,
        archive: Archive,
        held: Option<&File>,
    ) -> Result<(), Failure> {
        let import = Import { operation, part: archive.record.part, held };
        self.import(site, import, move |sender| archive.produce(sender)).await
    }

    /// Feeds git's fast-import with what `produce` sends.
    pub(super) async fn import(
        &self,
        site: &Site,
        import: Import<'_>,
        produce: impl FnOnce(mpsc::Sender<Bytes>) -> Result<(), Undone> + Send + 'static,
    ) -> Result<(), Failure> {
        let Import { operation, part, held } = import;
        let pack = match part {
            // A pack of its own for each save: it is written, and synced, at once.
            Part::Work | Part::Late | Part::Tip => "fastimport.unpackLimit=0",
            // The few objects of each of many do not deserve one.
            Part::Checkpoint => "fastimport.unpackLimit=50",
        };
        // One that was killed may have left its reference locked; nobody else saves there.
        let (trash, wip) = (site.trash_prefix(), site.wip_prefix());
        self.locks.look_after_own(&site.common, &[&trash, &wip]).await;
        let settings = [
            pack,
            "core.fsync=all",
            "core.bigFileThreshold=16m",
            "core.protectNTFS=false",
            "core.protectHFS=false",
        ];
        let mut words: Vec<&str> = settings.iter().flat_map(|setting| ["-c", setting]).collect();
        words.extend(["fast-import", "--quiet", "--date-format=raw"]);
        if part == Part::Checkpoint {
            // What a killed one left under the reference means nothing.
            words.push("--force");
        }
        let call = Call::new(operation, At::Repository(&site.common), words).by(site.run_as.as_ref()).long();
        let call = Call { holding: held, ..call };
        let (sender, mut receiver) = mpsc::channel(16);
        let mut producer = tokio::task::spawn_blocking(move || produce(sender));
        let feed = self.git.feed(&call, &mut receiver);
        tokio::pin!(feed);
        let broken = |why: String| Failure::new(operation, &site.path, Cause::WorkNotSaveable(why));
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
}

impl Archive {
    fn produce(&self, sender: mpsc::Sender<Bytes>) -> Result<(), Undone> {
        let mut pipe = Pipe::to(sender);
        match self.stream(&mut pipe) {
            Ok(()) => Ok(()),
            Err(broken) => Err((broken, pipe)),
        }
    }

    fn stream(&self, pipe: &mut Pipe) -> Result<(), Broken> {
        let io = |error: io::Error| Broken { path: PathBuf::from(&self.reference), error };
        let head = |mark: u8, title: &str| {
            let (reference, seconds) = (&self.reference, self.record.created_millis.div_euclid(1000));
            let who = format!("committer Drover <drover@localhost> {seconds} +0000");
            format!("commit {reference}\nmark :{mark}\n{who}\ndata {}\n{title}\n", title.len())
        };
        write!(pipe, "feature done\nreset {}\n\n", self.reference).map_err(io)?;
        write!(pipe, "{}", head(1, &format!("{STATE}\n\n{}", self.title))).map_err(io)?;
        if let Some(admin) = &self.admin {
            walk(admin, &|_| false, &mut |found| put(pipe, b"admin/", &found))?;
        }
        for id in &self.staged {
            writeln!(pipe, "M 100644 {id} staged/{id}").map_err(io)?;
        }
        let mut manifest = Vec::new();
        let (bytes, files) = self.note(&mut manifest)?;
        let record = Record { bytes, files, ..self.record.clone() }.written().map_err(io)?;
        let fingerprint = self.fingerprint.iter().map(|text| ("fingerprint", text.as_bytes()));
        for (name, text) in [("manifest", &manifest[..]), ("session", &record)].into_iter().chain(fingerprint)
        {
            inline(pipe, name, text).map_err(io)?;
        }
        write!(pipe, "{}", head(2, &self.title)).map_err(io)?;
        match &self.head {
            Some(commit) => write!(pipe, "from {commit}\nmerge :1\n").map_err(io)?,
            None => writeln!(pipe, "from :1").map_err(io)?,
        }
        for commit in &self.commits {
            writeln!(pipe, "merge {commit}").map_err(io)?;
        }
        if let (Scope::Changed(names), Some(_)) = (&self.scope, &self.head) {
            for name in names {
                for name in [bare(name).to_vec(), escaped(bare(name), true)] {
                    pipe.write_all(&[b"D ", &quoted(&name)[..], b"\n"].concat()).map_err(io)?;
                }
            }
        } else {
            writeln!(pipe, "deleteall").map_err(io)?;
        }
        self.each(true, &mut |found| if self.wants(&found) { put(pipe, b"", &found) } else { Ok(()) })?;
        write!(pipe, "\ndone\n").and_then(|()| pipe.flush()).map_err(io)
    }

    /// Tells of everything on disk that is in question.
    pub(super) fn each(
        &self,
        opens: bool,
        visit: &mut dyn FnMut(Found<'_>) -> io::Result<()>,
    ) -> Result<(), Broken> {
        let Some(path) = &self.path else { return Ok(()) };
        let skip = |path: &[u8]| self.skipped.contains(path);
        match &self.scope {
            Scope::Changed(names) => {
                for name in names.iter().filter(|name| !skip(bare(name))) {
                    walk_below((path, bare(name)), opens, &skip, &mut |found| visit(found))?;
                }
                Ok(())
            }
            Scope::All | Scope::Only(_) if opens => walk(path, &skip, &mut |found| visit(found)),
            Scope::All | Scope::Only(_) => manifest_walk(path, &skip, &mut |found| visit(found)),
        }
    }

    fn wants(&self, found: &Found<'_>) -> bool {
        match &self.scope {
            Scope::All | Scope::Changed(_) => true,
            Scope::Only(files) => {
                files.contains_key(&escaped(found.path, matches!(found.kind, Kind::Link { .. })))
            }
        }
    }

    /// Writes the manifest, and counts the bytes and files of what is work.
    fn note(&self, lines: &mut Vec<u8>) -> Result<(u64, u64), Broken> {
        let (mut bytes, mut files) = (0, 0);
        let is_all_work = matches!(self.scope, Scope::Only(_) | Scope::Changed(_));
        self.each(false, &mut |found| {
            let is_directory = matches!(found.kind, Kind::Directory { .. });
            if !is_directory && !self.wants(&found) {
                return Ok(());
            }
            if !is_directory && (is_all_work || self.is_work(found.path)) {
                files += 1;
                bytes += if let Kind::File { size, .. } = found.kind { size } else { 0 };
            }
            manifest::note(lines, &found)
        })?;
        Ok((bytes, files))
    }

    /// Whether it was named, or a directory above it was.
    fn is_work(&self, path: &[u8]) -> bool {
        let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        self.work.contains(path)
            || self.work.contains(&b"./"[..])
            || above.map(|(at, _)| &path[..=at]).any(|directory| self.work.contains(directory))
    }

    /// What the saved tree must hold of those things on disk that are asked about.
    pub(super) fn files(&self, asked: &dyn Fn(&Found<'_>) -> bool) -> Result<Files, Broken> {
        let mut files = Files::new();
        self.each(true, &mut |found| {
            if !asked(&found) {
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

/// A path as git names it, without the slash of a directory.
pub(super) fn bare(name: &[u8]) -> &[u8] {
    name.strip_suffix(b"/").unwrap_or(name)
}

fn tree_mode(found: &Found<'_>) -> u32 {
    match found.kind {
        Kind::Link { .. } => 0o120_000,
        _ if found.mode & 0o100 != 0 => 0o100_755,
        _ => 0o100_644,
    }
}

pub(super) fn inline(pipe: &mut Pipe, name: &str, text: &[u8]) -> io::Result<()> {
    write!(pipe, "M 100644 inline {name}\ndata {}\n", text.len())?;
    pipe.write_all(text)?;
    pipe.write_all(b"\n")
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

impl Broken {
    pub(super) fn said(&self) -> String {
        format!("{}: {}", self.path.display(), self.error)
    }
}

/// Towards git's input, in pieces.
#[derive(Debug)]
pub(super) struct Pipe {
    sender: mpsc::Sender<Bytes>,
    waiting: Vec<u8>,
}

impl Pipe {
    pub(super) fn to(sender: mpsc::Sender<Bytes>) -> Self {
        Self { sender, waiting: Vec::with_capacity(CHUNK) }
    }
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
