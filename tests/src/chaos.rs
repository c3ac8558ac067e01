//! Chaos: an installation of real programs on this machine, hundreds of sessions with work like people's, and somebody who
//! kills programs, deletes and renames what is Drover's, and leaves things behind. Afterwards it is counted what became
//! an orphan, how soon that was seen, what was cleaned up without a human, what was kept and why, and whether everything
//! that was promised still holds. Seeded: the same seed asks for the same things in the same order.

mod audit;
mod faults;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;

use crate::client::{Client, script};
use crate::installation::Installation;
use crate::patience::eventually;
use crate::repository::Repository;

pub use report::Report;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub seed: u64,
    pub sessions: usize,
    pub agents: usize,
    /// Between two faults there are so many steps of the work.
    pub steps_per_fault: usize,
}

/// Quick rounds and little grace: what takes minutes in service takes seconds here.
const TERMS: [(&str, &str); 10] = [
    ("DROVER_ROUNDS_EVERY", "1s"),
    ("DROVER_ROUNDS_FULL", "5s"),
    ("DROVER_GRACE_WORKSPACES", "2s"),
    ("DROVER_GRACE_PROCESSES", "2s"),
    ("DROVER_GRACE_STUCK", "20s"),
    ("DROVER_GRACE_LOCKS", "12s"),
    ("DROVER_LEASE_HEARTBEAT", "500ms"),
    ("DROVER_LEASE_LEASE", "5s"),
    ("DROVER_LEASE_LOST_AFTER", "5m"),
    ("DROVER_CHECKPOINT_EVERY", "30s"),
];
/// Alive at once, so that two cores are enough.
const AT_ONCE: usize = 24;
const REPOSITORIES: usize = 3;
const SLOTS: u32 = 32;

/// Chance that comes again with its seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Less than `most`, which is more than 0.
    pub fn roll(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % most
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.roll(from.len())) }
    }
}

/// A session as it was asked for.
#[derive(Clone, Debug)]
struct Made {
    id: String,
    repository: usize,
    workspace: Option<PathBuf>,
    /// Somebody took its files away by hand.
    is_spoiled: bool,
    is_removed: bool,
}

/// Everything that is going on.
struct World {
    there: Installation,
    repositories: Vec<Repository>,
    dice: Dice,
    made: BTreeMap<String, Made>,
    harm: faults::Harm,
}

/// All of it: work, harm, rest, audit.
pub async fn run(scale: Scale) -> Report {
    let there = Installation::with(&TERMS, scale.agents, SLOTS).await;
    let repositories = (0..REPOSITORIES).map(|number| project(40 * (number + 1))).collect();
    let dice = Dice::new(scale.seed);
    let mut world = World { there, repositories, dice, made: BTreeMap::new(), harm: faults::Harm::default() };
    world.plant_sentinels();
    let mut steps = 0_usize;
    while world.made.len() < scale.sessions {
        world.step().await;
        steps += 1;
        if steps.is_multiple_of(scale.steps_per_fault) {
            world.fault().await;
        }
    }
    world.rest().await;
    world.audit(scale).await
}

/// A repository as people have them: dependencies and build output are ignored.
fn project(files: usize) -> Repository {
    let repository = Repository::with_files(files);
    std::fs::write(repository.path.join(".gitignore"), "node_modules/\ntarget/\n*.log\n.env\n").unwrap();
    repository.git(&["add", "-A"]);
    repository.git(&["commit", "-qm", "ignore"]);
    repository
}

/// What a session's program does: files of every kind, commits now and then, some time.
fn work(name: &str, kind: usize) -> String {
    let pause = ["", "sleep 2;", "sleep 5;"][kind % 3];
    let commit = if kind.is_multiple_of(4) { "git add d0 && git commit -qm more;" } else { "" };
    format!(
        "mkdir -p node_modules/a target/b; echo dep > node_modules/a/i.js; echo out > target/b/o; \
         echo changed >> d0/f1.txt; {commit} echo {name} > precious.txt; echo {name} > .env; echo log > x.log; {pause} exit {}",
        kind % 2
    )
}

impl World {
    fn client(&self) -> Client {
        self.there.client()
    }

    /// One step of the work: a new session, or something done to one that is there.
    async fn step(&mut self) {
        let there = self.sessions().await;
        let living = there.iter().filter(|session| !is_over(session)).count();
        if living < AT_ONCE && self.dice.roll(3) > 0 {
            return self.create().await;
        }
        let settled: Vec<&v1::Session> =
            there.iter().filter(|session| matches!(session.state(), State::Ready | State::Error)).collect();
        let Some(session) = self.dice.pick(&settled).map(|session| (*session).clone()) else {
            return tokio::time::sleep(Duration::from_millis(100)).await;
        };
        if self.dice.roll(4) > 0 {
            self.remove(&session.name).await;
        } else {
            // It may have moved on meanwhile.
            let ask = v1::StartSessionRequest { session: session.name, ..Default::default() };
            let _ = self.client().sessions().start_session(ask).await;
        }
    }

    async fn create(&mut self) {
        let name = format!("s{}", self.made.len());
        let (kind, repository) = (self.dice.roll(12), self.dice.roll(self.repositories.len()));
        let ask = script(&name, &self.repositories[repository].path, &work(&name, kind));
        let client = self.client();
        let made = crate::patience::settled("a session is created", || client.create(ask.clone())).await;
        let made = Made { id: made.id, repository, workspace: None, is_spoiled: false, is_removed: false };
        self.made.insert(name, made);
    }

    async fn remove(&mut self, name: &str) {
        if self.client().remove(name).await.is_ok()
            && let Some(made) = self.made.get_mut(name)
        {
            made.is_removed = true;
        }
    }

    /// Every session, and what is known of their workspaces. Nothing while the controller is away.
    async fn sessions(&mut self) -> Vec<v1::Session> {
        let there = self.client().all().await.unwrap_or_default();
        for session in &there {
            let path = session.workspace.as_ref().map(|workspace| PathBuf::from(&workspace.path));
            if let (Some(made), Some(path)) = (self.made.get_mut(&session.name), path) {
                made.workspace = Some(path);
            }
        }
        there
    }

    /// No more harm: everything gets where it is wanted, and rounds put right what they can.
    async fn rest(&mut self) {
        self.there.all_linked().await;
        let client = self.client();
        eventually("every session is settled", || async {
            let all = client.all().await.ok()?;
            let is_settled = |session: &v1::Session| {
                is_over(session) || matches!(session.state(), State::Ready | State::Error)
            };
            all.iter().all(is_settled).then_some(())
        })
        .await;
        let left = self.made.iter().filter(|(_, made)| !made.is_removed);
        let names: Vec<String> = left.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.remove(&name).await;
        }
        eventually("every session is removed, or waits for a person", || async {
            let all = client.all().await.ok()?;
            all.iter().all(|session| is_over(session) || session.state() == State::Error).then_some(())
        })
        .await;
        // What is still wrong after so many rounds stays wrong.
        let mut quiet = 0;
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let health = self.there.run(&["health", "-o", "json"]);
            quiet = if matches!(health.code, 0 | 12) { quiet + 1 } else { 0 };
            if quiet >= 8 {
                return;
            }
        }
    }
}

fn is_over(session: &v1::Session) -> bool {
    session.state() == State::Cleaned
}
