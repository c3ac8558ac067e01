//! The supervisor's own program: a copy in the state directory, because an upgrade of the agent takes the original away
//! while supervisors that were started from it go on.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use drover_daemon::atomic;

/// The copy of `program`, made if it is not there. Copies of other builds are removed; who runs from one keeps it.
pub(super) fn copy(program: &Path, state: &Path) -> io::Result<PathBuf> {
    let directory = state.join("shim");
    atomic::private_directory(&directory)?;
    let original = fs::metadata(program)?;
    let name = format!("drover-shim-{}-{}.{:09}", original.len(), original.mtime(), original.mtime_nsec());
    let path = directory.join(&name);
    if !path.try_exists()? {
        put(program, &path)?;
    }
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        if entry.file_name() != *name {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(path)
}

/// A second name costs nothing and shares memory with the agent; where there cannot be one, a real copy.
fn put(program: &Path, path: &Path) -> io::Result<()> {
    if fs::hard_link(program, path).is_ok() {
        return Ok(());
    }
    let beside = path.with_extension("new");
    fs::copy(program, &beside)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o700))?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_stays_when_the_original_goes_and_is_replaced_by_that_of_another_build() {
        let dir = tempfile::tempdir().unwrap();
        let (program, state) = (dir.path().join("agent"), dir.path().join("state"));
        fs::write(&program, "one").unwrap();
        let first = copy(&program, &state).unwrap();
        assert_eq!(copy(&program, &state).unwrap(), first);
        fs::remove_file(&program).unwrap();
        assert_eq!(fs::read(&first).unwrap(), b"one");
        fs::write(&program, "another").unwrap();
        let second = copy(&program, &state).unwrap();
        assert_ne!(first, second);
        assert!(!first.exists());
    }
}
