//! The controller killed again and again under load: whatever it acknowledged happened, and happened once.
//! `DROVER_KILLS` says how often.

use std::collections::BTreeMap;

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::Client;
use drover_tests::installation::Installation;
use drover_tests::patience::settled;
use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CLIENTS: usize = 8;
const USUAL: usize = 15;

/// What one client was told has happened.
#[derive(Default)]
struct Told {
    sessions: BTreeMap<String, (String, Last)>,
    /// By the kind of event.
    changes: BTreeMap<&'static str, usize>,
}

/// What a session was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Created,
    Held,
    Released,
    Removed,
}

struct Worker {
    client: Client,
    number: usize,
    /// Grows with every acknowledgement of any client.
    acknowledged: watch::Sender<usize>,
    told: Told,
}

impl Worker {
    async fn work(mut self, end: &CancellationToken) -> Told {
        let mut round = 0;
        while !end.is_cancelled() {
            self.session(round).await;
            round += 1;
        }
        self.told
    }

    /// A session's life, ended at another place each time.
    async fn session(&mut self, round: usize) {
        let name = format!("c{}-{round}", self.number);
        let id = self.create(&name).await;
        let steps = [
            (Last::Held, "session_held"),
            (Last::Released, "session_released"),
            (Last::Removed, "session_cleaned"),
        ];
        self.told.sessions.insert(name.clone(), (id.clone(), Last::Created));
        for (last, kind) in steps.into_iter().take(round % 4) {
            self.change(&id, last).await;
            self.acknowledge(kind);
            self.told.sessions.insert(name.clone(), (id.clone(), last));
        }
    }

    async fn create(&mut self, name: &str) -> String {
        let asked = waiting(name);
        let made = settled("a session is created", || self.client.create(asked.clone())).await;
        assert_eq!(made.name, name, "a name that it got once before would be given another number");
        self.acknowledge("session_created");
        made.id
    }

    async fn change(&self, session: &str, last: Last) {
        let (request_id, session) = (format!("{last:?}-{session}"), session.to_owned());
        let client = &self.client;
        settled(&request_id, || {
            let (request_id, session) = (request_id.clone(), session.clone());
            async move { call(client, last, request_id, session).await }
        })
        .await;
    }

    fn acknowledge(&mut self, kind: &'static str) {
        *self.told.changes.entry(kind).or_default() += 1;
        self.acknowledged.send_modify(|count| *count += 1);
    }
}

async fn call(client: &Client, last: Last, request_id: String, session: String) -> Result<(), tonic::Status> {
    let mut sessions = client.sessions();
    match last {
        Last::Created => {}
        Last::Held => {
            let asked = v1::HoldSessionRequest { request_id, session, ..Default::default() };
            sessions.hold_session(asked).await?;
        }
        Last::Released => {
            let asked = v1::ReleaseSessionRequest { request_id, session, ..Default::default() };
            sessions.release_session(asked).await?;
        }
        Last::Removed => {
            let asked = v1::DeleteSessionRequest { request_id, session, ..Default::default() };
            sessions.delete_session(asked).await?;
        }
    }
    Ok(())
}

/// A session that no node takes. One that is made twice gets another name, and is found.
fn waiting(name: &str) -> v1::CreateSessionRequest {
    let map = |prefix: &str| (0..5).map(|at| (format!("{prefix}{at}"), format!("{at}"))).collect();
    v1::CreateSessionRequest {
        request_id: format!("create-{name}"),
        name: name.into(),
        on_conflict: v1::OnConflict::Rename.into(),
        spec: Some(v1::SessionSpec {
            repository: "https://example.org/a.git".into(),
            command: vec!["true".into()],
            env: map("VARIABLE_"),
            labels: map("label-"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "who asked for many kills wants to know how many calls they met")]
async fn what_was_acknowledged_under_kills_is_there_exactly_once() {
    let kills = std::env::var("DROVER_KILLS").ok().map_or(USUAL, |text| text.parse().unwrap());
    let mut there = Installation::start(0, 0).await;
    let (acknowledged, mut heard) = watch::channel(0);
    let end = CancellationToken::new();
    let workers = (0..CLIENTS).map(|number| Worker {
        client: there.client(),
        number,
        acknowledged: acknowledged.clone(),
        told: Told::default(),
    });
    let work = join_all(workers.map(|worker| worker.work(&end)));
    let killing = async {
        let mut chance = 7_usize;
        for _ in 0..kills {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let goal = *heard.borrow_and_update() + 1 + (chance >> 33) % 60;
            heard.wait_for(|count| *count >= goal).await.unwrap();
            there.kill_controller();
            there.start_controller().await;
        }
        end.cancel();
    };
    let (told, ()) = tokio::join!(work, killing);
    let count = *acknowledged.borrow();
    everything_is_there_once(&there.client(), told).await;
    println!("{kills} kills, {count} acknowledged calls of {CLIENTS} clients, each there exactly once");
}

async fn everything_is_there_once(client: &Client, told: Vec<Told>) {
    let mut expected = BTreeMap::new();
    let mut changes = BTreeMap::new();
    for one in told {
        expected.extend(one.sessions);
        for (kind, count) in one.changes {
            *changes.entry(kind).or_insert(0) += count;
        }
    }
    let found = client.all().await.unwrap();
    assert_eq!(found.len(), expected.len(), "no session is lost, and none is there twice");
    for session in found {
        let (id, last) = &expected[&session.name];
        assert_eq!(&session.id, id);
        let state = if *last == Last::Removed { State::Cleaned } else { State::Queued };
        let held = *last == Last::Held;
        assert_eq!((session.state(), session.hold.is_some()), (state, held), "{} {last:?}", session.name);
    }
    let happened = client.happened().await.unwrap();
    for (kind, count) in changes {
        assert_eq!(happened.get(kind), Some(&count), "{kind}, each once");
    }
}
