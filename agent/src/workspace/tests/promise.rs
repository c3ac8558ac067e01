//! No work is lost: whatever a session left, removing it with any flags and restoring it gives every file, every commit
//! and git's own view of them back, and nothing that was planted ran. `DROVER_STATES` says how many random states,
//! `DROVER_SEED` which one comes first; a failure names its seed.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use drover_domain::session::Removal;
use futures::FutureExt as _;

use super::restoring::put_beside;
use super::strangers::plant;
use super::trash::items;
use super::*;
use crate::workspace::{Part, TrashItem};

/// Small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        (mixed ^ (mixed >> 33)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// What of a directory counts: kind and mode and content of everything in it, by path.
type Picture = BTreeMap<Vec<u8>, (char, u32, Vec<u8>)>;

fn picture(root: &Path) -> Picture {
    let mut found = Picture::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for item in fs::read_dir(&directory).unwrap() {
            let path = item.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let (kind, content) = if meta.is_dir() {
                open.push(path.clone());
                ('d', vec![])
            } else if meta.is_symlink() {
                ('l', fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else {
                ('f', fs::read(&path).unwrap())
            };
            let mode = if meta.is_symlink() { 0 } else { meta.permissions().mode() & 0o7777 };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            found.insert(name, (kind, mode, content));
        }
    }
    found
}

/// Without git's pointer, what can be made again, and the pointers of submodules, which say where they are.
fn work_of(mut picture: Picture) -> Picture {
    let again = |path: &[u8]| path == b".git" || path == b"target" || path.starts_with(b"target/");
    picture.retain(|path, _| !again(path) && path != b"module/.git");
    picture
}

/// git that may stop with an error, as at a conflict.
fn try_git(at: &Path, words: &[&str]) {
    let named = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"];
    let mut command = Command::new("git");
    command.args(named).args(words).current_dir(at).env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_EDITOR", "true").output().unwrap();
}

/// What git says of the worktree, under whatever name its branch and its place go.
fn view(site: &Site) -> String {
    let said = |words: &[&str]| String::from_utf8_lossy(&git_bytes(&site.path, words)).into_owned();
    let text = [
        said(&["status", "--untracked-files=all"]),
        said(&["status", "--porcelain=v2", "-z", "--untracked-files=all"]),
        said(&["ls-files", "-s", "-v", "-z"]),
        said(&["rev-parse", "HEAD"]),
        said(&["for-each-ref", "refs/worktree", "refs/bisect"]),
    ];
    let module = site.path.join("module");
    let modules = if module.join(".git").exists() {
        git(&module, &["status", "--branch", "--porcelain=v2"])
    } else {
        String::new()
    };
    let place = format!("/worktrees/{}/", site.path.file_name().unwrap().to_str().unwrap());
    let text = format!("{}\n{modules}", text.join("\n"));
    text.replace(&site.branch, "BRANCH").replace(&place, "/worktrees/ENTRY/")
}

/// All commits that anything of the repository or the worktree leads to.
fn commits(site: &Site) -> BTreeSet<String> {
    let text = git(&site.path, &["rev-list", "--all", "HEAD", "--reflog"]);
    text.lines().map(str::to_owned).collect()
}

fn commit(at: &Path, dice: &mut Dice) {
    write(&at.join(format!("committed{}", dice.roll(3))), format!("{}", dice.roll(1000)));
    git(at, &["add", "--all", "--", ":/committed*"]);
    git(at, &["commit", "-qm", "some work", "--only", "--", ":/committed*"]);
}

/// A yard whose repository may have a submodule, and a branch that conflicts.
fn grounds(dice: &mut Dice) -> (Yard, bool) {
    let yard = Yard::new();
    let has_module = dice.one_in(4);
    if has_module {
        let module = yard.dir.path().join("module");
        fs::create_dir(&module).unwrap();
        git(&module, &["init", "-q", "-b", "main", "."]);
        write(&module.join("inner"), "inner\n");
        git(&module, &["add", "-A"]);
        git(&module, &["commit", "-qm", "inner"]);
        git(&yard.repo, &["submodule", "--quiet", "add", module.to_str().unwrap(), "module"]);
        git(&yard.repo, &["commit", "-qm", "module"]);
    }
    (yard, has_module)
}

/// The commits: where HEAD is, and what was begun and not finished.
fn commits_in(yard: &Yard, site: &Site, dice: &mut Dice) {
    if dice.one_in(2) {
        commit(&site.path, dice);
    }
    if dice.one_in(4) {
        write(&site.path.join("README"), "put aside\n");
        git(&site.path, &["stash"]);
    }
    if dice.one_in(5) {
        commit(&site.path, dice);
        git(&site.path, &["commit", "-q", "--amend", "-m", "said better"]);
    }
    match dice.roll(6) {
        0 => {
            git(&site.path, &["checkout", "-q", "--detach"]);
            commit(&site.path, dice);
        }
        1 => {
            git(&site.path, &["checkout", "-q", "-b", "mine"]);
            commit(&site.path, dice);
        }
        2 => {
            git(&site.path, &["checkout", "-q", "--detach"]);
            commit(&site.path, dice);
            git(&site.path, &["checkout", "-q", &site.branch]);
        }
        _ => {}
    }
    let begun = dice.roll(5);
    if begun < 2 {
        git(&yard.repo, &["checkout", "-q", "-b", "other"]);
        write(&yard.repo.join("src/a.txt"), "theirs\n");
        git(&yard.repo, &["commit", "-qam", "theirs"]);
        git(&yard.repo, &["checkout", "-q", "main"]);
        write(&site.path.join("src/a.txt"), "ours\n");
        git(&site.path, &["commit", "-qm", "ours", "--", "src/a.txt"]);
        write(&site.path.join("README"), "aside for the rebase\n");
        match begun {
            0 => try_git(&site.path, &["rebase", "--autostash", "other"]),
            _ => try_git(&site.path, &["merge", "other"]),
        }
    }
}

fn files_in(site: &Site, dice: &mut Dice) {
    let at = |name: &str| site.path.join(name);
    let mode = |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    let long = "l".repeat(250);
    let names = [
        "plain",
        "sp ace",
        "new\nline",
        "quo\"te\\",
        "-dash",
        "ümlaut",
        &long,
        "a/b/c/deep",
        ".GIT~drover",
        "x~drover",
        ".gitmodules~drover",
        "tab\there",
    ];
    for name in names.iter().filter(|_| dice.one_in(3)).collect::<Vec<_>>() {
        write(&at(name), format!("{name}{}", dice.roll(9)));
        let odd = [0o600, 0o644, 0o755, 0o400, 0o751][usize::try_from(dice.roll(5)).unwrap()];
        mode(name, odd);
    }
    let odd = dice.roll(1 << 12);
    let chosen = |bit: u32| odd & (1 << bit) != 0;
    if chosen(0) {
        write(&site.path.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), "bytes");
        let odd = fs::Permissions::from_mode(0o640);
        fs::set_permissions(site.path.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), odd).unwrap();
    }
    if chosen(1) {
        write(&at("README"), [0, 159, 146, 150, b'\r', b'\n']);
    }
    if chosen(2) && at("src/a.txt").exists() {
        fs::remove_file(at("src/a.txt")).unwrap();
        write(&at("src/a.txt/now"), "a directory");
    }
    if chosen(3) {
        write(&at("local.env"), "SECRET=1");
        write(&at("some.log"), "log");
        write(&at("target/debug/o"), vec![7; 10_000]);
    }
    if chosen(4) {
        write(&at("staged"), "staged\n");
        git(&site.path, &["add", "--", "staged"]);
        write(&at("staged"), if dice.one_in(2) { "and changed\n" } else { "" });
    }
    things_in(site, odd);
    if chosen(8) && odd & 6 == 0 {
        git(&site.path, &["update-index", "--assume-unchanged", "README"]);
        write(&at("README"), "overlooked");
    }
    if chosen(9) && chosen(10) {
        mode("README", 0o755);
    }
}

