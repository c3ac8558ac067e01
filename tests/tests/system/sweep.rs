//! The agent killed at every place that its steps have, in the lives that sessions lead: taken up again, it comes to
//! what the registry says, nothing is left or done twice, and the repository is good for the next session. The places
//! are those that a life reaches when nobody dies. `DROVER_SWEEP` says how often each gets its turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{pid, script};
use drover_tests::ground::processes_naming;
use drover_tests::installation::Installation;
use drover_tests::patience::{eventually, settled};
use drover_tests::programs::{Program, is_alive};
use drover_tests::repository::{Repository, git};
use futures::FutureExt;
use rusqlite::{Connection, OpenFlags};

const LANES: usize = 3;
const SLOTS: u32 = 4;

/// What becomes of a session, told by what its user does and sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// Made, started, stopped with work in its workspace, removed.
    Whole,
    /// Its files cannot be made, which takes back what was.
    Unfinished,
    /// Its run cannot be started: the path of its supervisor's socket would be too long.
    Unstarted,
    /// Made, started, reset hard, removed.
    Anew,
    /// Removed with work in its workspace, and made a session again from the trash.
    Restored,
    /// Removed with work and a commit, which are put beside in a directory and then purged.
    Aside,
    /// Removed while its agent is dead.
    Withdrawn,
}

impl Story {
    /// In the order in which their places are looked up.
    const FIRST: [Self; 6] =
        [Self::Whole, Self::Unfinished, Self::Unstarted, Self::Anew, Self::Restored, Self::Aside];
}

#[derive(Clone, Debug)]
struct Turn {
    story: Story,
    place: String,
}

/// One agent with a repository that nobody else works in.
struct Lane<'a> {
    there: &'a Installation,
    number: usize,
    agent: Option<Program>,
    repository: Repository,
    /// The repository as it is without sessions.
    before: BTreeMap<PathBuf, Vec<u8>>,
    lives: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "who sweeps wants to know over how many places")]
