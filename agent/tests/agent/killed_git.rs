//! git killed at its calls to the file system, by strace, in everything that Drover has it change: a plain retry makes
//! it whole, an undo takes it back, and neither lock, branch, reference nor entry is left. `DROVER_GIT_KILLS` says at
//! how many calls of each operation (usual: a spread of them; `all`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use drover_agent::git::lock;
use drover_agent::git::mirror::Mirrors;
use drover_agent::git::runner::{Git, Settings};
use drover_agent::git::worktrees::{self, Mark};
use drover_agent::workspace::{REGENERABLE, Site, Workspaces};
use drover_domain::fence::Fence;
use drover_domain::id::SessionId;
use drover_domain::repository::Url;
use drover_domain::session::Removal;

/// Of each operation.
const USUAL: usize = 18;
/// Everything that changes a file system or begins to.
const CALLS: [&str; 14] = [
    "openat",
    "write",
    "pwrite64",
    "close",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "link",
    "fsync",
    "chmod",
    "ftruncate",
    "utimensat",
    "symlink",
];

/// A call of a git command: which one, and the how manieth of this process.
#[derive(Clone, Debug)]
struct Point {
    verb: &'static str,
    call: &'static str,
    number: usize,
}

/// A repository with packed references, and a git that dies where it is told.
struct Yard {
    dir: tempfile::TempDir,
    repository: PathBuf,
    spaces: Workspaces,
    mirrors: Mirrors,
}

impl Yard {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let repository = base.join("repository");
        fs::create_dir(&repository).unwrap();
        git(&repository, &["init", "-q", "-b", "main", "."]);
        for name in ["a.txt", "b.txt"] {
            fs::write(repository.join(name), name).unwrap();
        }
        git(&repository, &["add", "-A"]);
        git(&repository, &["commit", "-qm", "first"]);
        git(&repository, &["tag", "v1"]);
        git(&repository, &["pack-refs", "--all"]);
        let program = base.join("git");
        fs::write(&program, script(&base)).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let runner = Git::new(Settings { program, ..Settings::default() });
        let spaces = Workspaces::new(runner.clone(), REGENERABLE);
        let mirrors = Mirrors { root: base.join("copies"), git: runner, locks: spaces.locks().clone() };
        Self { dir, repository, spaces, mirrors }
    }

    fn common(&self) -> PathBuf {
        self.repository.join(".git")
    }

    fn site(&self) -> Site {
        let root = self.dir.path().canonicalize().unwrap().join("worktrees");
        Site {
            common: self.common(),
            mark: Mark {
                installation: "inst1234".into(),
                node: "node1234".into(),
                session: SessionId::from_random([7; 10]),
                fence: Fence { generation: 1, epoch: 1 },
            },
            path: root.join("default/s"),
            root,
            branch: "drover/s".into(),
            base: git(&self.repository, &["rev-parse", "HEAD"]),
            run_as: None,
        }
    }

    fn url(&self) -> Url {
        Url::new(&format!("file://{}", self.repository.display())).unwrap()
    }

    /// What the next git of this verb is to die at, or to write down.
    fn plan(&self, point: Option<&Point>) {
        let plan = self.dir.path().join("plan");
        match point {
            Some(Point { verb, call, number: 0 }) => fs::write(plan, format!("{verb} {call} count\n")),
            Some(Point { verb, call, number }) => fs::write(plan, format!("{verb} {call} {number}\n")),
            None => fs::remove_file(plan).or(Ok(())),
        }
        .unwrap();
    }

    /// Every point of the verb in what `work` does when nobody dies.
    async fn points(&self, verb: &'static str, work: impl AsyncFn(&Self)) -> Vec<Point> {
        self.plan(Some(&Point { verb, call: "all", number: 0 }));
        work(self).await;
        self.plan(None);
        let traced = self.dir.path().join("traced");
        let mut most: BTreeMap<&'static str, usize> = BTreeMap::new();
        // A file for each process, which strace counts for itself.
        for file in fs::read_dir(&traced).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            for call in CALLS {
                let count = text.lines().filter(|line| line.starts_with(&format!("{call}("))).count();
                let most = most.entry(call).or_default();
                *most = count.max(*most);
            }
        }
        fs::remove_dir_all(&traced).unwrap();
        most.into_iter()
            .flat_map(|(call, most)| (1..=most).map(move |number| Point { verb, call, number }))
            .collect()
    }

    /// References, entries, settings, and every lock.
    fn picture(&self, common: &Path) -> String {
        let entries = worktrees::entries(common).unwrap();
        let references = git(common, &["for-each-ref"]);
        let config = fs::read_to_string(common.join("config")).unwrap();
        let mut strange = below(common);
        strange.retain(|path| {
            let inside = path.strip_prefix(common).unwrap().to_string_lossy();
            let is_drovers = ["drover", "worktrees"].iter().any(|word| inside.contains(word));
            !inside.starts_with("drover-aside") && (inside.ends_with(".lock") || is_drovers)
        });
        format!("{references}\n{entries:?}\n{config}\n{strange:?}")
    }
}