/// What is no plain file.
fn things_in(site: &Site, odd: u64) {
    let at = |name: &str| site.path.join(name);
    let mode = |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    let chosen = |bit: u32| odd & (1 << bit) != 0;
    if chosen(5) {
        fs::create_dir_all(at("empty/inner")).unwrap();
        mode("empty/inner", 0o500);
        fs::create_dir_all(at("closed")).unwrap();
        write(&at("closed/file"), "x");
        mode("closed", 0o555);
    }
    if chosen(6) {
        symlink("../outside/\u{1f411}", at("dangling")).unwrap();
        symlink("/etc", at("directory link")).unwrap();
        symlink("x", at(".gitattributes-link")).unwrap();
    }
    if chosen(7) {
        git(&site.path, &["init", "-q", "nested"]);
        write(&at("nested/inner"), "inner");
        git(&at("nested"), &["add", "-A"]);
        git(&at("nested"), &["commit", "-qm", "only here"]);
        write(&at("nested/inner"), "inner, changed");
        write(&at("nested/.gitignore"), "*.o\n");
        write(&at("nested/x.o"), "ignored there");
    }
}

fn module_in(site: &Site, dice: &mut Dice) {
    let module = site.path.join("module");
    git(&site.path, &["submodule", "--quiet", "update", "--init"]);
    if dice.one_in(2) {
        commit(&module, dice);
    }
    if dice.one_in(2) {
        write(&module.join("inner"), "changed\n");
        write(&module.join("new"), "new\n");
    }
}

