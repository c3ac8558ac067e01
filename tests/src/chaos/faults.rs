//! The harm: programs killed, things of Drover's deleted and renamed by hand, locks and remains left behind. Everything that
//! is left behind is noted, with when, so that it can be seen when it was found. Only what this run made is harmed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use drover_daemon::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};

use super::World;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Harm {
    /// How often each kind was done.
    pub counts: std::collections::BTreeMap<&'static str, usize>,
    pub left: Vec<Left>,
    pub sentinels: Vec<PathBuf>,
    pub processes: Vec<Child>,
    pub innocent: Option<Innocent>,
}

/// A process that is nobody's business; ended with this value.
#[derive(Debug)]
pub(super) struct Innocent(pub Child);

impl Drop for Innocent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Something that no session owns.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub kind: &'static str,
    /// As a finding names it.
    pub subject: String,
    /// Of which session it was.
    pub session: String,
    pub at_millis: i64,
    /// What was in it that must not be lost.
    pub token: Option<String>,
}

impl World {
    pub(super) fn plant_sentinels(&mut self) {
        let beside = self.there.state_of(0).join("beside.txt");
        fs::write(&beside, "not Drover's").unwrap();
        self.harm.sentinels.push(beside);
        let outside = self.there.path("person");
        let repository = &self.repositories[0];
        repository.git(&["worktree", "add", "-q", "-b", "persons-own", outside.to_str().unwrap()]);
        repository.git(&["branch", "drover/looks-like-ours"]);
        fs::write(outside.join("mine.txt"), "mine").unwrap();
        self.harm.sentinels.push(outside.join("mine.txt"));
        let child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
        self.harm.innocent = Some(Innocent(child));
    }

    /// One of them.
    pub(super) async fn fault(&mut self) {
        let kind = match self.dice.roll(10) {
            0 | 1 => self.kill_agent(),
            2 => self.kill_controller().await,
            3 => self.kill_supervisor(),
            4 => self.delete_workspace().await,
            5 => self.rename_workspace().await,
            6 => self.plant_lock(),
            7 => self.leave_process().await,
            8 => self.leave_entry(false).await,
            _ => self.leave_entry(true).await,
        };
        if let Some(kind) = kind {
            *self.harm.counts.entry(kind).or_default() += 1;
        }
    }

