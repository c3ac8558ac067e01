//! What can go wrong with git, told so that a person knows what, where, why and what next. git's own words are
//! sorted by what they say in the C locale; what is not recognised is passed on as it is, never guessed at.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_domain::session::{Fault, FaultCode};
use thiserror::Error;

/// An operation on a repository that did not succeed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{operation} in {}: {cause}", place.display())]
pub struct Failure {
    /// What was tried, in words: "make the worktree".
    pub operation: &'static str,
    pub place: PathBuf,
    pub cause: Box<Cause>,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Cause {
    #[error("git was not found as '{0}'")]
    GitMissing(String),
    #[error("is not a git repository")]
    NotARepository,
    #[error("the repository belongs to another user")]
    ForeignOwner,
    #[error("the repository {0}, which Drover cannot work with")]
    Unsupported(String),
    #[error("permission denied: {0}")]
    Permission(String),
    #[error("the disk is full: {0}")]
    DiskFull(String),
    #[error("the lock {} is held{}", path.display(), by(holder))]
    LockHeld { path: PathBuf, holder: Option<String> },
    #[error("the remote cannot be reached: {0}")]
    Network(String),
    #[error("the remote refused access: {0}")]
    Authentication(String),
    #[error("the branch '{branch}' is taken{}", at(place))]
    BranchTaken { branch: String, place: Option<String> },
    #[error("the base '{0}' does not exist")]
    BaseMissing(String),
    #[error("{} is gone", .0.display())]
    PathGone(PathBuf),
    #[error("{} is taken: {why}", path.display())]
    PathTaken { path: PathBuf, why: String },
    #[error("took longer than {} s and was stopped", .0.as_secs())]
    TimedOut(Duration),
    #[error("the work in it cannot be saved, so nothing was removed: {0}")]
    WorkNotSaveable(String),
    #[error("the trash has {held} bytes of {budget}, and this would add {needed}, so nothing was removed")]
    TrashFull { held: u64, needed: u64, budget: u64 },
    #[error("{0}")]
    Other(String),
}

fn by(holder: &Option<String>) -> String {
    holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default()
}

fn at(place: &Option<String>) -> String {
    place.as_ref().map(|place| format!(": {place}")).unwrap_or_default()
}

impl Failure {
    pub fn new(operation: &'static str, place: &Path, cause: Cause) -> Self {
        Self { operation, place: place.to_owned(), cause: Box::new(cause) }
    }

    /// From a system call on `path`.
    pub fn io(operation: &'static str, path: &Path, error: &io::Error) -> Self {
        let text = format!("{}: {error}", path.display());
        let cause = match error.kind() {
            io::ErrorKind::PermissionDenied => Cause::Permission(text),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::DiskFull(text),
            io::ErrorKind::NotFound => Cause::PathGone(path.to_owned()),
            _ => Cause::Other(text),
        };
        Self::new(operation, path, cause)
    }

    pub fn code(&self) -> FaultCode {
        match &*self.cause {
            Cause::GitMissing(_) => FaultCode::GitMissing,
            Cause::NotARepository => FaultCode::NotARepository,
            Cause::ForeignOwner | Cause::Permission(_) => FaultCode::PermissionDenied,
            Cause::Unsupported(_) => FaultCode::RepositoryUnsupported,
            Cause::DiskFull(_) | Cause::TrashFull { .. } => FaultCode::DiskFull,
            Cause::LockHeld { .. } => FaultCode::LockHeld,
            Cause::Network(_) => FaultCode::Network,
            Cause::Authentication(_) => FaultCode::Authentication,
            Cause::BranchTaken { .. } => FaultCode::BranchTaken,
            Cause::BaseMissing(_) => FaultCode::BaseMissing,
            Cause::PathGone(_) => FaultCode::PathGone,
            Cause::PathTaken { .. } => FaultCode::PathTaken,
            Cause::TimedOut(_) => FaultCode::TimedOut,
            Cause::WorkNotSaveable(_) => FaultCode::WorkNotSaveable,
            Cause::Other(_) => FaultCode::Other,
        }
    }

    /// Whether the same command may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(&*self.cause, Cause::LockHeld { .. } | Cause::Network(_))
    }

