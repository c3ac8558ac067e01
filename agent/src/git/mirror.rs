//! The node's own copy of a repository with a URL: bare, the remote's branches under `refs/remotes/origin/`, so that
//! a pruning fetch never takes our branches. Made beside its place and renamed, so it is whole or not there. One for
//! each (URL, user): the session's user must be able to write to it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use drover_domain::repository::Url;

use super::failure::{Cause, Failure};
use super::lock::{Asker, Held, Locks};
use super::read::{self, bytes_id};
use super::runner::{Account, At, Call, Git, Length};

const MAKE: &str = "make the copy of the repository";
const FETCH: &str = "fetch the repository";
/// What a fetch that was killed may leave locked in the copy.
const LOCKED_BY_FETCH: [&str; 5] =
    ["refs/remotes/", "refs/tags/", "packed-refs.lock", "shallow.lock", "config.lock"];

/// Where the copies are: `<state>/repositories`.
#[derive(Clone, Debug)]
pub struct Mirrors {
    pub root: PathBuf,
    pub git: Git,
    pub locks: Locks,
}

impl Mirrors {
    /// The directory of the copy, whether it is there or not.
    pub fn path(&self, url: &Url, who: Option<&Account>) -> Result<PathBuf, Failure> {
        let key = format!("{}\n{}", url.as_str(), who.map(|who| who.name.as_str()).unwrap_or_default());
        let id = bytes_id(key.as_bytes()).map_err(|why| Failure::new(MAKE, &self.root, Cause::Other(why)))?;
        Ok(self.root.join(&id[..20]))
    }

    /// Makes the copy if it is not there, brings it up to date, and returns its directory. Safe to repeat.
    pub async fn fetch(&self, url: &Url, who: Option<&Account>) -> Result<PathBuf, Failure> {
        let path = self.path(url, who)?;
        self.prepare(who)?;
        // One fetch at a time for one copy; the others then find little to do. A lock of its own file, because the
        // copy's own lock must stay free for creates from it while a fetch runs, and the copy may not exist yet.
        let gate = path.with_extension("gate");
        fs::create_dir_all(&gate).map_err(|error| Failure::io(MAKE, &gate, &error))?;
        let asker = Asker { operation: FETCH, locks: &[] };
        let held = self.locks.acquire(&gate, asker, self.git.limit(Length::Long)).await?;
        self.locks.look_after(&held, &path, &LOCKED_BY_FETCH).await;
        if path.is_dir() {
            self.update(&path, url, who, &held).await?;
        } else {
            self.make(&path, url, who, &held).await?;
        }
        held.release();
        path.canonicalize().map_err(|error| Failure::io(FETCH, &path, &error))
    }

    /// A session's user must be able to pass through to his copy, though not to list the others.
    fn prepare(&self, who: Option<&Account>) -> Result<(), Failure> {
        let mode = if who.is_some() { 0o711 } else { 0o700 };
        let io = |error| Failure::io(MAKE, &self.root, &error);
        fs::DirBuilder::new().recursive(true).mode(mode).create(&self.root).map_err(io)?;
        if who.is_some() {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&self.root, fs::Permissions::from_mode(mode)).map_err(io)?;
        }
        Ok(())
    }

    async fn make(&self, path: &Path, url: &Url, who: Option<&Account>, held: &Held) -> Result<(), Failure> {
        let beside = path.with_extension("new");
        let io = |error| Failure::io(MAKE, &beside, &error);
        if beside.exists() {
            // A make that was killed: under the gate's lock nobody else works in it.
            fs::remove_dir_all(&beside).map_err(io)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&beside).map_err(io)?;
        if let Some(who) = who {
            std::os::unix::fs::chown(&beside, Some(who.uid), Some(who.gid)).map_err(io)?;
        }
        let here = At::Directory(&beside);
        let init =
            ["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--ref-format=files", "."];
        self.git.once(&Call::new(MAKE, here, init).by(who).holding(held.file())).await?;
        let settings = [
            ("remote.origin.url", url.as_str()),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
        ];
        for (name, value) in settings {
            self.git
                .once(&Call::new(MAKE, here, ["config", name, value]).by(who).holding(held.file()))
                .await?;
        }
        if let Err(failure) = self.update(&beside, url, who, held).await {
            // Nothing came of it, and nobody may ask for this URL again.
            let _ = fs::remove_dir_all(&beside);
            return Err(failure);
        }
        fs::rename(&beside, path).map_err(io)
    }

    async fn update(
        &self,
        path: &Path,
        url: &Url,
        who: Option<&Account>,
        held: &Held,
    ) -> Result<(), Failure> {
        let ssh = self.ssh(path, who).await;
        let call = |args: &[&str]| {
            Call::new(FETCH, At::Repository(path), args)
                .by(who)
                .holding(held.file())
                .with("GIT_SSH_COMMAND", ssh.clone())
        };
        let of_the_remote = |failure| said_of_the_remote(url, failure);
        // A short word first: a remote that does not answer is known soon, whatever a fetch may take.
        let ask = call(&["ls-remote", "--symref", "origin", "HEAD"]).connecting();
        let answer = self.git.run(&ask).await.map_err(|failure| of_the_remote(unanswered(failure)))?;
        let fetch = [
            "fetch",
            "--quiet",
            "--prune",
            "--tags",
            "--force",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "origin",
            "+refs/heads/*:refs/remotes/origin/*",
        ];
        self.git.run(&call(&fetch).long()).await.map_err(of_the_remote)?;
        let head = String::from_utf8_lossy(&answer).lines().find_map(remote_head);
        let Some(head) = head else { return Ok(()) };
        let reference = format!("refs/remotes/origin/{head}");
        let known = path.to_owned();
        let asked = reference.clone();
        if read::blocking(move || read::tip(&known, &asked)).await?.is_some() {
            let set = ["symbolic-ref", "refs/remotes/origin/HEAD", &reference];
            self.git.run(&Call::new(FETCH, At::Repository(path), set).by(who)).await?;
        }
        Ok(())
    }

    /// ssh must never ask. A command that the user configured is his to make so.
    async fn ssh(&self, path: &Path, who: Option<&Account>) -> OsString {
        let set = std::env::var_os("GIT_SSH_COMMAND").filter(|_| who.is_none());
        if let Some(set) = set {
            return set;
        }
        let asked = Call::new(FETCH, At::Repository(path), ["config", "--get", "core.sshCommand"]).by(who);
        let configured = self.git.once(&asked).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&configured).trim().to_owned();
        if text.is_empty() { "ssh -o BatchMode=yes".into() } else { text.into() }
    }
}

/// A remote that says nothing is one that cannot be reached.
fn unanswered(failure: Failure) -> Failure {
    match *failure.cause {
        Cause::TimedOut(limit) => {
            let text = format!("no answer within {} s", limit.as_secs());
            Failure { cause: Box::new(Cause::Network(text)), ..failure }
        }
        _ => failure,
    }
}

/// A person knows the URL, not where its copy lies; and what a missing repository is called depends on the transport.
fn said_of_the_remote(url: &Url, failure: Failure) -> Failure {
    let failure = Failure { place: url.as_str().into(), ..failure };
    match &*failure.cause {
        Cause::Other(text) if text.contains("not found") || text.contains("does not exist") => {
            Failure { cause: Box::new(Cause::NotARepository), ..failure }
        }
        _ => failure,
    }
}

fn remote_head(line: &str) -> Option<String> {
    let (reference, name) = line.strip_prefix("ref: ")?.split_once('\t')?;
    (name == "HEAD").then(|| reference.strip_prefix("refs/heads/").map(str::to_owned))?
}
