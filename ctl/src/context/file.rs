//! The file of contexts: read whole, changed under a lock, replaced atomically. It holds tokens, so nobody else may
//! read it, and this program does not read one that others may.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use drover_daemon::atomic;
use drover_domain::name::Name;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::cli::Global;
use crate::error::{Exit, Failure};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The name of the one that is used unless another is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Entry>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `https://HOST:PORT`
    pub address: String,
    /// The project that plain names belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    pub token: String,
    /// The authority to trust, PEM.
    pub ca: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("address", &self.address)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

/// Where the file is.
pub fn path(global: &Global) -> Result<PathBuf, Failure> {
    match &global.config {
        Some(path) => Ok(path.clone()),
        None => Ok(super::xdg("XDG_CONFIG_HOME", ".config")?.join("drover").join("config.toml")),
    }
}

impl Contexts {
    /// No file is no context.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unusable(path, "cannot read the file of contexts", &error)),
        };
        if !atomic::is_private(path).unwrap_or(false) {
            return Err(Failure::new(
                Exit::Usage,
                "others may read the file of contexts, which holds tokens",
            )
            .at(path.display())
            .next(format!("chmod 600 {}", path.display())));
        }
        toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Failure::new(Exit::Usage, "the file of contexts is not as it must be")
                .at(format!("{}:{line}", path.display()))
                .why(error.message())
        })
    }
}

/// Reads, changes and replaces the file, alone.
pub fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut Contexts) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let failed = |error: io::Error| unusable(path, "cannot change the file of contexts", &error);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    atomic::private_directory(directory).map_err(failed)?;
    let lock = File::open(directory).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let mut contexts = Contexts::read(path)?;
    let before = contexts.clone();
    let result = change(&mut contexts)?;
    if contexts != before {
        let text = toml::to_string(&contexts).map_err(|error| failed(io::Error::other(error)))?;
        atomic::write(path, text.as_bytes(), 0o600).map_err(failed)?;
    }
    Ok(result)
}

/// A context's name follows the rule for all names.
pub fn checked(name: &str) -> Result<String, Failure> {
    let wrong = |problem| Failure::new(Exit::Usage, format!("the context's name '{name}' {problem}"));
    Name::new(name).map(|name| name.to_string()).map_err(wrong)
}

fn unusable(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, what).at(path.display()).why(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry { address: "https://h:1".into(), project: None, token: "t".into(), ca: "line\nline\n".into() }
    }

    #[test]
    fn what_was_changed_is_read_again_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("config.toml");
        change(&path, |contexts| {
            contexts.contexts.insert("a".into(), entry());
            Ok(())
        })
        .unwrap();
        assert_eq!(Contexts::read(&path).unwrap().contexts["a"], entry());
        assert!(atomic::is_private(&path).unwrap());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        atomic::write(&path, b"current = \"a\"\n\ncolour = true\n", 0o600).unwrap();
        let failure = Contexts::read(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("config.toml:3"), "{failure}");
        assert!(failure.to_string().contains("colour"), "{failure}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        atomic::write(&path, b"", 0o644).unwrap();
        assert!(Contexts::read(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_change_that_fails_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let failed = change(&path, |contexts| {
            contexts.contexts.insert("a".into(), entry());
            Err::<(), _>(Failure::new(Exit::Failed, "no"))
        });
        assert!(failed.is_err());
        assert_eq!(Contexts::read(&path).unwrap(), Contexts::default());
    }
}
