//! The directory that holds a `dev`: whose it is, the address that it remembers, and the client context that leads to
//! it. One process at a time has it, by a lock that no crash leaves behind.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use drover_daemon::atomic;
use rustix::fs::{FlockOperation, flock};

use crate::cli::Global;
use crate::context::file::{Entry, change, path};
use crate::context::{Target, xdg};
use crate::error::{Exit, Failure};

#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The context's name.
    context: String,
    /// Held for as long as this is.
    _lock: File,
}

impl Directory {
    /// The given directory, or the usual one; made if it is not there.
    pub fn open(given: Option<&Path>) -> Result<Self, Failure> {
        let usual = xdg("XDG_STATE_HOME", ".local/state")?.join("drover").join("dev");
        let wanted = given.unwrap_or(&usual);
        let failed = |error: io::Error| {
            Failure::new(Exit::Failed, "cannot use the data directory").at(wanted.display()).why(error)
        };
        atomic::private_directory(wanted).map_err(failed)?;
        let path = wanted.canonicalize().map_err(failed)?;
        if !atomic::is_private(&path).map_err(failed)? {
            return Err(Failure::new(Exit::Failed, "others may enter the data directory, which holds keys")
                .at(path.display())
                .next(format!("chmod 700 {}", path.display())));
        }
        let lock = File::options().create(true).append(true).open(path.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(&path)),
            Err(error) => return Err(failed(error.into())),
        }
        let is_usual = usual.canonicalize().is_ok_and(|usual| usual == path);
        let context = if is_usual { "dev".to_owned() } else { format!("dev-{:08x}", hash(&path)) };
        Ok(Self { path, context, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the context that leads here.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// Where it listened the last time.
    pub fn address(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.path.join("address")).ok()?.trim().parse().ok()
    }

    /// Writes down where it listens.
    pub fn keep_address(&self, address: SocketAddr) -> io::Result<()> {
        atomic::write(&self.path.join("address"), format!("{address}\n").as_bytes(), 0o600)
    }

    /// Makes the context known, and the current one if no other is. The answer is the current one.
    pub fn remember(&self, global: &Global, target: &Target) -> Result<String, Failure> {
        change(&path(global)?, |contexts| {
            let project = contexts.contexts.get(&self.context).and_then(|entry| entry.project.clone());
            let Target { address, ca, token, .. } = target.clone();
            contexts.contexts.insert(self.context.clone(), Entry { address, project, token, ca });
            Ok(contexts.current.get_or_insert_with(|| self.context.clone()).clone())
        })
    }
}

fn taken(path: &Path) -> Failure {
    Failure::new(Exit::Conflict, "another `droverctl dev` has this data directory")
        .at(path.display())
        .next("it serves already: `droverctl run --repo . -- CMD` runs something there")
        .next("`--data-dir DIR` starts another one, with everything of its own")
}

/// FNV-1a: the same for the same path, in every version of this program.
fn hash(path: &Path) -> u32 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_process_s_and_its_context_is_named_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = Directory::open(Some(&path)).unwrap();
        assert_eq!(Directory::open(Some(&path)).unwrap_err().exit, Exit::Conflict);
        let name = first.context().to_owned();
        assert!(name.starts_with("dev-"), "{name}");
        drop(first);
        assert_eq!(Directory::open(Some(&path)).unwrap().context(), name);
    }

    #[test]
    fn the_address_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(Some(&dir.path().join("data"))).unwrap();
        assert_eq!(directory.address(), None);
        directory.keep_address("127.0.0.1:7437".parse().unwrap()).unwrap();
        assert_eq!(directory.address(), "127.0.0.1:7437".parse().ok());
    }
}
