//! Sessions as another user: files, processes and whatever the repository itself brings along are that user's.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use drover_proto::v1::SessionState as State;
use drover_tests::client::{pid, script};
use drover_tests::gate::Gate;
use drover_tests::installation::Installation;
use drover_tests::repository::Repository;
use rustix::process::geteuid;

/// There is one on every system.
const USER: &str = "nobody";

fn uid() -> u32 {
    let output = Command::new("id").args(["-u", USER]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// A repository of that user's, full of things that run when git works in it, each of which notes who it ran as.
fn trap(there: &Installation) -> Repository {
    let repository = Repository::default();
    let notes = there.path("notes");
    std::fs::create_dir(&notes).unwrap();
    std::fs::set_permissions(&notes, std::fs::Permissions::from_mode(0o777)).unwrap();
    let note = |what: &str| format!("id -u >> {}/{what}", notes.display());
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "fsmonitor"] {
        let path = repository.path.join(".git/hooks").join(hook);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{}\n", note(hook))).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let filter = |what: &str| format!("{}; cat", note(what));
    let monitor = repository.path.join(".git/hooks/fsmonitor").display().to_string();
    for (key, value) in [
        ("core.fsmonitor", monitor.as_str()),
        ("filter.trap.clean", &filter("clean")),
        ("filter.trap.smudge", &filter("smudge")),
        ("diff.trap.textconv", &format!("{}; cat", note("textconv"))),
    ] {
        repository.git(&["config", key, value]);
    }
    std::fs::write(repository.path.join(".gitattributes"), "*.txt filter=trap diff=trap\n").unwrap();
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-qm", "traps"]);
    repository.give_to(USER);
    // What ran until now ran for whoever made it.
    std::fs::remove_dir_all(&notes).unwrap();
    std::fs::create_dir(&notes).unwrap();
    std::fs::set_permissions(&notes, std::fs::Permissions::from_mode(0o777)).unwrap();
    repository
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_another_user_is_his_and_what_his_repository_plants_never_runs_as_root() {
    assert!(geteuid().is_root(), "only root can run sessions as others");
    let there = Installation::start(1, 2).await;
    let repository = trap(&there);
    let gate = Gate::new(&there.path("gate"));
    let client = there.client();
    let text = format!("id -un; echo changed >> d0/f0.txt; echo new > new.txt; {}", gate.wait());
    let mut asked = script("his", &repository.path, &text);
    asked.spec.as_mut().unwrap().run_as = USER.into();
    client.create(asked).await.unwrap();
    let running = client.until("his", State::Running).await;

    let process = std::fs::metadata(format!("/proc/{}", pid(&running).unwrap())).unwrap();
    assert_eq!(process.uid(), uid());
    let workspace = running.workspace.unwrap().path;
    assert_eq!(owners(Path::new(&workspace)), [uid()]);
    let diff = there.run(&["diff", "his"]);
    assert_eq!(diff.code, 0, "{}", diff.stderr);
    assert!(diff.stdout.contains("+changed"), "{}", diff.stdout);
    assert_eq!(client.log("his").await.unwrap(), format!("{USER}\n"));
    let ran = there.run(&["rm", "his", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("refs/drover/trash/"), "{}", ran.stderr);

    assert!(there.path("notes/smudge").is_file(), "the traps are armed: files were checked out through one");
    for note in std::fs::read_dir(there.path("notes")).unwrap().flatten() {
        let who = std::fs::read_to_string(note.path()).unwrap();
        let expected = uid().to_string();
        assert!(who.lines().all(|line| line == expected), "{:?} ran as {who:?}", note.file_name());
    }
    assert_eq!(owners(&repository.path), [uid()], "nothing in his repository became root's");
}

/// Whose the files below are, each once.
fn owners(directory: &Path) -> Vec<u32> {
    let mut found = vec![std::fs::metadata(directory).unwrap().uid()];
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        found.push(entry.metadata().unwrap().uid());
        if entry.file_type().unwrap().is_dir() {
            found.extend(owners(&entry.path()));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
