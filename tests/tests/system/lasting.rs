//! What a session outlives: an agent that is killed again and again beside many runs, and a reboot, played by another
//! boot id and the death of everything that was supervised. `DROVER_ADOPTIONS` says how many sessions and how many
//! kills, as `100x20`.

use drover_proto::v1;
use drover_proto::v1::SessionState as State;
use drover_tests::client::{Client, pid, script};
use drover_tests::gate::Gate;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::programs::is_alive;
use drover_tests::repository::Repository;
use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};

const SESSIONS: usize = 24;
const KILLS: usize = 5;

fn wished() -> (usize, usize) {
    let Ok(text) = std::env::var("DROVER_ADOPTIONS") else { return (SESSIONS, KILLS) };
    let (sessions, kills) = text.split_once('x').expect("SESSIONSxKILLS");
    (sessions.parse().unwrap(), kills.parse().unwrap())
}

async fn answers(client: &Client, number: usize) {
    eventually("the agent answers for the run", || async {
        client.log(&format!("s{number}")).await.ok().filter(|log| log == "begun\n")
    })
    .await;
}

async fn all(client: &Client, sessions: usize) -> Vec<v1::Session> {
    join_all((0..sessions).map(|n| async move { client.until(&format!("s{n}"), State::Running).await })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "who asked for many kills wants to know what they met")]
async fn many_runs_go_on_with_their_processes_however_often_their_agent_is_killed() {
    let (sessions, kills) = wished();
    let mut there = Installation::start(1, u32::try_from(sessions).unwrap()).await;
    let repository = Repository::default();
    let mut gate = Gate::new(&there.path("gate"));
    let client = there.client();
    let text = format!("echo begun; {}", gate.wait());
    for number in 0..sessions {
        client.create(script(&format!("s{number}"), &repository.path, &text)).await.unwrap();
    }
    let before = all(&client, sessions).await;
    for _ in 0..kills {
        there.kill_and_start_agent(0);
        // The new agent answers for every run, which its predecessor started.
        join_all((0..sessions).map(|number| answers(&client, number))).await;
    }
    let after = all(&client, sessions).await;
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(pid(is), pid(was), "{} has the same process", was.name);
        assert!(is_alive(pid(is).unwrap()), "{} lives", was.name);
        assert_eq!((is.runs, is.interruptions), (1, 0), "{} was started once", was.name);
    }
    gate.open();
    for number in 0..sessions {
        let ready = client.until(&format!("s{number}"), State::Ready).await;
        assert_eq!(ready.last_run.unwrap().outcome(), v1::RunOutcome::Succeeded);
    }
    println!("{sessions} runs, {kills} kills of their agent: the same processes, none started again");
}

/// Everything that a machine takes along when it goes down: the agent and whatever runs for it.
fn kill_everything(there: &Installation) {
    for _ in 0..20 {
        for pid in there.ground.processes() {
            let is_of_controller = std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("drover-controll"));
            if !is_of_controller {
                let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if there.ground.processes().len() <= 1 {
            return;
        }
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reboot_runs_are_interrupted_and_go_on_as_their_policy_says() {
    let mut there = Installation::start(1, 8).await;
    let repository = Repository::default();
    let client = there.client();
    let boot = there.path("boot_id");
    std::fs::write(&boot, "11111111-1111-1111-1111-111111111111\n").unwrap();
    let variables = [("DROVER_BOOT_ID_FILE", boot.display().to_string())];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    there.agents[0].take().unwrap().kill();
    there.agents[0] = Some(there.agent(0, 8, &variables));
    there.all_linked().await;

    let gate = Gate::new(&there.path("gate"));
    let text = format!("echo resumed=${{DROVER_RESUMED:-no}} >> said; {}", gate.wait());
    let mut plain = script("again", &repository.path, &text);
    plain.spec.as_mut().unwrap().resume_command =
        ["sh", "-c", &format!("echo with its own command, resumed=$DROVER_RESUMED >> said; {}", gate.wait())]
            .map(str::to_owned)
            .into();
    client.create(plain).await.unwrap();
    let mut never = script("never", &repository.path, &text);
    never.spec.as_mut().unwrap().resume = v1::ResumePolicy::Never.into();
    client.create(never).await.unwrap();
    let before = client.until("again", State::Running).await;
    client.until("never", State::Running).await;

    there.agents[0].take().unwrap().kill();
    kill_everything(&there);
    std::fs::write(&boot, "22222222-2222-2222-2222-222222222222\n").unwrap();
    there.agents[0] = Some(there.agent(0, 8, &variables));

    let ready = client.until("never", State::Ready).await;
    let ended = ready.last_run.unwrap();
    assert_eq!((ended.outcome(), ended.detail.as_str()), (v1::RunOutcome::Interrupted, "reboot"));
    let resumed = eventually("the other one is resumed", || async {
        client
            .get("again")
            .await
            .ok()
            .filter(|session| session.runs == 2 && session.state() == State::Running)
    })
    .await;
    assert_ne!(pid(&resumed), pid(&before));
    assert_eq!((resumed.interruptions, resumed.resumes), (1, true));
    assert_eq!(resumed.last_run.as_ref().unwrap().detail, "reboot");
    let said = std::path::Path::new(&resumed.workspace.as_ref().unwrap().path).join("said");
    let words = eventually("it said so", || async {
        std::fs::read_to_string(&said).ok().filter(|words| words.lines().count() == 2)
    })
    .await;
    assert_eq!(words, "resumed=no\nwith its own command, resumed=1\n");
    assert!(client.happened().await.unwrap().contains_key("run_interrupted"), "an event says so");
    let gone = std::path::Path::new(&resumed.workspace.unwrap().path).to_owned();
    client.stop("again").await.unwrap();
    client.until("again", State::Ready).await;

    // What cannot be resumed says why.
    std::fs::remove_dir_all(&gone).unwrap();
    let start = v1::StartSessionRequest { session: "again".into(), resume: true, ..Default::default() };
    client.sessions().start_session(start).await.unwrap();
    let broken = client.until("again", State::Error).await;
    let fault = broken.fault.unwrap();
    assert_eq!(fault.code, "PATH_GONE");
    assert!(fault.hint.contains("reset --hard"), "{}", fault.hint);
}
