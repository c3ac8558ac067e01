//! Writes files below one directory and never outside of it, whatever their names say and whoever puts links in the
//! way meanwhile: every directory is opened from its parent, without following a link. Each file comes whole, by a
//! rename. With a user, everything is his, and nothing is written into what is not.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Gid, Mode, OFlags, Uid, chmod, chownat, fchmod, fchown, fstat, mkdirat, openat,
    readlinkat, renameat, symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;

use crate::git::read::{bytes_id, file_id};
use crate::git::runner::Account;

pub(super) struct Ground {
    root: OwnedFd,
    who: Option<(Uid, Gid)>,
    /// The directory that was opened last: files come in the order of their paths.
    last: Option<(Vec<u8>, OwnedFd)>,
}

/// A file that is not whole yet; only one at a time is, in one directory.
const HALF: &[u8] = b".drover-restoring";
const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);

impl Ground {
    pub(super) fn open(root: &Path, who: Option<&Account>) -> io::Result<Self> {
        let who = who.map(|who| (Uid::from_raw(who.uid), Gid::from_raw(who.gid)));
        let root = openat(CWD, root, DIRECTORY, Mode::empty())?;
        Ok(Self { root: his(root, who)?, who, last: None })
    }

    /// Whether the file is there, with this content (by its id); its mode is set.
    pub(super) fn has(&mut self, path: &[u8], mode: u32, id: &str) -> io::Result<bool> {
        let who = self.who;
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        match openat(parent, name, flags, Mode::empty()) {
            Ok(opened) => {
                let is_his =
                    who.is_none_or(|(uid, _)| fstat(&opened).is_ok_and(|it| it.st_uid == uid.as_raw()));
                let file = std::fs::File::from(opened);
                if !is_his || !file.metadata()?.is_file() || file_id(&file).map_err(io::Error::other)? != id {
                    return Ok(false);
                }
                fchmod(&file, Mode::from_raw_mode(mode))?;
                Ok(true)
            }
            Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS | Errno::NXIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the link is there.
    pub(super) fn has_link(&mut self, path: &[u8], id: &str) -> io::Result<bool> {
        let (parent, name) = self.parent(path)?;
        match readlinkat(parent, name, Vec::new()) {
            Ok(target) => Ok(bytes_id(target.as_bytes()).map_err(io::Error::other)? == id),
            Err(Errno::NOENT | Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn write(&mut self, path: &[u8], mode: u32, content: &mut dyn Read) -> io::Result<()> {
        let who = self.who;
        let (parent, name) = self.parent(path)?;
        absent(unlinkat(parent, HALF, AtFlags::empty()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(openat(parent, HALF, flags, Mode::from_raw_mode(0o600))?);
        io::copy(content, &mut file)?;
        if let Some((uid, gid)) = who {
            fchown(&file, Some(uid), Some(gid))?;
        }
        fchmod(&file, Mode::from_raw_mode(mode))?;
        into_place(parent, name)
    }

    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let who = self.who;
        let (parent, name) = self.parent(path)?;
        absent(unlinkat(parent, HALF, AtFlags::empty()))?;
        symlinkat(target, parent, HALF)?;
        if let Some((uid, gid)) = who {
            chownat(parent, HALF, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        into_place(parent, name)
    }

    /// Takes the file away, if it is there.
    pub(super) fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        absent(unlinkat(parent, name, AtFlags::empty()))
    }

    /// Has the directory there.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<()> {
        self.enter(path).map(drop)
    }

    /// Sets a directory's mode, once everything is in it.
    pub(super) fn close(&mut self, path: &[u8], mode: u32) -> io::Result<()> {
        let directory = self.enter(path)?;
        fchmod(directory, Mode::from_raw_mode(mode)).map_err(io::Error::from)?;
        // It may not be opened again as it is now.
        self.last = None;
        Ok(())
    }

    /// What was written survives a power cut from here on.
    pub(super) fn sync(&self) -> io::Result<()> {
        syncfs(&self.root).map_err(io::Error::from)
    }

    fn parent<'p>(&mut self, path: &'p [u8]) -> io::Result<(&OwnedFd, &'p [u8])> {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            // From the very root: no such path is made here.
            Some(0) => (path, &b""[..]),
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        plain(name)?;
        Ok((self.enter(above)?, name))
    }

    fn enter(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        let is_last = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !is_last {
            let mut directory = self.root.try_clone()?;
            for part in path.split(|byte| *byte == b'/').filter(|_| !path.is_empty()) {
                plain(part)?;
                directory = self.step(&directory, part)?;
            }
            self.last = Some((path.to_vec(), directory));
        }
        self.last.as_ref().map(|(_, directory)| directory).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Opens the directory, and makes it if it is not there. A file in its place gives way.
    fn step(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
        let opened = match openat(parent, name, DIRECTORY, Mode::empty()) {
            Err(Errno::ACCESS) => {
                // Its own mode was set before a kill; by its descriptor, as the name may become a link.
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let there = his(openat(parent, name, flags, Mode::empty())?, self.who)?;
                chmod(format!("/proc/self/fd/{}", there.as_raw_fd()), Mode::RWXU)?;
                openat(parent, name, DIRECTORY, Mode::empty())
            }
            other => other,
        };
        match opened {
            Ok(directory) => return his(directory, self.who),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => unlinkat(parent, name, AtFlags::empty())?,
            Err(error) => return Err(error.into()),
        }
        mkdirat(parent, name, Mode::RWXU)?;
        let made = openat(parent, name, DIRECTORY, Mode::empty())?;
        if let Some((uid, gid)) = self.who {
            fchown(&made, Some(uid), Some(gid))?;
        }
        his(made, self.who)
    }
}

/// A part of a path that leads nowhere else.
fn plain(part: &[u8]) -> io::Result<()> {
    if matches!(part, b"" | b"." | b"..") || part.contains(&0) {
        let name = String::from_utf8_lossy(part);
        return Err(io::Error::other(format!("'{name}' is no name that a file may have")));
    }
    Ok(())
}

/// A directory that is the user's, if there is one to be.
fn his(directory: OwnedFd, who: Option<(Uid, Gid)>) -> io::Result<OwnedFd> {
    match who {
        Some((uid, _)) if fstat(&directory)?.st_uid != uid.as_raw() => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the directory belongs to another user"))
        }
        _ => Ok(directory),
    }
}

fn into_place(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match renameat(parent, HALF, parent, name) {
        Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
            remove_all(parent, name)?;
            renameat(parent, HALF, parent, name).map_err(io::Error::from)
        }
        other => other.map_err(io::Error::from),
    }
}

fn remove_all(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(directory) => {
            for item in Dir::read_from(&directory)? {
                let item = item?;
                let inner = item.file_name().to_bytes();
                if inner != b"." && inner != b".." {
                    remove_all(&directory, inner)?;
                }
            }
            unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(io::Error::from)
        }
        Err(Errno::NOTDIR | Errno::LOOP) => unlinkat(parent, name, AtFlags::empty()).map_err(io::Error::from),
        Err(error) => Err(error.into()),
    }
}

fn absent(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn neither_names_nor_links_lead_out_of_the_ground() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "precious").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), root.join("file")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), root.join(".drover-restoring")).unwrap();
        let mut ground = Ground::open(&root, None).unwrap();
        for name in ["../escape", "a/../../escape", "/escape", "a//b", "./a", ".."] {
            assert!(ground.write(name.as_bytes(), 0o644, &mut &b"x"[..]).is_err(), "{name}");
        }
        ground.write(b"link/new", 0o644, &mut &b"x"[..]).unwrap();
        ground.write(b"file", 0o644, &mut &b"x"[..]).unwrap();
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(root.join("link/new")).unwrap(), b"x");
        assert!(root.join("file").symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(Ground::open(&root.join("link/../../outside/../root/none"), None).is_err());
    }

    #[test]
    fn a_file_gives_way_to_a_directory_and_a_directory_to_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut ground = Ground::open(dir.path(), None).unwrap();
        ground.write(b"a", 0o644, &mut &b"x"[..]).unwrap();
        ground.write(b"a/b/c", 0o644, &mut &b"y"[..]).unwrap();
        assert_eq!(fs::read(dir.path().join("a/b/c")).unwrap(), b"y");
        ground.write(b"a", 0o600, &mut &b"z"[..]).unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"z");
        ground.link(b"a", b"/etc").unwrap();
        assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("/etc"));
    }
}