/// Stands in git's place. What the runner gives to git has nothing of the test, so that the plan is in a file.
fn script(base: &Path) -> String {
    let base = base.display();
    let calls = CALLS.join(",");
    format!(
        "#!/bin/sh\n\
         plan='{base}/plan'\n\
         [ -f \"$plan\" ] || exec git \"$@\"\n\
         read -r verb call number < \"$plan\"\n\
         case \" $* \" in *\" $verb \"*) ;; *) exec git \"$@\" ;; esac\n\
         if [ \"$number\" = count ]; then\n\
             mkdir -p '{base}/traced'\n\
             exec strace -ff -qq -o '{base}/traced/t' -e trace={calls} git \"$@\"\n\
         fi\n\
         exec strace -f -qq -o /dev/null -e trace=\"$call\" -e inject=\"$call:signal=KILL:when=$number\" git \"$@\"\n"
    )
}

fn git(at: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "gc.auto=0"])
        .args(words)
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for item in fs::read_dir(&directory).unwrap().flatten() {
            if item.file_type().unwrap().is_dir() {
                open.push(item.path());
            }
            found.push(item.path());
        }
    }
    found.sort();
    found
}

/// As many as were asked for, spread over all of them.
fn spread(points: Vec<Point>) -> Vec<Point> {
    let most = match std::env::var("DROVER_GIT_KILLS").ok().as_deref() {
        None => USUAL,
        Some("all") => usize::MAX,
        Some(number) => number.parse().unwrap(),
    };
    let count = points.len();
    let taken = most.min(count);
    (0..taken).map(|at| points[at * count / taken].clone()).collect()
}

/// Whether there is a strace that may trace.
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if traced.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return true;
    }
    let reason = format!("strace does not work here: {traced:?}");
    assert!(
        std::env::var_os("DROVER_WITHOUT_STRACE").is_some(),
        "{reason}; install it, or DROVER_WITHOUT_STRACE=1 allows it"
    );
    println!("skipped: {reason}");
    false
}

/// Everything is gone again, and the next session finds a repository that works.
async fn it_is_as_before(yard: &Yard, before: &str, point: &Point) {
    assert_eq!(yard.picture(&yard.common()), before, "killed at {point:?}");
    assert_eq!(fs::read_dir(yard.site().root).map_or(0, |all| all.flatten().filter(is_no_trash).count()), 0);
    git(&yard.repository, &["branch", "-q", "by-hand"]);
    git(&yard.repository, &["branch", "-qD", "by-hand"]);
}

