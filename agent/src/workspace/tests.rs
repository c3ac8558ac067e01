//! Workspaces against real git in directories of their own.

mod checkpoints;
mod creating;
mod mending;
mod promise;
mod removing;
mod restoring;
mod strangers;
mod trash;
mod vanished;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use drover_domain::fence::Fence;
use drover_domain::id::SessionId;
use tempfile::TempDir;

use super::{REGENERABLE, Site, Workspaces};
use crate::git::runner::{Git, Settings};
use crate::git::worktrees::Mark;

/// A repository with a few files, and a root for worktrees beside it.
struct Yard {
    dir: TempDir,
    repo: PathBuf,
    root: PathBuf,
    spaces: Workspaces,
}

impl Yard {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (repo, root) = (base.join("repo"), base.join("state/worktrees"));
        fs::create_dir_all(&repo).unwrap();
        git(&repo, &["init", "-q", "-b", "main", "."]);
        for (name, text) in
            [("README", "hello\n"), ("src/a.txt", "a\n"), (".gitignore", "target/\n*.log\nlocal.env\n")]
        {
            write(&repo.join(name), text);
        }
        git(&repo, &["add", "-A"]);
        git(&repo, &["commit", "-qm", "first"]);
        Self { dir, repo, root, spaces: spaces() }
    }

    fn common(&self) -> PathBuf {
        self.repo.join(".git")
    }

    fn site(&self, number: u8) -> Site {
        let session = SessionId::from_random([number; 10]);
        let fence = Fence { generation: 1, epoch: 1 };
        Site {
            common: self.common(),
            mark: Mark { installation: "inst1234".into(), node: "node1234".into(), session, fence },
            root: self.root.clone(),
            path: self.root.join(format!("default/s{number}")),
            branch: format!("drover/s{number}"),
            base: git(&self.repo, &["rev-parse", "HEAD"]),
            run_as: None,
        }
    }

    /// Everything in the repository that a session could have left or hurt.
    fn picture(&self) -> String {
        let references = git(&self.repo, &["for-each-ref"]);
        let listing = git(&self.repo, &["worktree", "list", "--porcelain"]);
        let mut files: Vec<String> = fs::read_dir(self.common())
            .unwrap()
            .chain(fs::read_dir(self.common().join("worktrees")).into_iter().flatten())
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "drover-aside")
            .collect();
        files.sort();
        let config = fs::read_to_string(self.common().join("config")).unwrap();
        format!("{references}\n{listing}\n{files:?}\n{config}")
    }
}

fn spaces() -> Workspaces {
    Workspaces::new(Git::new(Settings::default()), REGENERABLE)
}

fn git(at: &Path, words: &[&str]) -> String {
    String::from_utf8(git_bytes(at, words)).unwrap().trim_end().to_owned()
}

fn git_bytes(at: &Path, words: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.org",
            "-c",
            "protocol.file.allow=always",
            "-c",
            "gc.auto=0",
        ])
        .args(words)
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Every file below `root`: whether it may be executed, and its bytes; of a link its target.
fn contents(root: &Path) -> BTreeMap<PathBuf, (char, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for item in fs::read_dir(directory).unwrap() {
            let path = item.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if meta.is_dir() {
                open.push(path);
            } else if meta.is_symlink() {
                found.insert(name, ('l', fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()));
            } else if meta.is_file() {
                let kind = if meta.permissions().mode() & 0o100 != 0 { 'x' } else { 'f' };
                found.insert(name, (kind, fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// The same of what was saved under `reference`.
fn saved(repo: &Path, reference: &str) -> BTreeMap<PathBuf, (char, Vec<u8>)> {
    let listing = git_bytes(repo, &["ls-tree", "-r", "-z", reference]);
    let mut found = BTreeMap::new();
    for line in listing.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let tab = line.iter().position(|byte| *byte == b'\t').unwrap();
        let head: Vec<&str> = std::str::from_utf8(&line[..tab]).unwrap().split(' ').collect();
        let kind = match head[0] {
            "120000" => 'l',
            "100755" => 'x',
            _ => 'f',
        };
        let path = super::names::restored(&line[tab + 1..]);
        found
            .insert(OsStr::from_bytes(&path).into(), (kind, git_bytes(repo, &["cat-file", "blob", head[2]])));
    }
    found
}
