//! Kills of whatever supervises: runs go on with the same process, their logs are whole, their codes arrive.

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{Client, pid, script};
use drover_tests::dev::Dev;
use drover_tests::gate::{Gate, counting, is_whole};
use drover_tests::ground::Ground;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::programs::is_alive;
use drover_tests::repository::Repository;

/// What is killed, and started again.
trait Victim {
    fn kill(&mut self);
    async fn start(&mut self);
    fn client(&self) -> Client;
    fn ground(&self) -> &Ground;
}

impl Victim for Dev {
    fn kill(&mut self) {
        Self::kill(self);
    }

    async fn start(&mut self) {
        self.again().await;
    }

    fn client(&self) -> Client {
        Self::client(self)
    }

    fn ground(&self) -> &Ground {
        &self.ground
    }
}

/// The agent only; its controller stays.
struct Lone(Installation);

impl Victim for Lone {
    fn kill(&mut self) {
        self.0.agents[0].take().unwrap().kill();
    }

    async fn start(&mut self) {
        self.0.start_agent(0, 8);
    }

    fn client(&self) -> Client {
        self.0.client()
    }

    fn ground(&self) -> &Ground {
        &self.0.ground
    }
}

const CODES: [(&str, i32); 3] = [("one", 0), ("two", 7), ("three", 120)];

async fn its_runs_survive(mut victim: impl Victim) {
    let repository = Repository::default();
    let mut gate = Gate::new(&victim.ground().join("gate"));
    let client = victim.client();
    let mut before = Vec::new();
    for (name, code) in CODES {
        client.create(script(name, &repository.path, &counting(&gate, code))).await.unwrap();
    }
    for (name, _) in CODES {
        before.push(client.until(name, State::Running).await);
    }
    for _ in 0..3 {
        let written = written(&client).await;
        victim.kill();
        victim.start().await;
        for was in &before {
            let is = client.until(&was.id, State::Running).await;
            assert_eq!(pid(&is), pid(was), "{} goes on with the same process", was.name);
            assert!(is_alive(pid(&is).unwrap()));
        }
        eventually("the logs go on", || async {
            let now = self::written(&client).await;
            now.iter().zip(&written).all(|(now, then)| now > then).then_some(())
        })
        .await;
    }
    // The last ones end while nobody is there.
    victim.kill();
    gate.open();
    eventually("the runs end", || async {
        (!before.iter().any(|session| is_alive(pid(session).unwrap()))).then_some(())
    })
    .await;
    victim.start().await;
    for (name, code) in CODES {
        it_ended_as_it_did(&client, name, code).await;
    }
}

async fn it_ended_as_it_did(client: &Client, name: &str, code: i32) {
    let ended = client.until(name, State::Ready).await;
    let last = ended.last_run.unwrap();
    let outcome = if code == 0 { v1::RunOutcome::Succeeded } else { v1::RunOutcome::Failed };
    assert_eq!((last.outcome(), last.exit_code), (outcome, Some(code)), "{name}");
    assert_eq!(ended.runs, 1, "{name} was started once");
    let log = eventually("the log can be read", || async { client.log(name).await.ok() }).await;
    is_whole(&log).unwrap_or_else(|why| panic!("the log of {name}: {why}"));
}

/// How much stands in each log.
async fn written(client: &Client) -> Vec<usize> {
    let mut found = Vec::new();
    for (name, _) in CODES {
        let log = eventually("the log can be read", || async { client.log(name).await.ok() }).await;
        found.push(log.len());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_survive_kills_of_controller_and_agent_at_once_three_times_in_a_row() {
    its_runs_survive(Dev::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_survive_kills_of_a_lone_agent_three_times_in_a_row() {
    its_runs_survive(Lone(Installation::start(1, 8).await)).await;
}
