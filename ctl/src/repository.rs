//! Which repository a person means: a URL as it is, a path as an absolute one on this machine, or the repository that a
//! directory is in. Nothing is opened here: whether git can use it, the node says.

use std::path::{Path, PathBuf};

use crate::error::{Exit, Failure};
use crate::machine;

/// A repository as a session's spec has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// A URL or an absolute path.
    pub text: String,
    /// The machine that a path is on; empty with a URL, or if a node is named.
    pub machine: String,
}

/// What `--repo` means; `on_node`: the path, if it is one, is on a node that was named.
pub fn named(text: &str, on_node: bool) -> Result<Repository, Failure> {
    if is_url(text) {
        return Ok(Repository { text: text.to_owned(), machine: String::new() });
    }
    let path = Path::new(text);
    if on_node {
        if path.is_absolute() {
            return Ok(Repository { text: text.to_owned(), machine: String::new() });
        }
        return Err(Failure::new(Exit::Usage, format!("--repo {text} is not an absolute path"))
            .why("with --node, a path is one of that node's"));
    }
    of_directory(path)
}

/// The repository that `path` is, or is in.
pub fn of_directory(path: &Path) -> Result<Repository, Failure> {
    let real = path.canonicalize().map_err(|error| {
        Failure::new(Exit::Usage, "the repository cannot be found")
            .at(path.display())
            .why(error)
            .next("give --repo a directory of this machine, or a URL")
    })?;
    let found = real.ancestors().find(|directory| is_repository(directory)).ok_or_else(|| {
        Failure::new(Exit::Usage, "there is no git repository here")
            .at(real.display())
            .why("neither it nor a directory above it is one")
            .next("change to one, or make one: git init && git commit --allow-empty -m first")
    })?;
    Ok(Repository { text: utf8(found.to_owned())?, machine: machine::id() })
}

/// The repository of the current directory.
#[cfg(feature = "dev")]
pub fn here() -> Result<Repository, Failure> {
    let directory = std::env::current_dir()
        .map_err(|error| Failure::new(Exit::Usage, "the current directory cannot be found").why(error))?;
    of_directory(&directory)
}

/// `scheme://…` and `host:path` are URLs, unless a file is called so.
fn is_url(text: &str) -> bool {
    if text.contains("://") {
        return true;
    }
    let before_slash = text.split('/').next().unwrap_or_default();
    before_slash.contains(':') && !text.starts_with(['.', '/']) && !Path::new(text).exists()
}

/// A work tree (`.git` is a directory, or a file in a linked one) or a bare repository.
fn is_repository(directory: &Path) -> bool {
    let is_store = |store: &Path| store.join("HEAD").exists() && store.join("objects").is_dir();
    let inner = directory.join(".git");
    inner.is_file() || is_store(&inner) || is_store(directory)
}

fn utf8(path: PathBuf) -> Result<String, Failure> {
    path.into_os_string().into_string().map_err(|path| {
        Failure::new(Exit::Usage, "the repository's path is not UTF-8").at(PathBuf::from(path).display())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn repository(directory: &Path) {
        fs::create_dir_all(directory.join(".git/objects")).unwrap();
        fs::write(directory.join(".git/HEAD"), "ref: refs/heads/main").unwrap();
    }

    #[test]
    fn a_url_stays_as_it_is_and_belongs_to_no_machine() {
        for url in ["https://h/r.git", "git@host:r.git", "host:/srv/r", "file:///srv/r", "ext::sh -c x"] {
            let found = named(url, false).unwrap();
            assert_eq!((found.text.as_str(), found.machine.as_str()), (url, ""));
        }
    }

    #[test]
    fn a_path_is_the_repository_around_it_on_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        repository(&root);
        fs::create_dir_all(root.join("src/deep")).unwrap();
        let found = of_directory(&root.join("src/deep/../deep")).unwrap();
        assert_eq!((found.text.as_str(), found.machine), (root.to_str().unwrap(), machine::id()));
    }

    #[test]
    fn no_repository_and_no_directory_are_different_mistakes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(of_directory(dir.path()).unwrap_err().to_string().contains("no git repository"));
        assert!(of_directory(&dir.path().join("x")).unwrap_err().to_string().contains("cannot be found"));
    }

    #[test]
    fn on_a_named_node_a_path_is_that_nodes_and_absolute() {
        assert_eq!(named("/srv/r", true).unwrap().machine, "");
        assert!(named("r", true).is_err());
    }
}