    /// Whether it makes sense to try the step again later without anybody mending something.
    pub fn is_retryable(&self) -> bool {
        self.is_transient()
            || matches!(&*self.cause, Cause::TimedOut(_) | Cause::DiskFull(_) | Cause::TrashFull { .. })
    }

    /// What a person can do about it.
    pub fn hint(&self) -> String {
        match &*self.cause {
            Cause::GitMissing(_) => "install git on the node, or set its path in the agent's config".into(),
            Cause::NotARepository => "check the path or URL".into(),
            Cause::ForeignOwner => {
                "run the session as the repository's owner (--run-as), or let the agent's user own it".into()
            }
            Cause::Unsupported(_) => "use a clone of it in the usual format".into(),
            Cause::Permission(_) => "give the session's user (or the agent's) access to the path".into(),
            Cause::DiskFull(_) => "free some space on the node, for example by droverctl rm".into(),
            Cause::LockHeld { path, .. } => {
                format!("wait for the other program to end; if none is left, remove {}", path.display())
            }
            Cause::Network(_) => "check the URL and the node's network".into(),
            Cause::Authentication(_) => {
                "set up a credential helper or an ssh key for the user on the node".into()
            }
            Cause::BranchTaken { branch, .. } => {
                format!("choose another name for the session, or delete or rename the branch '{branch}'")
            }
            Cause::BaseMissing(base) if base == "HEAD" => {
                "if it has no commit yet, make one: git commit --allow-empty -m first".into()
            }
            Cause::BaseMissing(_) => "name a branch, tag or commit that the repository has".into(),
            Cause::PathGone(_) => "put the path back, or remove the session".into(),
            Cause::PathTaken { path, .. } => format!("move {} away, or choose another name", path.display()),
            Cause::TimedOut(_) => {
                "try again; raise the agent's git timeouts if the repository is large".into()
            }
            Cause::WorkNotSaveable(_) => "look at the path named, then remove the session again".into(),
            Cause::TrashFull { .. } => {
                "droverctl trash ls, then purge what is not needed; or raise the agent's limit for the trash"
                    .into()
            }
            Cause::Other(_) => "the agent's log has git's full answer".into(),
        }
    }

    /// As the domain reports it, for the step that met it.
    pub fn fault(&self, step: &str) -> Fault {
        Fault {
            code: self.code(),
            step: step.into(),
            text: self.to_string().into(),
            hint: self.hint().into(),
            retryable: self.is_retryable(),
        }
    }
}

const DISK_FULL: &[&str] = &["no space left on device", "disk quota exceeded"];
const AUTHENTICATION: &[&str] = &[
    "authentication failed",
    "could not read username",
    "could not read password",
    "permission denied (",
    "terminal prompts disabled",
    "host key verification failed",
    "error: 401",
    "error: 403",
];
const NETWORK: &[&str] = &[
    "could not resolve host",
    "failed to connect",
    "connection refused",
    "connection timed out",
    "connection reset",
    "operation timed out",
    "network is unreachable",
    "no route to host",
    "the remote end hung up",
    "early eof",
    "error: 429",
    "error: 502",
    "error: 503",
    "error: 504",
];
const NOT_A_REPOSITORY: &[&str] = &["not a git repository", "does not appear to be a git repository"];
const UNSUPPORTED: &[&str] = &[
    "unknown repository extension",
    "expected git repo version",
    "unsupported ref storage",
    "unknown hash algorithm",
];
const PERMISSION: &[&str] =
    &["permission denied", "read-only file system", "operation not permitted", "insufficient permission"];

/// Sorts what git wrote to its standard error.
pub(crate) fn classify(stderr: &str) -> Cause {
    let lower = stderr.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(DISK_FULL) {
        Cause::DiskFull(last_line(stderr))
    } else if says(&["dubious ownership"]) {
        Cause::ForeignOwner
    } else if let Some(path) = lock_file(stderr) {
        Cause::LockHeld { path, holder: None }
    } else if says(AUTHENTICATION) {
        Cause::Authentication(last_line(stderr))
    } else if says(NETWORK) {
        Cause::Network(last_line(stderr))
    } else if says(NOT_A_REPOSITORY) {
        Cause::NotARepository
    } else if says(UNSUPPORTED) {
        Cause::Unsupported(format!("says: {}", last_line(stderr)))
    } else if says(PERMISSION) {
        Cause::Permission(last_line(stderr))
    } else {
        branch_taken(stderr).unwrap_or_else(|| Cause::Other(tail(stderr)))
    }
}

