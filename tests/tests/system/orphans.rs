//! What no session owns, on a real machine: found, explained, cleaned up with its work saved; and with a live owner, or
//! without our mark, left as it is. Also sessions that are not as the registry says.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::programs::Ran;
use drover_tests::repository::Repository;
use serde_json::Value;

/// Looks at once and again, and leaves nothing alone for its youth; what follows is the tests' to say.
const TERMS: [(&str, &str); 7] = [
    ("DROVER_ROUNDS_EVERY", "500ms"),
    ("DROVER_ROUNDS_FULL", "1s"),
    ("DROVER_ROUNDS_APPLY", "false"),
    ("DROVER_GRACE_WORKSPACES", "0s"),
    ("DROVER_GRACE_PROCESSES", "0s"),
    ("DROVER_GRACE_STUCK", "0s"),
    ("DROVER_GRACE_LOCKS", "11s"),
];

struct Scene {
    there: Installation,
    repository: Repository,
}

impl Scene {
    async fn new() -> Self {
        Self::with(&TERMS).await
    }

    async fn with(terms: &[(&'static str, &str)]) -> Self {
        Self { there: Installation::with(terms, 1, 8).await, repository: Repository::default() }
    }

    /// A session that ran to its end and whose workspace is there.
    async fn ready(&self, name: &str, text: &str) -> v1::Session {
        let client = self.there.client();
        client.create(script(name, &self.repository.path, text)).await.unwrap();
        client.until(name, State::Ready).await
    }

    /// One that was removed.
    async fn removed(&self, name: &str, text: &str) -> v1::Session {
        let made = self.ready(name, text).await;
        self.there.client().remove(name).await.unwrap();
        self.there.client().until(&made.id, State::Cleaned).await;
        made
    }

    fn path_of(session: &v1::Session) -> PathBuf {
        session.workspace.as_ref().unwrap().path.clone().into()
    }

    /// A worktree at this path as the first node makes it for this session.
    fn plant(&self, path: &Path, branch: &str, session: &str) {
        let identity = self.there.identity_of(0);
        let mark =
            format!("drover:{}:{}:{session}:1.1", identity.installation.short(), identity.node.short());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let path = path.to_str().unwrap();
        self.repository.git(&["update-ref", &format!("refs/drover/base/{session}"), "HEAD"]);
        self.repository.git(&["worktree", "add", "-q", "--lock", "--reason", &mark, "-B", branch, path]);
    }

    fn health(&self) -> Value {
        let ran = self.there.run(&["health", "-o", "json"]);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"))
    }

    /// Waits until health tells of such a thing.
    async fn found(&self, code: &str) -> Value {
        eventually(&format!("{code} is found"), || async {
            let health = self.health();
            let found = health["findings"].as_array()?.iter().find(|finding| finding["code"] == code)?;
            Some(found.clone())
        })
        .await
    }

    /// Waits until health tells of nothing.
    async fn all_well(&self) {
        eventually("all is well", || async { (self.there.run(&["health"]).code == 0).then_some(()) }).await;
    }

    fn cleanup(&self, arguments: &[&str]) -> Ran {
        self.there.run(&[&["cleanup"], arguments].concat())
    }

    fn is_branch(&self, branch: &str) -> bool {
        !self.repository.git(&["branch", "--list", branch]).is_empty()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worktree_of_a_removed_session_is_found_shown_and_cleaned_up_with_its_work_saved() {
    let scene = Scene::new().await;
    let made = scene.removed("old", "true").await;
    let path = Scene::path_of(&made);
    scene.plant(&path, "drover/old", &made.id);
    std::fs::write(path.join("precious.txt"), "work").unwrap();
    let found = scene.found("WORKTREE_WITHOUT_SESSION").await;
    assert_eq!(found["subject"], path.to_str().unwrap(), "{found}");
    assert_eq!(scene.there.run(&["health"]).code, 10);

    let shown = scene.cleanup(&["--dry-run"]);
    assert!(shown.code == 0 && path.is_dir(), "{shown:?}");
    for part in ["WORKTREE_WITHOUT_SESSION", "1 untracked", path.to_str().unwrap(), "only if"] {
        assert!(shown.stdout.contains(part), "{part} is not in {}", shown.stdout);
    }
    let refused = scene.cleanup(&[]);
    assert!(refused.code == 4 && path.is_dir() && refused.stderr.contains("--yes"), "{refused:?}");
    let done = scene.cleanup(&["--yes"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!path.exists() && !scene.is_branch("drover/old"), "{done:?}");
    assert_eq!(scene.repository.git(&["worktree", "list"]).lines().count(), 1);
    let saved = scene.there.run(&["trash", "show", &made.id]);
    assert!(saved.code == 0 && saved.stdout.contains("precious.txt"), "{saved:?}");
    scene.all_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_whose_directory_is_gone_is_dropped() {
    let scene = Scene::new().await;
    let made = scene.removed("gone", "true").await;
    let path = Scene::path_of(&made);
    scene.plant(&path, "drover/gone", &made.id);
    std::fs::remove_dir_all(&path).unwrap();
    scene.found("PRUNABLE_WORKTREE").await;
    let done = scene.cleanup(&["--yes"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(scene.repository.git(&["worktree", "list"]).lines().count(), 1);
    assert!(!scene.is_branch("drover/gone"), "{done:?}");
    scene.all_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_that_was_kept_for_its_commits_goes_once_it_is_merged() {
    const COMMIT: &str = "echo more > more.txt && git add -A && git commit -qm more";
    let scene = Scene::new().await;
    scene.removed("kept", COMMIT).await;
    assert!(scene.is_branch("drover/kept"));
    let alone = scene.cleanup(&["--yes"]);
    assert!(alone.code == 0 && scene.is_branch("drover/kept"), "{alone:?}");
    assert!(alone.stdout.contains("UNMERGED"), "{alone:?}");
    assert_eq!(scene.there.run(&["health"]).code, 0, "it is as it was meant");
    scene.repository.git(&["merge", "-q", "drover/kept"]);
    let done = scene.cleanup(&["--yes"]);
    assert!(done.code == 0 && !scene.is_branch("drover/kept"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_of_a_removed_session_are_ended_and_others_are_not() {
    let scene = Scene::new().await;
    let made = scene.removed("left", "true").await;
    let mut own = sleeper(&[
        ("DROVER_SESSION", &made.id),
        ("DROVER_WORKSPACE", Scene::path_of(&made).to_str().unwrap()),
    ]);
    let mut foreign = sleeper(&[("DROVER_SESSION", &made.id), ("DROVER_WORKSPACE", "/elsewhere/x")]);
    scene.found("PROCESS_WITHOUT_SESSION").await;
    let done = scene.cleanup(&["--yes"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(own.wait().unwrap().code().is_none(), "it was ended by a signal");
    assert!(foreign.try_wait().unwrap().is_none(), "another agent's process is not ours");
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    scene.all_well().await;
}

fn sleeper(marks: &[(&str, &str)]) -> Child {
    Command::new("sleep").arg("600").envs(marks.iter().copied()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_nobody_holds_is_moved_aside_only_if_it_is_named_and_forced() {
    let scene = Scene::new().await;
    scene.ready("here", "true").await;
    let lock = scene.repository.path.join(".git/packed-refs.lock");
    std::fs::write(&lock, "").unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    std::fs::File::options().write(true).open(&lock).unwrap().set_modified(old).unwrap();
    let found = scene.found("STALE_GIT_LOCK").await;
    assert_eq!(found["level"], "HEALTH_LEVEL_MANUAL", "{found}");
    let refused = scene.cleanup(&["--yes", "--force"]);
    assert!(refused.code == 0 && lock.exists() && refused.stdout.contains("NEEDS_FORCE"), "{refused:?}");
    let repository = scene.repository.path.to_str().unwrap();
    let done = scene.cleanup(&["--yes", "--force", "--repo", repository]);
    assert!(done.code == 0 && !lock.exists(), "{done:?}");
    let copies = std::fs::read_dir(scene.there.path("controller").join("backups")).unwrap().count();
    assert_eq!(copies, 1, "before something risky the registry is backed up");
    scene.all_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_workspace_was_deleted_by_hand_is_removed_and_its_checkpoint_is_kept() {
    let scene = Scene::new().await;
    let made = scene.ready("bare", "echo precious > new.txt").await;
    let saved = scene.there.run(&["checkpoint", "bare"]);
    assert_eq!(saved.code, 0, "{saved:?}");
    std::fs::remove_dir_all(Scene::path_of(&made)).unwrap();
    scene.found("SESSION_WITHOUT_WORKSPACE").await;
    assert_eq!(scene.cleanup(&["--auto"]).code, 0);
    assert_eq!(scene.there.client().get("bare").await.unwrap().state(), State::Ready, "that wants a yes");
    let done = scene.cleanup(&["--yes"]);
    assert_eq!(done.code, 0, "{done:?}");
    scene.there.client().until(&made.id, State::Cleaned).await;
    let back = scene.there.run(&["trash", "restore", "bare"]);
    assert_eq!(back.code, 0, "{back:?}");
    let again = scene.there.client().until("bare", State::Ready).await;
    assert_eq!(std::fs::read_to_string(Scene::path_of(&again).join("new.txt")).unwrap(), "precious\n");
    scene.all_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_bears_our_mark_and_is_recorded_nowhere_is_touched_only_when_it_is_named() {
    let scene = Scene::new().await;
    let stranger = "ses_aaaaaaaaaaaaaaaa";
    let path = scene.there.state_of(0).join("worktrees/default/stranger").canonicalize();
    let path = path.unwrap_or_else(|_| {
        scene.there.state_of(0).canonicalize().unwrap().join("worktrees/default/stranger")
    });
    scene.ready("here", "true").await;
    scene.plant(&path, "drover/stranger", stranger);
    std::fs::write(path.join("x.txt"), "x").unwrap();
    let found = scene.found("UNRECORDED_MARK").await;
    assert_eq!(found["level"], "HEALTH_LEVEL_MANUAL", "{found}");
    assert_eq!(scene.there.run(&["health"]).code, 12);
    let kept = scene.cleanup(&["--yes", "--force"]);
    assert!(kept.code == 0 && path.is_dir(), "{kept:?}");
    let done = scene.cleanup(&["--yes", "--force", "--session", stranger]);
    assert!(done.code == 0 && !path.exists(), "{done:?}");
    let saved = scene.there.run(&["trash", "ls"]);
    assert!(saved.stdout.contains(stranger), "{saved:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_stands_whatever_is_done() {
    let scene = Scene::new().await;
    let live = scene.ready("live", "echo mine > mine.txt").await;
    let over = scene.removed("over", "true").await;
    let outside = tempfile::tempdir().unwrap();
    // A person's worktree, one of another installation, one of another node here, and a branch that looks like ours.
    let git = |arguments: &[&str]| scene.repository.git(arguments);
    let foreign = |name: &str| outside.path().join(name).to_str().unwrap().to_owned();
    git(&["worktree", "add", "-q", "-b", "mine", &foreign("mine")]);
    let identity = scene.there.identity_of(0);
    let (installation, node) = (identity.installation.short(), identity.node.short());
    for (name, mark) in [
        ("other", format!("drover:aaaaaaaa:{node}:{}:1.1", over.id)),
        ("second", format!("drover:{installation}:aaaaaaaa:{}:1.1", over.id)),
    ] {
        git(&["worktree", "add", "-q", "--lock", "--reason", &mark, "-b", name, &foreign(name)]);
    }
    git(&["branch", "drover/looks-like-ours"]);
    let beside = scene.there.state_of(0).join("beside.txt");
    std::fs::write(&beside, "x").unwrap();
    let before = (git(&["for-each-ref"]), git(&["worktree", "list", "--porcelain"]));
    let everything: [&[&str]; 5] = [
        &["cleanup", "--yes", "--force"],
        &["cleanup", "--yes", "--force", "--session", &over.id],
        &["cleanup", "--yes", "--force", "--session", &live.id],
        &["cleanup", "--yes", "--force", "--repo", scene.repository.path.to_str().unwrap()],
        &["repair", "--yes", "--force"],
    ];
    for arguments in everything {
        let ran = scene.there.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?} {ran:?}");
    }
    assert_eq!((git(&["for-each-ref"]), git(&["worktree", "list", "--porcelain"])), before);
    assert!(beside.is_file() && Scene::path_of(&live).join("mine.txt").is_file());
    assert_eq!(scene.there.client().get("live").await.unwrap().state(), State::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_lose_nothing_is_cleaned_up_without_being_asked_for_and_told() {
    let mut terms = TERMS.to_vec();
    terms.retain(|(name, _)| *name != "DROVER_ROUNDS_APPLY");
    let scene = Scene::with(&terms).await;
    let made = scene.removed("auto", "true").await;
    let path = Scene::path_of(&made);
    scene.plant(&path, "drover/auto", &made.id);
    std::fs::write(path.join("precious.txt"), "work").unwrap();
    eventually("it is cleaned up", || async { (!path.exists()).then_some(()) }).await;
    let saved = scene.there.run(&["trash", "show", &made.id]);
    assert!(saved.stdout.contains("precious.txt"), "{saved:?}");
    let client = scene.there.client();
    eventually("the log tells of it", || async {
        let happened = client.happened().await.ok()?;
        let kinds = ["finding_appeared", "plan_made", "plan_applied", "action_finished", "finding_ended"];
        kinds.iter().all(|kind| happened.contains_key(*kind)).then_some(())
    })
    .await;
    scene.all_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_safe_mode_new_work_is_refused_and_everything_else_goes_on() {
    let scene = Scene::new().await;
    scene.ready("before", "true").await;
    let on = scene.there.run(&["safe-mode", "on", "--reason", "moving the disks"]);
    assert_eq!(on.code, 0, "{on:?}");
    let refused = scene.there.client().create(script("new", &scene.repository.path, "true")).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("moving the disks"), "{refused:?}");
    let started = scene.there.run(&["start", "before", "--no-wait"]);
    assert_eq!(started.code, 0, "{started:?}");
    let why = scene.there.run(&["why", "before"]);
    assert!(why.stdout.contains("moving the disks"), "{why:?}");
    assert!(scene.there.run(&["health"]).stdout.contains("moving the disks"));
    let off = scene.there.run(&["safe-mode", "off"]);
    assert_eq!(off.code, 0, "{off:?}");
    scene.there.client().until("before", State::Ready).await;
    assert_eq!(scene.there.run(&["rm", "before", "--yes"]).code, 0);
}
