//! References and lock files as they lie in a repository's directory, read without git: names are listed for thousands of
//! sessions every minute, and few of them are ever opened. Only for the format that keeps references in files, which is the
//! only one that workspaces are made in.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What was found below one directory of references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Full names of references that are files.
    pub references: Vec<String>,
    /// Lock files, as paths below the common directory.
    pub locks: Vec<String>,
}

/// A reference of the file `packed-refs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    pub name: String,
    pub commit: String,
}

const DEEPEST: usize = 12;
/// Whoever has more than this has other troubles.
const MOST: usize = 200_000;

/// Everything below `directory` (such as `refs/drover`), or nothing if it is not there.
pub fn below(common: &Path, directory: &str) -> io::Result<Names> {
    let (mut found, mut open) = (Names::default(), vec![(directory.to_owned(), 0)]);
    while let Some((directory, depth)) = open.pop() {
        let listing = match fs::read_dir(common.join(&directory)) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            listing => listing?,
        };
        for item in listing {
            let item = item?;
            let Some(name) = item.file_name().to_str().map(|name| format!("{directory}/{name}")) else {
                continue;
            };
            if item.file_type()?.is_dir() {
                if depth < DEEPEST {
                    open.push((name, depth + 1));
                }
            } else if name.ends_with(".lock") {
                found.locks.push(name);
            } else {
                found.references.push(name);
            }
        }
        if found.references.len() + found.locks.len() > MOST {
            return Err(io::Error::other(format!("there are more than {MOST} references")));
        }
    }
    Ok(found)
}

/// The packed references below `prefix`.
pub fn packed(common: &Path, prefix: &str) -> io::Result<Vec<Packed>> {
    let text = match fs::read(common.join("packed-refs")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let of = |line: &[u8]| {
        let (commit, name) = std::str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
        let is_wanted = is_commit(commit) && name.starts_with(prefix);
        is_wanted.then(|| Packed { name: name.to_owned(), commit: commit.to_owned() })
    };
    Ok(text.split(|byte| *byte == b'\n').filter_map(of).collect())
}

/// The commit that the reference's own file names; `None`: it has none.
pub fn commit(common: &Path, name: &str) -> io::Result<Option<String>> {
    let text = match fs::read_to_string(common.join(name)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        text => text?,
    };
    let text = text.trim_end();
    Ok(is_commit(text).then(|| text.to_owned()))
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Lock files that lie directly in this directory.
pub fn locks_in(directory: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for item in fs::read_dir(directory)? {
        let name = item?.file_name();
        found.extend(name.to_str().filter(|name| name.ends_with(".lock")).map(str::to_owned));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_locks_are_told_apart_wherever_they_lie() {
        let dir = tempfile::tempdir().unwrap();
        let commit_id = "a".repeat(40);
        for (name, text) in [
            ("refs/drover/base/s", commit_id.as_str()),
            ("refs/drover/wip/s/1", "b"),
            ("refs/drover/wip/s/2.lock", ""),
            ("refs/heads/main", "c"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::write(
            dir.path().join("packed-refs"),
            format!("# pack-refs\n{commit_id} refs/drover/base/p\n^x\nx refs/drover/base/q\n"),
        )
        .unwrap();
        let mut found = below(dir.path(), "refs/drover").unwrap();
        found.references.sort();
        assert_eq!(found.references, ["refs/drover/base/s", "refs/drover/wip/s/1"]);
        assert_eq!(found.locks, ["refs/drover/wip/s/2.lock"]);
        assert_eq!(commit(dir.path(), "refs/drover/base/s").unwrap(), Some(commit_id.clone()));
        assert_eq!(commit(dir.path(), "refs/drover/wip/s/1").unwrap(), None);
        let packed = packed(dir.path(), "refs/drover/").unwrap();
        assert_eq!(packed, [Packed { name: "refs/drover/base/p".into(), commit: commit_id }]);
        assert_eq!(below(dir.path(), "refs/none").unwrap(), Names::default());
    }
}
