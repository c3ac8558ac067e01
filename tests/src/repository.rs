//! Repositories to work on, made with the git that is there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A repository in a directory of its own.
#[derive(Debug)]
pub struct Repository {
    _directory: tempfile::TempDir,
    pub path: PathBuf,
}

impl Default for Repository {
    fn default() -> Self {
        Self::with_files(3)
    }
}

impl Repository {
    /// One commit with so many files, in directories of a hundred.
    pub fn with_files(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("repository");
        std::fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        for (key, value) in
            [("user.name", "A Tester"), ("user.email", "tester@example.org"), ("gc.auto", "0")]
        {
            git(&path, &["config", key, value]);
        }
        for number in 0..count {
            let folder = path.join(format!("d{}", number / 100));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("f{number}.txt")), format!("file {number}\n")).unwrap();
        }
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-qm", "first"]);
        Self { _directory: directory, path }
    }

    /// Makes it a user's, who may pass through to it.
    pub fn give_to(&self, user: &str) {
        let open = self.path.parent().unwrap();
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o711)).unwrap();
        let owner = format!("{user}:");
        assert!(Command::new("chown").args(["-R", &owner]).arg(&self.path).status().unwrap().success());
    }

    /// Its references and worktrees, and whatever bears Drover's name: what must be as before if nothing was done.
    pub fn everything(&self) -> String {
        let references = self.git(&["for-each-ref"]);
        let worktrees = self.git(&["worktree", "list", "--porcelain"]);
        let found = Command::new("find").arg(&self.path).args(["-name", "*drover*"]).output().unwrap();
        references + &worktrees + &String::from_utf8(found.stdout).unwrap()
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }
}

/// Runs git and gives what it printed.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
