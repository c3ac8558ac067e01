//! Telling somebody: each thing once, in order, also after a restart and a sink that failed for a while.

use std::path::Path;
use std::time::Duration;

use drover_controller::config::Config;
use drover_controller::notify::{Settings, Sink};
use drover_proto::v1;

use crate::harness::{controller_with, maintenance};

/// Appends each message to a file, once there is a file that lets it.
fn into(directory: &Path) -> impl FnOnce(&mut Config) {
    let (told, door) = (directory.join("told"), directory.join("door"));
    let script = format!("[ -e {} ] && cat >> {} && echo >> {1}", door.display(), told.display());
    move |config: &mut Config| {
        let sink = Sink::Command(vec!["sh".into(), "-c".into(), script]);
        config.notify = Some(Settings { sink, gather: Duration::from_millis(20) });
    }
}

async fn safe_mode(running: &drover_controller::app::Running, reason: &str) {
    let on = !reason.is_empty();
    let ask = v1::SetSafeModeRequest { on, reason: reason.into(), ..Default::default() };
    maintenance(running).await.set_safe_mode(ask).await.unwrap();
}

fn told(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("told")).unwrap_or_default()
}

/// Waits until all of this was told.
async fn eventually(directory: &Path, words: &[&str]) {
    let wait = async {
        while !words.iter().all(|word| told(directory).contains(word)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(waited.is_ok(), "{words:?} are not in {}", told(directory));
}

#[tokio::test]
async fn somebody_is_told_each_thing_once_also_after_a_failure_and_a_restart() {
    let (data, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let running = controller_with(data.path(), into(beside.path())).await;
    safe_mode(&running, "first reason").await;
    // The sink refuses: the controller goes on, and goes down, all the same.
    assert!(running.shutdown().await);
    assert_eq!(told(beside.path()), "");
    std::fs::write(beside.path().join("door"), "").unwrap();
    let running = controller_with(data.path(), into(beside.path())).await;
    safe_mode(&running, "second reason").await;
    eventually(beside.path(), &["first reason", "second reason"]).await;
    safe_mode(&running, "").await;
    eventually(beside.path(), &["safe_mode_off"]).await;
    let all = told(beside.path());
    assert_eq!(all.matches("\"message\":\"first reason\"").count(), 1, "{all}");
    assert_eq!(all.matches("\"message\":\"second reason\"").count(), 1, "{all}");
    assert!(running.shutdown().await);
}