fn is_no_trash(entry: &fs::DirEntry) -> bool {
    !entry.file_name().to_string_lossy().starts_with(".trash-")
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "who kills wants to know at how many places")]
async fn a_git_killed_at_any_call_while_a_workspace_is_made_leaves_nothing_that_a_retry_or_an_undo_does_not_mend()
 {
    if !can_trace() {
        return;
    }
    let yard = Yard::new();
    let (site, before) = (yard.site(), yard.picture(&yard.common()));
    let mut count = 0;
    for verb in ["update-ref", "worktree", "read-tree"] {
        let make = async |yard: &Yard| yard.spaces.create(&site).await.unwrap();
        let points = spread(yard.points(verb, make).await);
        yard.spaces.remove(&site, Removal::default()).await.unwrap();
        for (at, point) in points.iter().enumerate() {
            yard.plan(Some(point));
            // A child of git's may have been killed, which git can have noticed and mended.
            let _ = yard.spaces.create(&site).await;
            yard.plan(None);
            if at % 2 == 0 {
                let made = yard.spaces.create(&site).await;
                made.unwrap_or_else(|failure| panic!("killed at {point:?}: {failure}"));
                let entries = worktrees::entries(&yard.common()).unwrap();
                let is_ours = entries.len() == 1 && site.mark.is_on(&entries[0]);
                assert!(is_ours, "registered once, with the mark, after {point:?}: {entries:?}");
                assert_eq!(git(&site.path, &["status", "--porcelain"]), "", "killed at {point:?}");
                yard.spaces.remove(&site, Removal::default()).await.unwrap();
            } else {
                let undone = yard.spaces.undo(&site).await;
                undone.unwrap_or_else(|failure| panic!("killed at {point:?}: {failure}"));
            }
            it_is_as_before(&yard, &before, point).await;
        }
        count += points.len();
    }
    assert!(count > 2 * USUAL.min(20), "{count} calls are worth it");
    println!("making: git killed at {count} calls, 0 failures");
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "who kills wants to know at how many places")]
async fn a_git_killed_at_any_call_while_a_workspace_is_removed_leaves_nothing_that_a_retry_does_not_mend() {
    if !can_trace() {
        return;
    }
    let yard = Yard::new();
    let (site, before) = (yard.site(), yard.picture(&yard.common()));
    let make = async |yard: &Yard| {
        yard.spaces.create(&site).await.unwrap();
        fs::write(site.path.join("work.txt"), "work").unwrap();
    };
    let forget = |yard: &Yard| {
        for saved in
            git(&yard.repository, &["for-each-ref", "refs/drover/trash", "--format=%(refname)"]).lines()
        {
            assert_eq!(git(&yard.repository, &["show", &format!("{saved}:work.txt")]), "work");
            git(&yard.repository, &["update-ref", "-d", saved]);
        }
        for empty in ["trash", ""] {
            let _ = fs::remove_dir(yard.common().join("refs/drover").join(empty));
        }
    };
    let mut count = 0;
    for verb in ["fast-import", "update-ref"] {
        make(&yard).await;
        let remove = async |yard: &Yard| drop(yard.spaces.remove(&site, Removal::default()).await.unwrap());
        let points = spread(yard.points(verb, remove).await);
        forget(&yard);
        for point in &points {
            make(&yard).await;
            yard.plan(Some(point));
            let _ = yard.spaces.remove(&site, Removal::default()).await;
            yard.plan(None);
            remove_until_it_is_done(&yard, &site, point).await;
            let saved = git(&yard.repository, &["for-each-ref", "refs/drover/trash"]);
            assert_eq!(saved.lines().count(), 1, "the work is saved, once, after {point:?}: {saved}");
            forget(&yard);
            it_is_as_before(&yard, &before, point).await;
        }
        count += points.len();
    }
    println!("removing: git killed at {count} calls, 0 failures");
}

/// As the step engine does it. git does not write the very same pack twice, and it is another one in the next second.
async fn remove_until_it_is_done(yard: &Yard, site: &Site, point: &Point) {
    let mut last = None;
    for _ in 0..200 {
        match yard.spaces.remove(site, Removal::default()).await {
            Ok(_) => return,
            Err(failure) if failure.to_string().contains("keep file") => last = Some(failure),
            Err(failure) => panic!("killed at {point:?}: {failure}"),
        }
    }
    panic!("killed at {point:?}: {last:?}");
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "who kills wants to know at how many places")]
async fn a_git_killed_at_any_call_while_a_copy_is_fetched_leaves_nothing_that_the_next_fetch_does_not_mend() {
    if !can_trace() {
        return;
    }
    let yard = Yard::new();
    let copy = yard.mirrors.fetch(&yard.url(), None).await.unwrap();
    let mut commits = 0;
    // Something new each time: a commit, a branch, and a branch that is gone.
    let mut go_on = || {
        commits += 1;
        git(&yard.repository, &["commit", "-q", "--allow-empty", "-m", &format!("{commits}")]);
        git(&yard.repository, &["branch", &format!("b{commits}")]);
        if commits > 1 {
            git(&yard.repository, &["branch", "-qD", &format!("b{}", commits - 1)]);
        }
    };
    go_on();
    let fetch = async |yard: &Yard| drop(yard.mirrors.fetch(&yard.url(), None).await.unwrap());
    let points = spread(yard.points("fetch", fetch).await);
    for point in &points {
        go_on();
        yard.plan(Some(point));
        let _ = yard.mirrors.fetch(&yard.url(), None).await;
        yard.plan(None);
        let fetched = yard.mirrors.fetch(&yard.url(), None).await;
        fetched.unwrap_or_else(|failure| panic!("killed at {point:?}: {failure}"));
        let there = git(
            &yard.repository,
            &["for-each-ref", "refs/heads", "--format=%(objectname) %(refname:lstrip=2)"],
        );
        let here = "--format=%(if)%(symref)%(then)%(else)%(objectname) %(refname:lstrip=3)%(end)";
        let here = git(&copy, &["for-each-ref", "refs/remotes/origin", here]);
        let here: Vec<_> = here.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(here.join("\n"), there, "killed at {point:?}");
        let locks: Vec<_> = below(&copy)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ext| ext == "lock"))
            .collect();
        let stale: Vec<_> = locks
            .iter()
            .filter(|path| !path.ends_with(lock::FILE) && !path.starts_with(copy.join("drover-aside")))
            .collect();
        assert_eq!(stale, Vec::<&PathBuf>::new(), "killed at {point:?}");
    }
    println!("fetching: git killed at {} calls, 0 failures", points.len());
}
