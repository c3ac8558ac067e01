//! Looking at a repository: its kind, heads, bases, merges, saved trees. The only user of git2, which here only reads
//! objects and references: it has no filters, and knows neither sparse nor split indexes, so work trees are git's.
//! Blocking; callers run it where blocking is allowed.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid, Repository, Sort};

use super::failure::{Cause, Failure};
use super::runner::{Account, At, Call, Git};

/// A repository that Drover can work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The canonical common directory: the repository's identity on this machine.
    pub common: PathBuf,
    pub is_bare: bool,
    pub is_shallow: bool,
    /// Objects are fetched when they are needed.
    pub is_partial: bool,
}

/// Which names a base may be meant by, in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A user's repository: its own branches first.
    Path,
    /// A node's copy of a URL: the remote's branches first.
    Mirror,
}

/// A base, resolved once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub commit: String,
    /// The full reference that it was found by; none for a commit.
    pub reference: Option<String>,
}

/// One path of a commit's tree: its mode and its object.
pub type Files = BTreeMap<Vec<u8>, (u32, String)>;

const OPEN: &str = "open the repository";
const LOOK: &str = "look at the repository";

/// Finds the repository at `path` as `who` would, and says whether Drover can work with it. That it belongs to
/// somebody else is git's own rule (`safe.directory`), and git judges it.
pub async fn open(git: &Git, path: &Path, who: Option<&Account>) -> Result<Opened, Failure> {
    if !path.is_dir() {
        return Err(Failure::new(OPEN, path, Cause::PathGone(path.to_owned())));
    }
    let words = [
        "rev-parse",
        "--path-format=absolute",
        "--show-object-format",
        "--show-ref-format",
        "--is-bare-repository",
        "--is-shallow-repository",
        "--git-common-dir",
    ];
    let answer = git.run(&Call::new(OPEN, At::Directory(path), words).by(who)).await?;
    let text = String::from_utf8_lossy(&answer);
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default();
    let (objects, references, is_bare, is_shallow) = (next(), next(), next() == "true", next() == "true");
    let refuse = |what: String| Err(Failure::new(OPEN, path, Cause::Unsupported(what)));
    if objects != "sha1" {
        return refuse(format!("has objects of the format '{objects}'"));
    }
    if references != "files" {
        return refuse(format!("keeps its references in the format '{references}'"));
    }
    let common = PathBuf::from(next());
    let common = common.canonicalize().map_err(|error| Failure::io(OPEN, &common, &error))?;
    let looked = common.clone();
    let is_partial = blocking(move || is_partial(&looked)).await?;
    Ok(Opened { common, is_bare, is_shallow, is_partial })
}

fn is_partial(common: &Path) -> Result<bool, Failure> {
    let repository = bare(common)?;
    let config = repository
        .config()
        .and_then(|mut config| config.snapshot())
        .map_err(|error| foreign(common, &error))?;
    let mut promises = config
        .entries(Some("^(remote\\..*\\.promisor|extensions\\.partialclone)$"))
        .map_err(|error| foreign(common, &error))?;
    Ok(promises.next().is_some())
}

/// Resolves the base of a session; none: the HEAD of the repository or of the remote.
pub fn resolve(common: &Path, base: Option<&str>, origin: Origin) -> Result<Base, Failure> {
    let repository = bare(common)?;
    for name in candidates(base, origin) {
        match repository.find_reference(&name).and_then(|reference| reference.peel_to_commit()) {
            Ok(commit) => return Ok(Base { commit: commit.id().to_string(), reference: Some(name) }),
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(error) if matches!(error.code(), ErrorCode::InvalidSpec | ErrorCode::UnbornBranch) => {}
            Err(error) => return Err(foreign(common, &error)),
        }
    }
    let missing =
        || Failure::new("resolve the base", common, Cause::BaseMissing(base.unwrap_or("HEAD").to_owned()));
    let id =
        base.filter(|text| (4..=40).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_hexdigit()));
    let object = id.and_then(|id| repository.find_object_by_prefix(id, None).ok()).ok_or_else(missing)?;
    let commit = object.peel_to_commit().map_err(|_| missing())?;
    Ok(Base { commit: commit.id().to_string(), reference: None })
}

fn candidates(base: Option<&str>, origin: Origin) -> Vec<String> {
    match (base, origin) {
        (None | Some("HEAD"), Origin::Path) => vec!["HEAD".into()],
        (None | Some("HEAD"), Origin::Mirror) => vec!["refs/remotes/origin/HEAD".into()],
        (Some(full), _) if full.starts_with("refs/") => vec![full.to_owned()],
        (Some(name), Origin::Path) => vec![
            format!("refs/heads/{name}"),
            format!("refs/tags/{name}"),
            format!("refs/remotes/{name}"),
            format!("refs/remotes/origin/{name}"),
        ],
        (Some(name), Origin::Mirror) => {
            let short = name.strip_prefix("origin/").unwrap_or(name);
            vec![format!("refs/remotes/origin/{short}"), format!("refs/tags/{name}")]
        }
    }
}

