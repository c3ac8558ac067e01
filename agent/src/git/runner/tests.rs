//! A git that hangs, meets a lock, is not there, or looks around in its environment.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn fake(dir: &Path, script: &str) -> Git {
    let program = dir.join("fake-git");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let short = Duration::from_millis(600);
    let limits = Limits { quick: short, ..Limits::default() };
    Git::new(Settings { program, limits, grace: Duration::from_millis(200), ..Settings::default() })
}

fn call(dir: &Path) -> Call<'_> {
    Call::new("try", At::Directory(dir), ["version"])
}

#[tokio::test]
async fn a_command_that_hangs_is_stopped_with_its_children_although_they_ignore_the_first_signal() {
    let dir = tempfile::tempdir().unwrap();
    let git = fake(
        dir.path(),
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 0.05; done'",
    );
    let failure = git.once(&call(dir.path())).await.unwrap_err();
    assert_eq!(failure.code(), drover_domain::session::FaultCode::TimedOut);
    let pid: i32 = std::fs::read_to_string(dir.path().join("child")).unwrap().trim().parse().unwrap();
    let dead = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    for _ in 0..200 {
        if dead() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the child {pid} lives");
}

#[tokio::test]
async fn a_lock_in_the_way_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo x >> tries; [ $(wc -l < tries) -ge 3 ] && exit 0
        echo \"fatal: Unable to create '/r/index.lock': File exists.\" >&2; exit 128";
    fake(dir.path(), script).run(&call(dir.path())).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("tries")).unwrap().lines().count(), 3);
}

#[tokio::test]
async fn a_git_that_is_not_there_is_said_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let git = Git::new(Settings { program: "/nowhere/git".into(), ..Settings::default() });
    let failure = git.once(&call(dir.path())).await.unwrap_err();
    assert_eq!(*failure.cause, Cause::GitMissing("/nowhere/git".into()));
    let gone = dir.path().join("gone");
    let failure = Git::new(Settings::default()).once(&call(&gone)).await.unwrap_err();
    assert_eq!(*failure.cause, Cause::PathGone(gone));
}

#[tokio::test]
async fn a_command_sees_nothing_of_the_agents_environment_but_what_git_needs() {
    let dir = tempfile::tempdir().unwrap();
    let git = fake(dir.path(), "env");
    let seen = String::from_utf8(git.once(&call(dir.path())).await.unwrap()).unwrap();
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !seen.contains("CARGO_"), "{seen}");
    assert!(seen.contains("LC_ALL=C") && seen.contains("GIT_TERMINAL_PROMPT=0"), "{seen}");
}
