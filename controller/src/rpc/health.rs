//! How healthy the whole is: what the registry says by itself, what nodes say of themselves, and what the last looks at them
//! showed.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_domain::node::{Node, Standing};
use drover_domain::session::{FaultCode, Session, State};
use drover_proto::convert::plan::finding_to_wire;
use drover_proto::convert::time::stamp;
use drover_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::safe_mode::modes;
use super::session_reads::Items;
use crate::error::Error;
use crate::plane::Plane;
use crate::upkeep::findings::{self, Overview};

/// How long a refused agent is spoken of; it comes again every minute at least.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How often it is seen whether something changed.
const PERIOD: Duration = Duration::from_secs(1);

/// As far as it is known now.
pub async fn now(plane: &Plane) -> Result<v1::GetHealthResponse, Error> {
    let Overview { findings: looked, unknown } = findings::all(plane).await?;
    let published = plane.registry.now();
    let fleet = &published.fleet;
    let nodes = fleet.nodes().filter_map(|node| of_node(node));
    let notes = fleet.nodes().flat_map(|node| of_notes(node));
    let copies = fleet.nodes().filter_map(|node| of_refusal(plane, node));
    let sessions = fleet.sessions().filter_map(|session| of_session(session));
    let looked = looked.iter().map(|finding| finding_to_wire(finding, fleet));
    let findings: Vec<_> =
        of_registry(plane).chain(nodes).chain(notes).chain(copies).chain(sessions).chain(looked).collect();
    let worst = findings.iter().map(v1::Finding::level).max();
    let level = worst.unwrap_or(v1::HealthLevel::Healthy);
    let findings_codes: Vec<String> = findings.iter().map(|finding| finding.code.clone()).collect();
    Ok(v1::GetHealthResponse {
        level: level.into(),
        findings,
        sessions: count(fleet.sessions().map(|session| session.state.kind().word())),
        nodes: count(fleet.nodes().map(|node| node.standing.word())),
        queue_length: u32::try_from(fleet.queue_length()).unwrap_or(u32::MAX),
        unknown,
        codes: count(findings_codes.iter().map(String::as_str)),
        safe_modes: modes(fleet),
    })
}

/// The health, whenever it has changed; the first time at once.
pub fn watch(plane: &Plane) -> Result<Response<Items<v1::WatchHealthResponse>>, Status> {
    let (news, stream) = mpsc::channel(1);
    let plane = plane.clone();
    plane.clone().tasks.spawn(async move {
        let mut told = None;
        loop {
            let health = match now(&plane).await {
                Ok(health) => health,
                Err(error) => return drop(news.send(Err(error.into())).await),
            };
            if told.as_ref() != Some(&health) {
                told = Some(health.clone());
                if news.send(Ok(v1::WatchHealthResponse { health: Some(health) })).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = news.closed() => return,
                () = plane.tasks.cancelled() => return,
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
}

fn of_node(node: &Node) -> Option<v1::Finding> {
    let hint = match node.standing {
        Standing::Joined | Standing::Reachable | Standing::Revoked => return None,
        Standing::Unreachable => "wait for it, or look at its machine and network",
        Standing::Lost => {
            "look at its machine; its sessions wait for it. If it is gone for good: droverctl node revoke"
        }
    };
    Some(v1::Finding {
        code: "NODE_LOST".into(),
        level: v1::HealthLevel::Manual.into(),
        subject: node.name.to_string(),
        message: format!("node '{}' is {}", node.name, node.standing.word()),
        hint: hint.into(),
        time: Some(stamp(node.since)),
        node: node.name.to_string(),
        ..v1::Finding::default()
    })
}

/// What a node's agent said of how it started. It ends with the agent's next start.
fn of_notes(node: &Node) -> impl Iterator<Item = v1::Finding> {
    node.facts.notes.iter().map(|note| v1::Finding {
        code: "LEDGER_REGISTRY_MISMATCH".into(),
        level: v1::HealthLevel::CleanupAvailable.into(),
        subject: node.name.to_string(),
        message: format!("node '{}': {note}", node.name),
        hint: "nothing was deleted; look at its sessions, and at the disk if it was damaged".into(),
        time: Some(stamp(node.since)),
        node: node.name.to_string(),
        ..v1::Finding::default()
    })
}

/// The registry refused to be written when it was last tried, or its file is damaged.
fn of_registry(plane: &Plane) -> impl Iterator<Item = v1::Finding> {
    let finding = |code: &str, message: String, hint: &str| v1::Finding {
        code: code.into(),
        level: v1::HealthLevel::Manual.into(),
        subject: "registry".into(),
        message,
        hint: hint.into(),
        ..v1::Finding::default()
    };
    let unwritten = plane.registry.trouble().map(|why| {
        let message = format!("the last change could not be written: {why}");
        let hint = "look at the disk of the controller; what runs goes on, and nothing new is accepted";
        finding("REGISTRY_NOT_WRITTEN", message, hint)
    });
    let damaged = plane.registry.damage().map(|why| {
        let message = format!("the registry's file is damaged: {why}");
        let hint = "it is still read and written; copy the file away, and look at the disk of the controller";
        finding("REGISTRY_CORRUPT", message, hint)
    });
    unwritten.into_iter().chain(damaged)
}

/// Somebody came with this node's identity who is not the one that is linked, or not up to date; or the registry is not.
fn of_refusal(plane: &Plane, node: &Node) -> Option<v1::Finding> {
    let (age, refusal) =
        plane.links.refusal(node.id, plane.clock.boot()).filter(|(age, _)| *age < REMEMBERED)?;
    Some(v1::Finding {
        code: "LEDGER_REGISTRY_MISMATCH".into(),
        level: v1::HealthLevel::Manual.into(),
        subject: node.name.to_string(),
        message: refusal.why.to_string(),
        evidence: vec![format!("refused {} s ago", age.as_secs())],
        hint: refusal.hint.to_string(),
        node: node.name.to_string(),
        ..v1::Finding::default()
    })
}

fn of_session(session: &Session) -> Option<v1::Finding> {
    let (code, level, message, hint) = match &session.state {
        State::Error { fault, .. } => {
            // One session's fault is its owner's to look at; what does not end, or would lose work, is everybody's.
            let level = match fault.code {
                FaultCode::Stuck | FaultCode::WorkNotSaveable => v1::HealthLevel::Manual,
                _ => v1::HealthLevel::CleanupAvailable,
            };
            let hint = format!("{}; droverctl start tries again, droverctl rm removes it", fault.hint);
            (fault.code.word(), level, format!("{}: {}", fault.step, fault.text), hint)
        }
        State::Orphaned { evidence, .. } => {
            let hint = "it returns with its node; if that was revoked: droverctl rm".to_owned();
            ("NODE_LOST", v1::HealthLevel::Manual, evidence.to_string(), hint)
        }
        State::Queued(_)
        | State::Creating { .. }
        | State::Ready { .. }
        | State::Running { .. }
        | State::Cleaning { .. }
        | State::Cleaned { .. } => return None,
    };
    Some(v1::Finding {
        code: code.into(),
        level: level.into(),
        subject: session.title(),
        message,
        hint,
        time: Some(stamp(session.since)),
        session: session.title(),
        ..v1::Finding::default()
    })
}

fn count<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<String, u32> {
    words.fold(BTreeMap::new(), |mut counts, word| {
        *counts.entry(word.to_owned()).or_default() += 1;
        counts
    })
}