/// What a checkpoint does not change, but for what was planted.
fn untouched(site: &Site, admin: &Path) -> (Picture, Picture) {
    (picture(&site.path), picture(admin))
}

async fn check_checkpoint(yard: &Yard, site: &Site, admin: &Path) {
    let before = untouched(site, admin);
    let made = yard.spaces.checkpoint(site).await.unwrap().unwrap();
    assert!(untouched(site, admin) == before, "the checkpoint touched the session");
    assert_eq!(yard.spaces.checkpoint(site).await.unwrap().unwrap(), made, "nothing changed");
    let listing = git_bytes(&yard.repo, &["ls-tree", "-r", "-z", &made.commit]);
    let is_link = listing.split(|byte| *byte == 0).any(|line| line.starts_with(b"160000"));
    let ignored = git_bytes(
        &site.path,
        &["-c", "core.fsmonitor=false", "ls-files", "--others", "--ignored", "--exclude-standard", "-z"],
    );
    let ignored: BTreeSet<&[u8]> = ignored.split(|byte| *byte == 0).collect();
    if is_link {
        // A submodule as the commit has it.
        return;
    }
    let saved = saved(&yard.repo, &made.commit);
    for (path, (kind, mode, content)) in work_of(picture(&site.path)) {
        if kind != 'd' && !ignored.contains(&path[..]) {
            let kind = if kind == 'f' && mode & 0o100 != 0 { 'x' } else { kind };
            let path = Path::new(OsStr::from_bytes(&path));
            assert!(saved.get(path) == Some(&(kind, content)), "{} is not in the checkpoint", path.display());
        }
    }
}

/// Removes it, maybe with something written meanwhile.
async fn remove(yard: &Yard, site: &Site, removal: Removal, late: Option<&str>) {
    let Some(late) = late else {
        yard.spaces.remove(site, removal).await.unwrap();
        return;
    };
    let (work, mut look) = yard.spaces.look_now(site, removal).await.unwrap();
    yard.spaces.save(site, &work, &mut look).await.unwrap();
    write(&site.path.join(late), "written late");
    yard.spaces.put_away(site).await.unwrap();
    yard.spaces.let_go(site, Some(&look)).await.unwrap();
    yard.spaces.drop_branch_after(site, removal, Some(&look)).await.unwrap();
}

/// What a session left, and what must be there afterwards.
struct Left {
    yard: Yard,
    site: Site,
    view: String,
    commits: BTreeSet<String>,
    files: Picture,
    late: Option<&'static str>,
    /// The repository's settings before programs were planted in them, and where those write that they ran.
    config: Vec<u8>,
    log: PathBuf,
}

async fn leave(dice: &mut Dice) -> Left {
    let (yard, has_module) = grounds(dice);
    let site = yard.site(1);
    yard.spaces.create(&site).await.unwrap();
    if has_module {
        module_in(&site, dice);
    }
    commits_in(&yard, &site, dice);
    if !dice.one_in(8) {
        files_in(&site, dice);
    }
    let late = [None, None, Some("late/file"), Some("README")][usize::try_from(dice.roll(4)).unwrap()];
    let (view, commits) = (view(&site), commits(&site));
    let files = work_of(picture(&site.path));
    let config = fs::read(yard.common().join("config")).unwrap();
    let log = plant(&yard);
    Left { yard, site, view, commits, files, late, config, log }
}

