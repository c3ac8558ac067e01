//! Telling somebody: what appears, gets worse or cannot be mended is sent to one place, a webhook or a command. It follows
//! the log from where it last was, gathers for a moment, and tries again for as long as it takes; nothing waits for it.

mod send;

use std::io;
use std::path::Path;
use std::time::Duration;

use drover_daemon::atomic;
use drover_domain::change::Kind;
use drover_domain::command::Wish;
use drover_domain::retry::Backoff;
use serde_json::{Value, json};

pub use send::{Sink, Webhook};

use crate::plane::Plane;
use crate::random;
use crate::rpc::reading;
use crate::store::{Change, Position};

/// Where it was last, below the data directory.
const FILE: &str = "notified";
/// What is told at once.
const MOST: usize = 200;
/// What one look into the log reads.
const LOOKED_AT: usize = 5_000;
const AGAIN: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(300) };

/// What is worth somebody's time.
const KINDS: [Kind; 7] = [
    Kind::FindingAppeared,
    Kind::FindingEnded,
    Kind::SafeModeOn,
    Kind::SafeModeOff,
    Kind::NodeStanding,
    Kind::RunInterrupted,
    Kind::SessionFaulted,
];

/// Whom, and how long to gather before.
#[derive(Clone, Debug)]
pub struct Settings {
    pub sink: Sink,
    pub gather: Duration,
}

pub(crate) async fn run(plane: Plane, settings: Settings) {
    let path = plane.data_dir.join(FILE);
    let mut seen = match begin(&path, plane.registry.now().fleet.revision()) {
        Ok(seen) => seen,
        Err(error) => {
            tracing::error!(path = %path.display(), "nobody is told of anything: {error}");
            return;
        }
    };
    let mut revision = plane.registry.revision();
    loop {
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            () = plane.tasks.cancelled() => return,
        }
        // What belongs together comes together.
        tokio::select! {
            () = tokio::time::sleep(settings.gather) => {}
            () = plane.tasks.cancelled() => return,
        }
        revision.borrow_and_update();
        while let Some((news, upto)) = news(&plane, seen).await {
            if !news.is_empty() && !tell(&plane, &settings.sink, &news).await {
                return;
            }
            seen = upto;
            if let Err(error) = atomic::write(&path, seen.to_string().as_bytes(), 0o600) {
                tracing::error!(path = %path.display(), "what was told may be told again: {error}");
            }
        }
    }
}

/// Where to go on; the first time from now on.
fn begin(path: &Path, now: u64) -> io::Result<u64> {
    match std::fs::read_to_string(path) {
        // A registry that was put back has not come that far yet.
        Ok(text) => Ok(text.trim().parse().map_or(now, |seen: u64| seen.min(now))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            atomic::write(path, now.to_string().as_bytes(), 0o600)?;
            Ok(now)
        }
        Err(error) => Err(error),
    }
}

/// What happened after `seen` that is worth telling, and up to where that is. `None`: nothing happened at all.
async fn news(plane: &Plane, seen: u64) -> Option<(Vec<Change>, u64)> {
    let history = plane.registry.history().clone();
    let position = Position { after: seen, before: None, most: LOOKED_AT };
    let rows = match reading(plane, move || history.changes(None, position)).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!("the log cannot be read: {}", error.text);
            return None;
        }
    };
    let mut upto = rows.last()?.revision;
    let is_meant = |row: &Change| KINDS.iter().any(|kind| kind.word() == row.kind);
    let mut told: Vec<Change> = rows.into_iter().filter(is_meant).collect();
    if told.len() > MOST {
        told.truncate(MOST);
        upto = told.last().map_or(upto, |row| row.revision);
    }
    Some((told, upto))
}

/// Until it has arrived. False: the controller is shutting down, and it is told after the next start.
async fn tell(plane: &Plane, sink: &Sink, news: &[Change]) -> bool {
    let body = message(plane, news);
    for attempt in 0.. {
        let sent = tokio::select! {
            sent = sink.send(&body) => sent,
            () = plane.tasks.cancelled() => return false,
        };
        plane.metrics.notified(sent.is_ok());
        let Err(why) = sent else {
            record(plane, format!("{} events told to {}", news.len(), sink.place())).await;
            return true;
        };
        tracing::warn!("{} was not told: {why}", sink.place());
        if attempt == 0 {
            record(plane, format!("{} cannot be told, and is tried again: {why}", sink.place())).await;
        }
        let byte = random::bytes::<1>()[0];
        tokio::select! {
            () = tokio::time::sleep(AGAIN.delay(attempt, byte)) => {}
            () = plane.tasks.cancelled() => return false,
        }
    }
    true
}

async fn record(plane: &Plane, text: String) {
    if let Err(error) = plane.wish(Wish::Notified { text: text.into() }).await {
        tracing::warn!("a notification was not recorded: {}", error.text);
    }
}

fn message(plane: &Plane, news: &[Change]) -> Vec<u8> {
    let fleet = &plane.registry.now().fleet;
    let events: Vec<Value> = news
        .iter()
        .map(|row| {
            let event = crate::watch::events::render(fleet, row);
            let node = row.node.and_then(|node| fleet.node(node)).map(|node| node.name.to_string());
            json!({
                "revision": event.revision,
                "time_millis": row.at.millis(),
                "kind": event.kind,
                "session": event.session,
                "project": event.project,
                "node": node.unwrap_or_default(),
                "message": event.message,
            })
        })
        .collect();
    let lines: Vec<String> = events
        .iter()
        .map(|event| {
            format!(
                "{} {}",
                event["kind"].as_str().unwrap_or_default(),
                event["message"].as_str().unwrap_or_default()
            )
        })
        .collect();
    json!({
        "installation": fleet.installation().to_string(),
        // The same delivery, told again, has the same id.
        "id": news.last().map(|row| format!("{}-{}", fleet.installation().short(), row.revision)),
        "text": lines.join("\n"),
        "events": events,
    })
    .to_string()
    .into_bytes()
}