/// The commit that a full reference name leads to; `None` if there is no such reference.
pub fn tip(common: &Path, reference: &str) -> Result<Option<String>, Failure> {
    match bare(common)?.find_reference(reference) {
        Ok(found) => Ok(found.resolve().ok().and_then(|found| found.target()).map(|id| id.to_string())),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(foreign(common, &error)),
    }
}

/// Every reference whose full name begins with `prefix`, with what it points to.
pub fn references(common: &Path, prefix: &str) -> Result<Vec<(String, String)>, Failure> {
    let repository = bare(common)?;
    let found = all_references(&repository).map_err(|error| foreign(common, &error))?;
    Ok(found
        .into_iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, id)| (name, id.to_string()))
        .collect())
}

/// Of `commits`, those that no branch, remote or tag reaches (nor `except`ed branches' own tips, nor `also`), and
/// how many commits in all hang on them.
pub fn unreached(
    common: &Path,
    commits: &[String],
    except: Option<&str>,
    also: &[String],
) -> Result<Unreached, Failure> {
    let repository = bare(common)?;
    let fault = |error: git2::Error| foreign(common, &error);
    let mut walk = repository.revwalk().map_err(fault)?;
    walk.set_sorting(Sort::TOPOLOGICAL).map_err(fault)?;
    let mut asked = HashSet::new();
    for commit in commits {
        let id = Oid::from_str(commit).map_err(fault)?;
        // A commit that is gone cannot be lost any more.
        if repository.find_commit(id).is_ok() && asked.insert(id) {
            walk.push(id).map_err(fault)?;
        }
    }
    for (name, id) in all_references(&repository).map_err(fault)? {
        let counts = ["refs/heads/", "refs/remotes/", "refs/tags/"].iter().any(|kind| name.starts_with(kind));
        if counts && Some(name.as_str()) != except && repository.find_commit(id).is_ok() {
            walk.hide(id).map_err(fault)?;
        }
    }
    for commit in also {
        let id = Oid::from_str(commit).map_err(fault)?;
        if repository.find_commit(id).is_ok() {
            walk.hide(id).map_err(fault)?;
        }
    }
    let mut found = Unreached::default();
    for id in walk {
        let id = id.map_err(fault)?;
        found.count += 1;
        if asked.contains(&id) {
            found.asked.push(id.to_string());
        }
    }
    Ok(found)
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreached {
    pub asked: Vec<String>,
    pub count: u64,
}

/// Every file of a commit's tree that the repository really has, by its path.
pub fn files(common: &Path, commit: &str) -> Result<Files, Failure> {
    let repository = bare(common)?;
    let fault = |error: git2::Error| foreign(common, &error);
    let commit = Oid::from_str(commit).and_then(|id| repository.find_commit(id)).map_err(fault)?;
    let objects = repository.odb().map_err(fault)?;
    let mut files = Files::new();
    let mut open = vec![(Vec::new(), commit.tree_id())];
    while let Some((prefix, tree)) = open.pop() {
        for entry in &repository.find_tree(tree).map_err(fault)? {
            let path = [prefix.as_slice(), entry.name_bytes()].concat();
            if entry.kind() == Some(ObjectType::Tree) {
                open.push(([path.as_slice(), b"/"].concat(), entry.id()));
            } else if objects.exists(entry.id()) {
                let mode = u32::try_from(entry.filemode_raw()).unwrap_or(0);
                files.insert(path, (mode, entry.id().to_string()));
            }
        }
    }
    Ok(files)
}

/// Those of these paths that a commit's tree has, whether or not the repository has their objects.
pub fn some_files<'p>(
    common: &Path,
    commit: &str,
    paths: impl IntoIterator<Item = &'p Vec<u8>>,
) -> Result<Files, Failure> {
    let repository = bare(common)?;
    let fault = |error: git2::Error| foreign(common, &error);
    let tree = Oid::from_str(commit)
        .and_then(|id| repository.find_commit(id))
        .and_then(|commit| commit.tree())
        .map_err(fault)?;
    let mut files = Files::new();
    for path in paths {
        match tree.get_path(Path::new(OsStr::from_bytes(path))) {
            Ok(entry) => {
                let mode = u32::try_from(entry.filemode_raw()).unwrap_or(0);
                files.insert(path.clone(), (mode, entry.id().to_string()));
            }
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(files)
}

/// What a saved commit says of itself beside its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub commit: String,
    pub session: Vec<u8>,
    pub manifest: Vec<u8>,
    pub fingerprint: Option<Vec<u8>>,
}

/// Larger than this such a file is nothing that Drover wrote.
const LARGEST_TEXT: usize = 64 * 1024 * 1024;

/// The state that was saved with a commit; `None` if it has none, or one without a session.
pub fn state(common: &Path, commit: &str) -> Result<Option<State>, Failure> {
    let repository = bare(common)?;
    let fault = |error: git2::Error| foreign(common, &error);
    let commit = Oid::from_str(commit).and_then(|id| repository.find_commit(id)).map_err(fault)?;
    for parent in commit.parents().take(2) {
        let tree = parent.tree().map_err(fault)?;
        let text = |name: &str| {
            let blob = repository.find_blob(tree.get_name(name)?.id()).ok()?;
            (blob.size() <= LARGEST_TEXT).then(|| blob.content().to_vec())
        };
        let is_state = parent.message_bytes().starts_with(STATE.as_bytes());
        if let (true, Some(session)) = (is_state, text("session")) {
            let (manifest, fingerprint) = (text("manifest").unwrap_or_default(), text("fingerprint"));
            return Ok(Some(State { commit: parent.id().to_string(), session, manifest, fingerprint }));
        }
    }
    Ok(None)
}

/// How the commit of a saved state begins, so that it is told from others.
pub const STATE: &str = "State of its worktree";

/// Objects of a repository, to be read one after the other.
pub struct Objects(Repository);

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Objects").field(&self.0.path()).finish()
    }
}

