//! The administrative entries of a repository's worktrees, read from `worktrees/*` itself: `git worktree list` leaves
//! out half-made ones. Says whose an entry is by its lock's reason. Changes nothing but what it is told to drop.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use drover_domain::fence::Fence;
use drover_domain::id::SessionId;
use rustix::fs::OFlags;

/// None of an entry's files that are read here is larger.
const LARGEST: u64 = 64 * 1024;

/// One entry, as far as it could be read: a half-made one lacks parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `<common>/worktrees/<name>`.
    pub admin: PathBuf,
    /// The worktree's directory, from the file `gitdir`.
    pub path: Option<PathBuf>,
    pub head: Option<Head>,
    /// Why it is locked against pruning.
    pub locked: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    Branch(String),
    Detached(String),
}

/// Who made a worktree: the reason of its lock, `drover:<installation>:<node>:<session>:<fence>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Short ids.
    pub installation: String,
    pub node: String,
    pub session: SessionId,
    pub fence: Fence,
}

impl Mark {
    pub fn reason(&self) -> String {
        format!("{}{}", self.prefix(), self.fence)
    }

    /// Without the fence: what an older placement of the same session here left is ours too.
    pub fn prefix(&self) -> String {
        format!("drover:{}:{}:{}:", self.installation, self.node, self.session)
    }

    pub fn is_on(&self, entry: &Entry) -> bool {
        entry.locked.as_deref().is_some_and(|reason| reason.starts_with(&self.prefix()))
    }

    /// Reads a reason back; `None` for a lock that Drover did not make.
    pub fn parse(reason: &str) -> Option<Self> {
        let parts: Vec<&str> = reason.trim_end().strip_prefix("drover:")?.split(':').collect();
        let [installation, node, session, fence] = parts[..] else { return None };
        let (generation, epoch) = fence.split_once('.')?;
        let fence = Fence { generation: generation.parse().ok()?, epoch: epoch.parse().ok()? };
        let session = session.parse().ok()?;
        Some(Self { installation: installation.into(), node: node.into(), session, fence })
    }
}

/// Every entry of the repository, half-made ones included.
pub fn entries(common: &Path) -> io::Result<Vec<Entry>> {
    let listing = match fs::read_dir(common.join("worktrees")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        listing => listing?,
    };
    let mut entries = Vec::new();
    for item in listing {
        let item = item?;
        if item.file_type()?.is_dir()
            && let Some(entry) = entry(&item.path())?
        {
            entries.push(entry);
        }
    }
    entries.sort_by(|a, b| a.admin.cmp(&b.admin));
    Ok(entries)
}

/// The entry with this administrative directory; `None` if it went meanwhile.
pub fn entry(admin: &Path) -> io::Result<Option<Entry>> {
    if !admin.is_dir() {
        return Ok(None);
    }
    let path = text(&admin.join("gitdir"))?.map(|gitdir| {
        let gitdir = admin.join(gitdir.trim_end());
        gitdir.parent().unwrap_or(&gitdir).to_owned()
    });
    let head = text(&admin.join("HEAD"))?.and_then(|head| parse_head(head.trim_end()));
    let locked = text(&admin.join("locked"))?.map(|reason| reason.trim_end().to_owned());
    Ok(Some(Entry { admin: admin.to_owned(), path, head, locked }))
}

/// The entry that the worktree at `path` says it is of; `None`: it does not say.
pub fn pointer(path: &Path) -> Option<PathBuf> {
    let pointer = text(&path.join(".git")).ok()??;
    pointer.trim_end().strip_prefix("gitdir: ").map(PathBuf::from)
}

/// Everywhere that the branch is checked out: worktrees' paths, or the repository's own.
pub fn holders_of(common: &Path, branch: &str) -> io::Result<Vec<PathBuf>> {
    let wanted = Head::Branch(branch.to_owned());
    let mut holders: Vec<PathBuf> = entries(common)?
        .into_iter()
        .filter(|entry| entry.head.as_ref() == Some(&wanted))
        .map(|entry| entry.path.unwrap_or(entry.admin))
        .collect();
    if text(&common.join("HEAD"))?.and_then(|head| parse_head(head.trim_end())) == Some(wanted) {
        holders.push(common.parent().filter(|_| common.ends_with(".git")).unwrap_or(common).to_owned());
    }
    Ok(holders)
}

fn parse_head(head: &str) -> Option<Head> {
    match head.strip_prefix("ref: ") {
        Some(reference) => {
            Some(Head::Branch(reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned()))
        }
        None if head.len() >= 40 && head.bytes().all(|c| c.is_ascii_hexdigit()) => {
            Some(Head::Detached(head.to_owned()))
        }
        None => None,
    }
}

/// A session's user may have put anything in its place: what is no plain file has no text, and is not waited for.
fn text(path: &Path) -> io::Result<Option<String>> {
    match plain(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn plain(path: &Path) -> io::Result<Vec<u8>> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_from_its_reason_and_others_reasons_are_nobodys() {
        let session = SessionId::from_random([3; 10]);
        let fence = Fence { generation: 2, epoch: 7 };
        let mark = Mark { installation: "aaaa".into(), node: "bbbb".into(), session, fence };
        assert_eq!(Mark::parse(&mark.reason()), Some(mark));
        for other in ["", "initializing", "drover:a:b:c", "drover:a:b:ses_x:1.1", "on a stick"] {
            assert_eq!(Mark::parse(other), None, "{other}");
        }
    }

    #[test]
    fn half_made_entries_are_seen_with_what_they_have() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(entries(dir.path()).unwrap(), []);
        let admin = dir.path().join("worktrees/a");
        fs::create_dir_all(&admin).unwrap();
        fs::write(admin.join("locked"), "initializing").unwrap();
        fs::write(admin.join("HEAD"), "").unwrap();
        let expected = Entry { admin, path: None, head: None, locked: Some("initializing".into()) };
        assert_eq!(entries(dir.path()).unwrap(), [expected]);
    }
}