impl Left {
    fn add_what_came_late(&mut self) {
        let Some(late) = self.late else { return };
        let mode = self.files.get(late.as_bytes()).map_or(0o644, |(_, mode, _)| *mode);
        self.files.insert(late.into(), ('f', mode, b"written late".to_vec()));
        if late.contains('/') {
            self.files.insert(b"late".to_vec(), ('d', 0o755, vec![]));
        }
    }

    fn no_commit_is_lost(&self) {
        let bare = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];
        git(&self.yard.repo, &[&bare[..], &["gc", "-q", "--prune=now"]].concat());
        for commit in &self.commits {
            git(&self.yard.repo, &["cat-file", "-e", &format!("{commit}^{{commit}}")]);
        }
    }

    /// Into a new session's worktree, maybe of the same name, maybe killed on the way.
    async fn restored(&self, item: &TrashItem, dice: &mut Dice) -> Site {
        let Self { yard, site, .. } = self;
        let is_free = git(&yard.repo, &["for-each-ref", &site.branch_reference()]).is_empty();
        let number = if is_free && dice.one_in(2) { 1 } else { 2 };
        let mut again = Site { base: item.record.base.clone(), ..yard.site(number) };
        again.mark.session = SessionId::from_random([99; 10]);
        yard.spaces.make_branch(&again, true).await.unwrap();
        yard.spaces.make_worktree(&again).await.unwrap();
        for _ in 0..dice.roll(3) {
            let moment = Duration::from_millis(dice.roll(40));
            let _ = tokio::time::timeout(moment, yard.spaces.restore_into(&again, item)).await;
        }
        yard.spaces.restore_into(&again, item).await.unwrap();
        again
    }

    fn take_out_what_was_planted(&self) {
        let common = self.yard.common();
        fs::write(common.join("config"), &self.config).unwrap();
        fs::remove_file(common.join("info/attributes")).unwrap();
        fs::remove_dir_all(common.join("hooks")).unwrap();
    }
}

async fn one_state(seed: u64) {
    let mut dice = Dice(seed);
    let mut left = leave(&mut dice).await;
    if dice.one_in(2) {
        let admin = left.site.entry("test").unwrap().unwrap().admin;
        check_checkpoint(&left.yard, &left.site, &admin).await;
    }
    let removal = Removal { keep_branch: dice.one_in(2), force_branch: dice.one_in(2) };
    remove(&left.yard, &left.site, removal, left.late).await;
    assert!(!left.site.path.exists());
    left.add_what_came_late();
    left.no_commit_is_lost();
    let found = items(&left.yard).await;
    assert!(found.len() <= 1, "one removal, one item: {found:?}");
    let Some(item) = found.first() else {
        let is_clean = left.view.contains("nothing to commit, working tree clean");
        assert!(is_clean && left.late.is_none(), "nothing was saved: {}", left.view);
        return;
    };
    let again = left.restored(item, &mut dice).await;
    let is_work = item.parts.iter().any(|saved| saved.part == Part::Work);
    if is_work {
        let directory = left.yard.dir.path().join("aside");
        put_beside(&left.yard, item, &directory, "aside").await.unwrap();
        differ("the directory", &left.files, &work_of(picture(&directory)));
    }
    let ran = fs::read_to_string(&left.log).unwrap();
    assert!(ran.lines().all(|line| !is_work && line.starts_with("smudge ")), "this ran: {ran}");
    left.take_out_what_was_planted();
    differ("the worktree", &left.files, &work_of(picture(&again.path)));
    if left.late.is_none() {
        assert_eq!(view(&again), left.view);
    }
    git(&left.yard.repo, &["fsck", "--strict", "--connectivity-only"]);
}

fn differ(what: &str, before: &Picture, after: &Picture) {
    for (path, thing) in before {
        let name = String::from_utf8_lossy(path);
        assert!(after.get(path) == Some(thing), "{what}: {name} was {thing:?} and is {:?}", after.get(path));
    }
    for path in after.keys() {
        assert!(before.contains_key(path), "{what}: {} is new", String::from_utf8_lossy(path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_session_left_comes_back_and_nothing_planted_runs() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (states, first) = (number("DROVER_STATES", 25), number("DROVER_SEED", 1));
    for seed in first..first + states {
        let state = AssertUnwindSafe(one_state(seed)).catch_unwind().await;
        assert!(state.is_ok(), "this was DROVER_SEED={seed} DROVER_STATES=1");
    }
}