async fn an_agent_killed_at_any_place_of_any_step_comes_to_what_the_registry_says_and_leaves_nothing() {
    let repetitions = std::env::var("DROVER_SWEEP").ok().map_or(1, |text| text.parse().unwrap());
    let mut there = Installation::start(LANES, SLOTS).await;
    let agents = std::mem::take(&mut there.agents);
    let mut lanes: Vec<Lane<'_>> = Vec::new();
    for (number, agent) in agents.into_iter().enumerate() {
        drop(agent);
        lanes.push(Lane::new(&there, number));
    }
    let turns = lanes[0].turns().await;
    let count = turns.len();
    let all: VecDeque<Turn> = (0..repetitions).flat_map(|_| turns.clone()).collect();
    let waiting = Mutex::new(all);
    let failures = Mutex::new(Vec::new());
    let work = lanes.into_iter().map(|lane| lane.sweep(&waiting, &failures));
    futures::future::join_all(work).await;
    let failures = failures.into_inner().unwrap();
    println!("{count} places x {repetitions}: {} failures", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

impl<'a> Lane<'a> {
    fn new(there: &'a Installation, number: usize) -> Self {
        let repository = Repository::default();
        lack_a_file(&repository);
        let before = files(&repository.path.join(".git"));
        Self { there, number, agent: None, repository, before, lives: 0 }
    }

    /// Every place that the stories reach, once, with the story in which it is reached first.
    async fn turns(&mut self) -> Vec<Turn> {
        let mut turns: Vec<Turn> = Vec::new();
        let mut known = BTreeSet::new();
        for story in Story::FIRST {
            let list = self.there.path(&format!("{story:?}.list"));
            self.start(story, ("DROVER_FAILPOINT_LIST", list.to_str().unwrap()));
            self.live(story, None).await;
            let reached = std::fs::read_to_string(list).unwrap();
            for place in reached.lines().filter(|place| known.insert((*place).to_owned())) {
                turns.push(Turn { story, place: place.to_owned() });
            }
        }
        let is_early = |turn: &&Turn| turn.story == Story::Whole && is_before_the_stop(&turn.place);
        let withdrawn: Vec<Turn> = turns
            .iter()
            .filter(is_early)
            .map(|turn| Turn { story: Story::Withdrawn, ..turn.clone() })
            .collect();
        assert!(turns.len() > 40 && withdrawn.len() > 15, "an agent with its places: {turns:?}");
        turns.extend(withdrawn);
        turns
    }

    /// Takes one turn after the other, until there is none or one has failed: what it left would be in the way.
    async fn sweep(mut self, waiting: &Mutex<VecDeque<Turn>>, failures: &Mutex<Vec<String>>) {
        loop {
            let Some(turn) = waiting.lock().unwrap().pop_front() else { return };
            let life = AssertUnwindSafe(self.turn(&turn)).catch_unwind().await;
            if let Err(why) = life {
                let text = why.downcast_ref::<String>().cloned();
                let text = text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let (lane, text) = (self.number, text.unwrap_or_default());
                failures.lock().unwrap().push(format!("{turn:?} on node-{lane}: {text}"));
                return;
            }
        }
    }

    async fn turn(&mut self, turn: &Turn) {
        self.start(turn.story, ("DROVER_FAILPOINT", &turn.place));
        self.live(turn.story, Some(turn)).await;
        if turn.story == Story::Unstarted {
            self.start(Story::Whole, ("DROVER_FAILPOINT", ""));
        }
        self.works_on().await;
    }

    /// Kills the agent, if it lives, and starts it for the story with this in its environment.
    fn start(&mut self, story: Story, variable: (&str, &str)) {
        drop(self.agent.take());
        self.agent = Some(self.begun(story, variable));
    }

    fn begun(&self, story: Story, variable: (&str, &str)) -> Program {
        let long = self.there.path(&"long".repeat(25)).display().to_string();
        let mut variables = vec![variable];
        if story == Story::Unstarted {
            variables.push(("DROVER_SOCKETS", &long));
        }
        self.there.agent(self.number, SLOTS, &variables)
    }

    /// A session's life and, if it is somebody's turn, its agent's death. Afterwards everything is as before.
    async fn live(&mut self, story: Story, turn: Option<&Turn>) {
        self.lives += 1;
        let name = format!("s{}-{}", self.number, self.lives);
        let starts = self.there.path(&name);
        self.there.client().create(self.asked(story, &name, &starts)).await.unwrap();
        if turn.is_some() {
            let mut agent = self.agent.take().unwrap();
            // The place may come only after what the user sees last.
            tokio::join!(self.told(story, &name), self.death(story, &name, &mut agent));
            self.agent = Some(agent);
        } else {
            self.told(story, &name).await;
        }
        let started = std::fs::read_to_string(&starts).unwrap_or_default().lines().count();
        match story {
            Story::Whole | Story::Anew | Story::Restored | Story::Aside => {
                assert_eq!(started, 1, "its program was started once");
            }
            Story::Withdrawn => assert!(started <= 1, "its program was started {started} times"),
            Story::Unfinished | Story::Unstarted => assert_eq!(started, 0),
        }
        self.nothing_is_left().await;
    }

    fn asked(&self, story: Story, name: &str, starts: &Path) -> v1::CreateSessionRequest {
        let commit = if story == Story::Aside { "git commit -q --allow-empty -m aside;" } else { "" };
        let work = format!(
            "echo started >> '{}'; {commit} echo work > new.txt; while :; do sleep 60; done",
            starts.display()
        );
        let mut asked = script(name, &self.repository.path, &work);
        let spec = asked.spec.as_mut().unwrap();
        spec.node = format!("node-{}", self.number);
        match story {
            Story::Whole
            | Story::Anew
            | Story::Restored
            | Story::Aside
            | Story::Withdrawn
            | Story::Unstarted => {}
            Story::Unfinished => spec.base = LACKING.into(),
        }
        asked
    }

    /// What its user does, and is told.
    async fn told(&self, story: Story, name: &str) {
        let client = self.there.client();
        match story {
            Story::Whole => {
                let running = client.until(name, State::Running).await;
                self.there_is_one(&running).await;
                client.stop(name).await.unwrap();
                let ready = client.until(name, State::Ready).await;
                assert_eq!((ready.last_run.unwrap().outcome(), ready.runs), (v1::RunOutcome::Stopped, 1));
                client.remove(name).await.unwrap();
            }
            Story::Anew => {
                let running = client.until(name, State::Running).await;
                self.there_is_one(&running).await;
                let ask = v1::ResetSessionRequest { session: name.into(), hard: true, ..Default::default() };
                client.sessions().reset_session(ask).await.unwrap();
                let ready = client.until(name, State::Ready).await;
                assert_eq!((ready.rebuilds, ready.runs), (1, 1));
                let at = Path::new(&ready.workspace.as_ref().unwrap().path).to_owned();
                assert_eq!(git(&at, &["status", "--porcelain"]), "", "it was made anew");
                client.remove(name).await.unwrap();
            }
            Story::Restored => {
                let running = client.until(name, State::Running).await;
                self.there_is_one(&running).await;
                client.remove(name).await.unwrap();
                client.until(name, State::Cleaned).await;
                self.comes_back(name).await;
            }
            Story::Unfinished | Story::Unstarted => {
                let fault = client.until(name, State::Error).await.fault.unwrap();
                let expected = if story == Story::Unfinished { "lost.txt" } else { "too long" };
                assert!(fault.text.contains(expected), "{fault:?}");
                client.remove(name).await.unwrap();
            }
            Story::Withdrawn => {}
            Story::Aside => return self.is_put_beside(name).await,
        }
        let saved = match story {
            Story::Whole | Story::Anew | Story::Restored | Story::Aside => 1..=1,
            Story::Withdrawn => 0..=1,
            Story::Unfinished | Story::Unstarted => 0..=0,
        };
        // A program that was ended as it began may have written nothing of its work yet.
        let is_whole = story != Story::Withdrawn;
        self.cleaned(name, saved, is_whole).await;
    }

    /// What was saved of a session becomes another one, which is removed too.
    async fn comes_back(&self, name: &str) {
        let client = self.there.client();
        let again = format!("{name}-again");
        let ask = v1::RestoreTrashRequest {
            request_id: again.clone(),
            item: name.into(),
            name: again.clone(),
            ..Default::default()
        };
        // Its node may be away just now.
        settled("it is restored", || {
            let (mut trash, ask) = (client.maintenance(), ask.clone());
            async move { trash.restore_trash(ask).await }
        })
        .await;
        let back = client.until(&again, State::Ready).await;
        let work = Path::new(&back.workspace.unwrap().path).join("new.txt");
        assert_eq!(std::fs::read(work).unwrap(), b"work\n");
        client.remove(&again).await.unwrap();
        self.cleaned(&again, 1..=1, true).await;
    }

    /// What was saved of a session becomes a directory and a branch, and then goes for good.
    async fn is_put_beside(&self, name: &str) {
        let client = self.there.client();
        let workspace = client.until(name, State::Running).await.workspace.unwrap();
        let work = Path::new(&workspace.path).join("new.txt");
        eventually("it works", || async { std::fs::read(&work).ok().filter(|text| text == b"work\n") }).await;
        let (request_id, session) = (format!("remove-{name}"), name.to_owned());
        let remove = v1::DeleteSessionRequest { request_id, session, force: true, ..Default::default() };
        client.sessions().delete_session(remove).await.unwrap();
        let session = client.until(name, State::Cleaned).await.id;
        let (directory, branch) = (self.there.path(&format!("{name}-beside")), format!("{name}-beside"));
        let put = v1::RestoreTrashRequest {
            request_id: format!("put-{name}"),
            item: session.clone(),
            directory: directory.display().to_string(),
            branch: branch.clone(),
            ..Default::default()
        };
        // Its node may be away just now, so that it is not even found.
        eventually("it is put beside", || {
            let (mut trash, put) = (client.maintenance(), put.clone());
            async move { trash.restore_trash(put).await.ok() }
        })
        .await;
        assert_eq!(std::fs::read(directory.join("new.txt")).unwrap(), b"work\n");
        assert_eq!(self.repository.git(&["log", "-1", "--format=%s", &branch]), "aside\n");
        std::fs::remove_dir_all(&directory).unwrap();
        self.repository.git(&["branch", "-q", "-D", &branch]);
        let purge = v1::PurgeTrashRequest {
            request_id: format!("purge-{name}"),
            items: vec![session],
            expired: false,
        };
        eventually("it is purged", || {
            let (mut trash, purge) = (client.maintenance(), purge.clone());
            async move { trash.purge_trash(purge).await.ok() }
        })
        .await;
        assert_eq!(self.repository.git(&["for-each-ref", "refs/drover/trash"]), "");
        self.drop_empty_references();
    }

    fn drop_empty_references(&self) {
        for empty in ["refs/drover/trash", "refs/drover/wip", "refs/drover"] {
            let _ = std::fs::remove_dir(self.repository.path.join(".git").join(empty));
        }
    }

    /// The end of a session, of whose work so much is in the trash. It is taken out.
    async fn cleaned(&self, name: &str, saved: std::ops::RangeInclusive<usize>, is_whole: bool) {
        let kept = self.there.client().until(name, State::Cleaned).await.kept.unwrap_or_default();
        assert_eq!(kept.branch, "", "nothing was committed: {kept:?}");
        assert!(saved.contains(&kept.trash.len()), "{kept:?}");
        for trash in &kept.trash {
            let work = self.repository.git(&["show", &format!("{trash}:new.txt")]);
            assert!(work == "work\n" || (!is_whole && work.is_empty()), "{work}");
            self.repository.git(&["update-ref", "-d", trash]);
        }
        self.drop_empty_references();
    }

    /// The agent's death at its place, and its return.
    async fn death(&self, story: Story, name: &str, agent: &mut Program) {
        eventually("the agent gets to its place and dies", || {
            let ended = agent.has_ended();
            async move { ended.then_some(()) }
        })
        .await;
        if story == Story::Withdrawn {
            self.there.client().remove(name).await.unwrap();
        }
        *agent = self.begun(story, ("DROVER_FAILPOINT", ""));
    }

    /// One branch at its base, one worktree with the mark, one process, and that one has begun its work.
    async fn there_is_one(&self, session: &v1::Session) {
        let workspace = session.workspace.as_ref().unwrap();
        let branches =
            self.repository.git(&["for-each-ref", "refs/heads/drover", "--format=%(objectname) %(refname)"]);
        assert_eq!(branches, format!("{} refs/heads/{}\n", workspace.base_commit, workspace.branch));
        let entries: Vec<_> =
            self.repository.path.join(".git/worktrees").read_dir().unwrap().flatten().collect();
        let [entry] = entries.as_slice() else { panic!("one entry: {entries:?}") };
        let reason = std::fs::read_to_string(entry.path().join("locked")).unwrap();
        assert!(reason.starts_with("drover:") && reason.contains(&session.id), "{reason}");
        assert!(is_alive(pid(session).unwrap()));
        let work = Path::new(&workspace.path).join("new.txt");
        eventually("it works", || async { std::fs::read(&work).ok().filter(|text| text == b"work\n") }).await;
    }

    /// Another session on the same repository.
    async fn works_on(&mut self) {
        self.lives += 1;
        let name = format!("s{}-{}", self.number, self.lives);
        let client = self.there.client();
        let mut asked = self.asked(Story::Whole, &name, Path::new("/dev/null"));
        asked.spec.as_mut().unwrap().command = vec!["true".into()];
        client.create(asked).await.unwrap();
        let ready = client.until(&name, State::Ready).await;
        assert_eq!((ready.last_run.unwrap().outcome(), ready.runs), (v1::RunOutcome::Succeeded, 1));
        client.remove(&name).await.unwrap();
        client.until(&name, State::Cleaned).await;
        self.nothing_is_left().await;
    }

    async fn nothing_is_left(&self) {
        let last = Mutex::new(Vec::new());
        let wait = eventually("nothing is left", || async {
            *last.lock().unwrap() = self.left();
            last.lock().unwrap().is_empty().then_some(())
        });
        let ended = AssertUnwindSafe(wait).catch_unwind().await;
        assert!(ended.is_ok(), "left: {:?}", last.lock().unwrap());
    }

    /// What is there of sessions, on the machine and in the repository.
    fn left(&self) -> Vec<String> {
        let (state, node) =
            (self.there.state_of(self.number), self.there.identity_of(self.number).node.short());
        let places = [state.join("worktrees"), state.join("runs"), self.there.path("run").join(&node)];
        let mut left: Vec<String> = places.iter().flat_map(|place| within(place)).collect();
        let groups = self.there.ground.control_groups();
        let groups = groups.iter().filter(|group| group.ends_with(&node)).flat_map(|group| within(group));
        left.extend(groups.filter(|path| Path::new(path).is_dir()));
        let beside = within(self.there.ground.path()).into_iter();
        left.extend(beside.filter(|path| path.contains("drover-restoring")));
        let processes = processes_naming(&state);
        if processes.len() != 1 {
            left.push(format!("processes {processes:?}"));
        }
        let rows = rows(&state);
        if rows != 0 {
            left.push(format!("{rows} rows of the ledger"));
        }
        let now = files(&self.repository.path.join(".git"));
        let differ = |path: &&PathBuf| now.get(*path) != self.before.get(*path);
        let paths: BTreeSet<&PathBuf> = now.keys().chain(self.before.keys()).filter(differ).collect();
        left.extend(paths.into_iter().map(|path| path.display().to_string()));
        left
    }
}

fn is_before_the_stop(place: &str) -> bool {
    place.starts_with("workspace/") || place.starts_with("run/program/")
}

const LACKING: &str = "lacking";

/// Makes a branch that cannot be checked out: the repository has lost one of its files.
fn lack_a_file(repository: &Repository) {
    repository.git(&["checkout", "-q", "-b", LACKING]);
    std::fs::write(repository.path.join("lost.txt"), "lost").unwrap();
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-qm", "with a file that is lost"]);
    let blob = repository.git(&["rev-parse", "HEAD:lost.txt"]);
    repository.git(&["checkout", "-q", "main"]);
    let (folder, file) = blob.trim().split_at(2);
    std::fs::remove_file(repository.path.join(".git/objects").join(folder).join(file)).unwrap();
}

/// Every file of a repository but its objects, and every directory.
fn files(git: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![git.to_owned()];
    while let Some(directory) = open.pop() {
        for path in within(&directory).into_iter().map(PathBuf::from) {
            if path.is_dir() && path != git.join("objects") {
                open.push(path.clone());
                found.insert(path, Vec::new());
            } else if path.is_file() {
                // It may go while it is read.
                found.insert(path.clone(), std::fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

fn within(directory: &Path) -> Vec<String> {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// What the ledger still holds of sessions.
fn rows(state: &Path) -> i64 {
    let ledger =
        Connection::open_with_flags(state.join("ledger.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = "SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM sagas) + \
                 (SELECT count(*) FROM steps) + (SELECT count(*) FROM reports)";
    // Its owner may be starting.
    ledger.query_row(count, [], |row| row.get(0)).unwrap_or(-1)
}
