//! Walks a workspace's files as they are, without following any symbolic link, also not one that is put in the way
//! while it walks: every directory is opened from its parent. It changes nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};

/// One thing below the root.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// From the root, without a leading slash.
    pub path: &'a [u8],
    /// The permission bits.
    pub mode: u32,
    /// When it or its name last changed, in nanoseconds since 1970; nobody but the kernel sets that.
    pub changed: i128,
    /// When its bytes last changed, as whoever wrote them may have set it.
    pub modified: i128,
    pub inode: u64,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// The file is open unless the walk only measures.
    File {
        file: Option<File>,
        size: u64,
    },
    Link {
        target: Vec<u8>,
    },
    /// Told after what is in it.
    Directory {
        is_empty: bool,
    },
    /// A socket, a pipe, a device: nothing of it can be saved.
    Other,
}

/// A walk that could not go on, and where.
#[derive(Debug)]
pub(super) struct Broken {
    pub path: PathBuf,
    pub error: io::Error,
}

type Visit<'v> = dyn FnMut(Found<'_>) -> io::Result<()> + 'v;

struct Walk<'v> {
    skip: &'v dyn Fn(&[u8]) -> bool,
    visit: &'v mut Visit<'v>,
    path: Vec<u8>,
    opens: bool,
}

/// Deeper than this nothing is saved: each level costs an open file.
const DEEPEST: usize = 400;

/// Tells `visit` of everything below `root` that is not skipped (with all below it), in the order of names.
pub(super) fn walk<'v>(
    root: &Path,
    skip: &'v dyn Fn(&[u8]) -> bool,
    visit: &'v mut Visit<'v>,
) -> Result<(), Broken> {
    Walk { skip, visit, path: vec![], opens: true }.start(root)
}

/// The same without opening the files.
pub(super) fn manifest_walk<'v>(
    root: &Path,
    skip: &'v dyn Fn(&[u8]) -> bool,
    visit: &'v mut Visit<'v>,
) -> Result<(), Broken> {
    Walk { skip, visit, path: vec![], opens: false }.start(root)
}

/// The same for what is at `name` below `root` and all below that; for nothing if it is not there, or lies behind a
/// symbolic link. Opens the files if `opens` says so.
pub(super) fn walk_below<'v>(
    (root, name): (&Path, &[u8]),
    opens: bool,
    skip: &'v dyn Fn(&[u8]) -> bool,
    visit: &'v mut Visit<'v>,
) -> Result<(), Broken> {
    let broken = |error| Broken { path: root.join(OsStr::from_bytes(name)), error };
    let (parent, last) = match parent_of(root, name) {
        Err(error) if is_absent(&error) => return Ok(()),
        other => other.map_err(broken)?,
    };
    Walk { skip, visit, path: name.to_vec(), opens }.item(&parent, last, 0).map_err(broken)
}

/// The directory that the thing is in, and its name there.
fn parent_of<'n>(root: &Path, name: &'n [u8]) -> io::Result<(OwnedFd, &'n [u8])> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut parent = openat(CWD, root, flags, Mode::empty())?;
    let (above, last) = match name.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&name[..slash], &name[slash + 1..]),
        None => (&b""[..], name),
    };
    for part in above.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        parent = openat(&parent, part, flags, Mode::empty())?;
    }
    statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((parent, last))
}

fn is_absent(error: &io::Error) -> bool {
    // A symbolic link in the way is refused as a loop or as no directory.
    let is_loop = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    is_loop || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// How many bytes are below `root`, and how many files, looking at no more than `most`; the flag: that was all.
pub(super) fn measure(root: &Path, most: u64) -> (u64, u64, bool) {
    let (mut bytes, mut files) = (0, 0);
    let mut count = |found: Found<'_>| {
        if files >= most {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if let Kind::File { size, .. } = found.kind {
            bytes += size;
        }
        files += 1;
        Ok(())
    };
    let is_all = Walk { skip: &|_| false, visit: &mut count, path: vec![], opens: false }.start(root).is_ok();
    (bytes, files, is_all)
}

/// Whether a repository lies somewhere below `root`; what cannot be looked at may hold one.
pub(super) fn holds_repository(root: &Path) -> bool {
    let mut look = |found: Found<'_>| {
        let is_git = found.path == b".git" || found.path.ends_with(b"/.git");
        if is_git { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    };
    let is_directory = root.symlink_metadata().is_ok_and(|found| found.is_dir());
    is_directory
        && Walk { skip: &|_| false, visit: &mut look, path: vec![], opens: false }.start(root).is_err()
}

impl Walk<'_> {
    fn start(&mut self, root: &Path) -> Result<(), Broken> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat(CWD, root, flags, Mode::empty()).map_err(io::Error::from);
        opened.and_then(|directory| self.directory(&directory, 0)).map(drop).map_err(|error| {
            let below = PathBuf::from(String::from_utf8_lossy(&self.path).into_owned());
            Broken { path: root.join(below), error }
        })
    }

    /// Whether there was nothing in it but what is skipped.
    fn directory(&mut self, directory: &OwnedFd, depth: usize) -> io::Result<bool> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!("directories lie deeper than {DEEPEST} levels")));
        }
        let mut names = Vec::new();
        for item in Dir::read_from(directory)? {
            let item = item?;
            let name = item.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        let mut is_empty = true;
        for name in &names {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            if !(self.skip)(&self.path) {
                is_empty = false;
                self.item(directory, name, depth)?;
            }
            self.path.truncate(length);
        }
        Ok(is_empty)
    }

    fn item(&mut self, parent: &OwnedFd, name: &[u8], depth: usize) -> io::Result<()> {
        let seen = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = seen.st_mode & 0o7777;
        let kind = match FileType::from_raw_mode(seen.st_mode) {
            FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
                let opened = openat(parent, name, flags, Mode::empty())?;
                Kind::Directory { is_empty: self.directory(&opened, depth + 1)? }
            }
            FileType::Symlink => Kind::Link { target: readlinkat(parent, name, Vec::new())?.into_bytes() },
            FileType::RegularFile if self.opens => open(parent, name)?,
            FileType::RegularFile => Kind::File { file: None, size: size(&seen) },
            _ => Kind::Other,
        };
        let nanos = |seconds: i64, nanos| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let changed = nanos(seen.st_ctime, seen.st_ctime_nsec);
        let modified = nanos(seen.st_mtime, seen.st_mtime_nsec);
        (self.visit)(Found { path: &self.path, mode, changed, modified, inode: seen.st_ino, kind })
    }
}

fn open(parent: &OwnedFd, name: &[u8]) -> io::Result<Kind> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = openat(parent, name, flags, Mode::empty())?;
    let seen = fstat(&opened)?;
    // It may have become something else since it was looked at.
    if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
        return Ok(Kind::Other);
    }
    Ok(Kind::File { file: Some(File::from(opened)), size: size(&seen) })
}

fn size(seen: &Stat) -> u64 {
    u64::try_from(seen.st_size).unwrap_or(0)
}
