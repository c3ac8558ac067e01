//! Whatever may be in git's way, made with the real git: each is told with its cause, and for whom it waited.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use drover_agent::git::failure::{Cause, Failure};
use drover_agent::git::limits::Limits;
use drover_agent::git::lock::Locks;
use drover_agent::git::mirror::Mirrors;
use drover_agent::git::read;
use drover_agent::git::runner::{Account, At, Call, Git, Settings};
use drover_daemon::clock::Clock;
use drover_domain::repository::Url;
use drover_domain::session::FaultCode;

const SHORT: Limits = Limits {
    quick: Duration::from_millis(700),
    long: Duration::from_secs(60),
    connect: Duration::from_secs(2),
};

fn runner() -> Git {
    runner_with(SHORT)
}

fn runner_with(limits: Limits) -> Git {
    Git::new(Settings { limits, ..Settings::default() })
}

fn git(at: &Path, words: &[&str]) {
    let named = ["-c", "user.name=T", "-c", "user.email=t@example.org"];
    let output = Command::new("git").args(named).args(words).current_dir(at).output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with a commit, and the directory that it ends with.
fn repository() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    git(&path, &["init", "-q", "-b", "main", "."]);
    git(&path, &["commit", "-q", "--allow-empty", "-m", "first"]);
    (dir, path)
}

async fn fails(git: &Git, call: Call<'_>) -> Failure {
    git.run(&call).await.unwrap_err()
}

async fn fetch(directory: &Path, url: &str) -> Failure {
    fetch_with(runner(), directory, url).await
}

async fn fetch_with(git: Git, directory: &Path, url: &str) -> Failure {
    let mirrors = Mirrors { root: directory.join("copies"), git, locks: Locks::default() };
    mirrors.fetch(&Url::new(url).unwrap(), None).await.unwrap_err()
}

#[tokio::test]
async fn a_directory_without_a_repository_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let failure = read::open(&runner(), dir.path(), None).await.unwrap_err();
    assert_eq!(*failure.cause, Cause::NotARepository);
}

#[tokio::test]
async fn another_users_closed_directory_and_repository_are_faults_of_permission() {
    assert!(rustix::process::geteuid().is_root(), "only root can be somebody else");
    let (_dir, path) = repository();
    let nobody = Account { name: "nobody".into(), uid: 65_534, gid: 65_534, home: "/".into() };
    let failure = read::open(&runner(), &path, Some(&nobody)).await.unwrap_err();
    assert_eq!(failure.code(), FaultCode::PermissionDenied, "{failure}");
    // He may pass, and the repository is still not his.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let failure = read::open(&runner(), &path, Some(&nobody)).await.unwrap_err();
    assert_eq!(*failure.cause, Cause::ForeignOwner, "{failure}");
    assert!(failure.hint().contains("--run-as"));
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small");
    fs::create_dir(&path).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=512k", "tmpfs"];
    assert!(Command::new("mount").args(mount).arg(&path).status().unwrap().success(), "only root can mount");
    git(&path, &["init", "-q", "."]);
    // Nothing that could be made smaller.
    let mut bytes = vec![0; 2 * 1024 * 1024];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    let common = path.join(".git");
    let call = Call::new("write", At::Repository(&common), ["hash-object", "-w", "--stdin"]);
    let failure = runner().run(&call.reading(&bytes)).await.unwrap_err();
    assert!(Command::new("umount").arg(&path).status().unwrap().success());
    assert_eq!(failure.code(), FaultCode::DiskFull, "{failure}");
}

#[tokio::test]
async fn a_lock_that_somebody_holds_is_waited_for_and_then_told_with_its_holder() {
    let (_dir, path) = repository();
    let common = path.join(".git");
    let lock = common.join("refs/heads/new.lock");
    let file = fs::File::create(&lock).unwrap();
    let mut holder = Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap();
    let make = || Call::new("make the branch", At::Repository(&common), ["branch", "new"]);
    let clock = Clock::system();
    let began = clock.boot();
    let failure = fails(&runner(), make()).await;
    assert!(clock.boot() - began > SHORT.quick / 2, "it was waited for");
    let who = format!("process {} (sleep)", holder.id());
    assert_eq!(*failure.cause, Cause::LockHeld { path: lock.clone(), holder: Some(who) }, "{failure}");
    assert!(lock.exists(), "somebody's lock is not touched");
    // It goes while it is waited for.
    let patient = Git::new(Settings::default());
    let call = make();
    let wait = patient.run(&call);
    let free = async {
        tokio::task::yield_now().await;
        holder.kill().unwrap();
        holder.wait().unwrap();
        fs::remove_file(&lock).unwrap();
    };
    let (made, ()) = tokio::join!(wait, free);
    made.unwrap();
}

#[tokio::test]
async fn a_branch_that_is_checked_out_elsewhere_is_said_with_the_place() {
    let (dir, path) = repository();
    let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
    git(&path, &["worktree", "add", "-q", "-b", "mine", theirs.to_str().unwrap()]);
    let words = ["worktree", "add", ours.to_str().unwrap(), "mine"];
    let failure = fails(&runner(), Call::new("make", At::Repository(&path.join(".git")), words)).await;
    let Cause::BranchTaken { branch, place: Some(place) } = &*failure.cause else { panic!("{failure}") };
    assert_eq!(branch, "mine");
    assert!(place.contains(theirs.to_str().unwrap()), "{failure}");
}

#[tokio::test]
async fn a_remote_that_refuses_is_told_with_its_url_and_how_often_it_was_tried() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens below 1024 in a test.
    let git = runner_with(Limits { connect: Duration::from_secs(60), ..SHORT });
    let failure = fetch_with(git, dir.path(), "git://127.0.0.1:1/a.git").await;
    assert_eq!(failure.code(), FaultCode::Network, "{failure}");
    let text = failure.to_string();
    assert!(text.contains("git://127.0.0.1:1/a.git") && text.contains("tried 4 times in"), "{text}");
}

#[tokio::test]
async fn a_remote_that_never_answers_is_a_fault_long_before_a_fetch_may_last() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let clock = Clock::system();
    let began = clock.boot();
    let failure = fetch(dir.path(), &format!("git://{}/a.git", deaf.local_addr().unwrap())).await;
    assert_eq!(failure.code(), FaultCode::Network, "{failure}");
    assert!(failure.to_string().contains("no answer within 2 s"), "{failure}");
    assert!(clock.boot() - began < SHORT.long / 2);
}

#[tokio::test]
async fn a_remote_that_wants_a_password_is_a_fault_of_authentication_and_nobody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in server.incoming() {
            let mut connection = connection.unwrap();
            let mut asked = [0; 4096];
            // Whatever it is, it is refused.
            let _ = connection.read(&mut asked);
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    let failure = fetch(dir.path(), &format!("http://{address}/a.git")).await;
    assert_eq!(failure.code(), FaultCode::Authentication, "{failure}");
}
