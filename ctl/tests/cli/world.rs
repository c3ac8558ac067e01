//! A home for one test, a repository in it, and the binary run there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A home directory and nothing else.
pub struct World {
    home: TempDir,
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    pub fn new() -> Self {
        Self { home: tempfile::Builder::new().prefix("ctl-").tempdir().unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().canonicalize().unwrap()
    }

    /// The binary with these arguments, in the home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let home = self.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_droverctl"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_RUNTIME_DIR", home.join("runtime"))
            .current_dir(&home)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.ran(&mut self.command(arguments))
    }

    pub fn ran(&self, command: &mut Command) -> Ran {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| {
            // Paths of the test's own and versions would differ from one run to the next.
            String::from_utf8(bytes).unwrap().replace(&*self.path().to_string_lossy(), "HOME")
        };
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// A git repository with one commit, and somebody to commit as.
    #[cfg(feature = "dev")]
    pub fn repository(&self, name: &str) -> PathBuf {
        let readme = self.write(&format!("{name}/README"), "hello\n");
        let path = readme.parent().unwrap().to_owned();
        self.git(&path, &["init", "-q", "-b", "main"]);
        self.git(&path, &["config", "user.name", "Somebody"]);
        self.git(&path, &["config", "user.email", "somebody@example.org"]);
        self.git(&path, &["add", "-A"]);
        self.git(&path, &["commit", "-q", "-m", "first"]);
        path
    }

    /// What git says.
    #[cfg(feature = "dev")]
    pub fn git(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(directory)
            .env("HOME", self.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }
}

impl Ran {
    /// Everything that a person would see, in one text.
    pub fn all(&self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A PEM file of the right form. What is in it is looked at only when something connects.
pub fn certificate(world: &World) -> PathBuf {
    world.write("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