    fn kill_agent(&mut self) -> Option<&'static str> {
        let number = self.dice.roll(self.there.agents.len());
        self.there.kill_and_start_agent(number);
        Some("agents killed")
    }

    async fn kill_controller(&mut self) -> Option<&'static str> {
        self.there.kill_controller();
        self.there.start_controller().await;
        Some("controllers killed")
    }

    fn kill_supervisor(&mut self) -> Option<&'static str> {
        let is_supervisor = |pid: &u32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"shim")
        };
        let all: Vec<u32> = self.there.ground.processes().into_iter().filter(is_supervisor).collect();
        let pid = Pid::from_raw(i32::try_from(*self.dice.pick(&all)?).ok()?)?;
        kill_process(pid, Signal::KILL).ok()?;
        Some("supervisors killed")
    }

    /// A session that ended and whose workspace is there.
    async fn idle(&mut self) -> Option<(String, PathBuf)> {
        let there = self.sessions().await;
        let ready = there.iter().filter(|session| session.state() == drover_proto::v1::SessionState::Ready);
        let names: Vec<String> = ready.map(|session| session.name.clone()).collect();
        let name = self.dice.pick(&names)?.clone();
        let path = self.made.get(&name)?.workspace.clone()?;
        path.is_dir().then_some((name, path))
    }

    async fn delete_workspace(&mut self) -> Option<&'static str> {
        let (name, path) = self.idle().await?;
        fs::remove_dir_all(path).ok()?;
        self.made.get_mut(&name)?.is_spoiled = true;
        Some("workspaces deleted by hand")
    }

    async fn rename_workspace(&mut self) -> Option<&'static str> {
        let (name, path) = self.idle().await?;
        fs::rename(&path, self.there.path(&format!("moved-{name}"))).ok()?;
        self.made.get_mut(&name)?.is_spoiled = true;
        Some("workspaces renamed by hand")
    }

    /// A lock of somebody who died long ago.
    fn plant_lock(&mut self) -> Option<&'static str> {
        let number = self.dice.roll(self.repositories.len());
        let lock = self.repositories[number].path.join(".git/refs/heads/drover/nobody.lock");
        fs::create_dir_all(lock.parent()?).ok()?;
        let file = fs::File::create(&lock).ok()?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).ok()?;
        Some("old locks planted")
    }

    /// A session that was removed, and whose name nobody has.
    async fn removed(&mut self) -> Option<(String, String, PathBuf, usize)> {
        let there = self.sessions().await;
        let over: Vec<_> = there.iter().filter(|session| super::is_over(session)).collect();
        let name = self.dice.pick(&over)?.name.clone();
        let made = self.made.get(&name)?;
        Some((name, made.id.clone(), made.workspace.clone()?, made.repository))
    }

    async fn leave_process(&mut self) -> Option<&'static str> {
        let (name, id, path, _) = self.removed().await?;
        let mut child = Command::new("sleep");
        child.arg("3600").stdin(Stdio::null()).env("DROVER_SESSION", &id).env("DROVER_WORKSPACE", &path);
        let child = child.spawn().ok()?;
        self.harm.processes.push(child);
        self.note("PROCESS_WITHOUT_SESSION", format!("processes of {id}"), &name, None);
        Some("processes left behind")
    }

    /// A worktree of a session that is over, as its node makes it; with work in it, or with its directory gone.
    async fn leave_entry(&mut self, with_work: bool) -> Option<&'static str> {
        let (name, id, path, repository) = self.removed().await?;
        let is_of = |number: &usize| {
            path.starts_with(self.there.state_of(*number).canonicalize().unwrap_or_default())
        };
        let agent = (0..self.there.agents.len()).find(is_of)?;
        if path.exists() {
            return None;
        }
        let identity = self.there.identity_of(agent);
        let mark = format!("drover:{}:{}:{id}:1.1", identity.installation.short(), identity.node.short());
        let (place, branch) = (path.to_str()?, format!("drover/{name}"));
        let repository_path = self.repositories[repository].path.clone();
        let git = |arguments: &[&str]| git_may_fail(&repository_path, arguments);
        fs::create_dir_all(path.parent()?).ok()?;
        if !git(&["update-ref", &format!("refs/drover/base/{id}"), "HEAD"]) {
            return None;
        }
        if !git(&["worktree", "add", "-q", "--lock", "--reason", &mark, "-B", &branch, place]) {
            return None;
        }
        if !with_work {
            fs::remove_dir_all(&path).ok()?;
            self.note("PRUNABLE_WORKTREE", place.to_owned(), &name, None);
            return Some("entries without a directory left behind");
        }
        let token = format!("token of {name} {}", self.harm.left.len());
        fs::write(path.join("left.txt"), &token).ok()?;
        fs::create_dir_all(path.join("node_modules/x")).ok()?;
        fs::write(path.join("node_modules/x/y"), "dependency").ok()?;
        self.note("WORKTREE_WITHOUT_SESSION", place.to_owned(), &name, Some(token));
        Some("worktrees left behind")
    }

    fn note(&mut self, kind: &'static str, subject: String, session: &str, token: Option<String>) {
        let (at_millis, session) = (Clock::system().wall_millis(), session.to_owned());
        self.harm.left.push(Left { kind, subject, session, at_millis, token });
    }
}

/// Beside others' git: a lock that somebody has is no failure of ours.
fn git_may_fail(directory: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("git").current_dir(directory).args(arguments).stderr(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}