impl Objects {
    pub fn of(common: &Path) -> Result<Self, Failure> {
        bare(common).map(Self)
    }

    /// How many bytes it has.
    pub fn size(&self, id: &str) -> Result<u64, Failure> {
        let found = Oid::from_str(id).and_then(|id| self.0.odb().and_then(|objects| objects.read_header(id)));
        found.map(|(size, _)| size as u64).map_err(|error| foreign(self.0.path(), &error))
    }

    /// All its bytes.
    pub fn blob(&self, id: &str) -> Result<Vec<u8>, Failure> {
        let found = Oid::from_str(id).and_then(|id| self.0.find_blob(id));
        found.map(|blob| blob.content().to_vec()).map_err(|error| foreign(self.0.path(), &error))
    }

    /// Whether it is there.
    pub fn has(&self, id: &str) -> bool {
        Oid::from_str(id).and_then(|id| self.0.odb().map(|objects| objects.exists(id))).unwrap_or(false)
    }
}

/// The tree of a commit.
pub fn tree(common: &Path, commit: &str) -> Result<String, Failure> {
    let repository = bare(common)?;
    let found = Oid::from_str(commit).and_then(|id| repository.find_commit(id));
    found.map(|commit| commit.tree_id().to_string()).map_err(|error| foreign(common, &error))
}

/// The parents of a commit.
pub fn parents(common: &Path, commit: &str) -> Result<Vec<String>, Failure> {
    let repository = bare(common)?;
    let commit = Oid::from_str(commit)
        .and_then(|id| repository.find_commit(id))
        .map_err(|error| foreign(common, &error))?;
    Ok(commit.parent_ids().map(|id| id.to_string()).collect())
}

/// The id that the file's bytes have as an object, read without filters.
pub fn file_id(file: &File) -> Result<String, String> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Oid::hash_file(ObjectType::Blob, path)
        .map(|id| id.to_string())
        .map_err(|error| error.message().to_owned())
}

pub fn bytes_id(bytes: &[u8]) -> Result<String, String> {
    Oid::hash_object(ObjectType::Blob, bytes)
        .map(|id| id.to_string())
        .map_err(|error| error.message().to_owned())
}

/// Runs a look where it may block. One that was broken off because the program ends says nothing: whoever waits for it
/// ends too.
pub async fn blocking<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(look).await {
        Ok(looked) => looked,
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => {
            let why = format!("the look was broken off: {error}");
            Err(Failure::new(LOOK, Path::new("."), Cause::Other(why)))
        }
    }
}

/// By its common directory, without the owner check that [`open`] left to git, and without a work tree.
fn bare(common: &Path) -> Result<Repository, Failure> {
    Repository::open_bare(common).map_err(|error| match error.code() {
        ErrorCode::NotFound => Failure::new(LOOK, common, Cause::NotARepository),
        _ => foreign(common, &error),
    })
}

fn all_references(repository: &Repository) -> Result<Vec<(String, Oid)>, git2::Error> {
    let mut found = Vec::new();
    for reference in repository.references()? {
        let reference = reference?;
        let name = String::from_utf8_lossy(reference.name_bytes()).into_owned();
        // A reference that leads nowhere reaches nothing.
        if let Some(id) = reference.resolve().ok().and_then(|found| found.target_peel().or(found.target())) {
            found.push((name, id));
        }
    }
    Ok(found)
}

fn foreign(common: &Path, error: &git2::Error) -> Failure {
    let text = error.message().to_owned();
    let cause = match error.code() {
        ErrorCode::Locked => Cause::LockHeld { path: common.join("*.lock"), holder: None },
        ErrorCode::Owner => Cause::ForeignOwner,
        _ if text.contains("unsupported extension") => Cause::Unsupported(text),
        _ if text.to_lowercase().contains("permission denied") => Cause::Permission(text),
        _ => Cause::Other(text),
    };
    Failure::new(LOOK, common, cause)
}