/// The file in `Unable to create '…/x.lock': File exists` and its like.
fn lock_file(stderr: &str) -> Option<PathBuf> {
    let locked = stderr.contains(".lock': File exists")
        || stderr.contains("could not lock config file")
        || (stderr.contains("cannot lock ref") && stderr.contains("File exists"));
    if !locked {
        return None;
    }
    let named = stderr.split('\'').find(|part| part.ends_with(".lock")).map(PathBuf::from);
    let config = || {
        let (_, rest) = stderr.split_once("could not lock config file ")?;
        Some(PathBuf::from(format!("{}.lock", rest.split(": ").next()?)))
    };
    Some(named.or_else(config).unwrap_or_else(|| PathBuf::from("*.lock")))
}

fn branch_taken(stderr: &str) -> Option<Cause> {
    for words in ["is already used by worktree at ", "is already checked out at "] {
        if let Some((before, after)) = stderr.split_once(words) {
            let branch = before.rsplit('\'').nth(1).unwrap_or_default().to_owned();
            let place = format!("it is checked out at {}", after.lines().next().unwrap_or_default());
            return Some(Cause::BranchTaken { branch, place: Some(place) });
        }
    }
    None
}

fn last_line(stderr: &str) -> String {
    let telling = |line: &&str| line.starts_with("fatal:") || line.starts_with("error:");
    let line =
        stderr.lines().rev().find(telling).or_else(|| stderr.lines().rev().find(|line| !line.is_empty()));
    printable(line.unwrap_or("git gave no reason"), 500)
}

fn tail(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join("; ");
    if last.is_empty() { "git failed and gave no reason".into() } else { printable(&last, 1000) }
}

/// A remote chooses some of the words: none of them may move a terminal's cursor.
fn printable(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_sorted_by_its_cause() {
        use FaultCode as C;
        let table = [
            ("fatal: not a git repository (or any of the parent directories): .git", C::NotARepository),
            ("fatal: detected dubious ownership in repository at '/srv/a'", C::PermissionDenied),
            (
                "fatal: Unable to create '/srv/a/.git/packed-refs.lock': File exists.\n\nAnother git process",
                C::LockHeld,
            ),
            ("error: could not lock config file .git/config: File exists", C::LockHeld),
            ("fatal: unable to access 'https://x/': Could not resolve host: x", C::Network),
            (
                "git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.",
                C::Authentication,
            ),
            ("fatal: could not read Username for 'https://x': terminal prompts disabled", C::Authentication),
            ("error: unable to write file a: No space left on device", C::DiskFull),
            ("fatal: could not create directory '/x': Permission denied", C::PermissionDenied),
            ("fatal: 'drover/a' is already used by worktree at '/w/a'", C::BranchTaken),
            ("fatal: something new", C::Other),
            ("", C::Other),
        ];
        for (stderr, code) in table {
            let failure = Failure::new("try", Path::new("/srv/a"), classify(stderr));
            assert_eq!(failure.code(), code, "{stderr}");
        }
    }

    #[test]
    fn an_error_says_what_where_why_and_what_next() {
        let cause = classify("fatal: 'drover/a' is already used by worktree at '/w/a'");
        let failure = Failure::new("make the worktree", Path::new("/srv/a/.git"), cause);
        assert_eq!(
            failure.to_string(),
            "make the worktree in /srv/a/.git: the branch 'drover/a' is taken: it is checked out at '/w/a'"
        );
        assert!(failure.hint().contains("choose another name"));
        assert_eq!(
            *Failure::new("x", Path::new("/"), classify("fatal: Unable to create '/a/b.lock': File exists."))
                .cause,
            Cause::LockHeld { path: "/a/b.lock".into(), holder: None }
        );
    }
}
