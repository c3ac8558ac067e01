//! What is not as it should be, as far as is known now: each node's last two looks against the registry, and what nodes
//! say of their disks. Reads only; what cannot be known is said.

use std::collections::HashMap;

use drover_domain::finding::{Code, Finding, Severity};
use drover_domain::id::SessionId;
use drover_domain::node::{Node, Standing};
use drover_domain::reconcile::{self, View};
use drover_domain::session::Session;
use drover_proto::v1;

use super::looks::Seen;
use crate::error::Error;
use crate::plane::Plane;
use crate::rpc::reading;

/// What is known, and what is not.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    pub findings: Vec<Finding>,
    /// In words for a person.
    pub unknown: Vec<String>,
}

/// A look that is older than so many rounds says nothing of now.
const ROUNDS: u32 = 5;
/// Less room than this, and new work has to wait.
const LEAST_FREE_PERCENT: u64 = 5;
const LEAST_INODES: u64 = 5_000;

/// Of all nodes.
pub async fn all(plane: &Plane) -> Result<Overview, Error> {
    let fleet = plane.registry.now().fleet.clone();
    let mut overview = Overview::default();
    for node in fleet.nodes().filter(|node| node.standing == Standing::Reachable) {
        let seen = plane.looks.of(node.id);
        overview.findings.extend(low_disk(plane, node));
        match told(plane, node, &seen) {
            Ok(()) => overview.findings.extend(of_node(plane, node, &seen).await?),
            Err(why) => overview.unknown.push(why),
        }
        let blind = seen.current.iter().flat_map(|inventory| &inventory.blind);
        overview.unknown.extend(blind.map(|blind| {
            let place = blind.place.as_deref().unwrap_or("all of it");
            format!("{}: {} of {place}: {}", node.name, blind.kind.word(), blind.why)
        }));
    }
    Ok(overview)
}

/// Whether the last look says how it is now.
fn told(plane: &Plane, node: &Node, seen: &Seen) -> Result<(), String> {
    let now = plane.clock.boot();
    let why = || seen.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match seen.taken {
        None => Err(format!("{}: it was not looked at since this controller started{}", node.name, why())),
        Some(taken) if now.saturating_sub(taken) > plane.upkeep.every.saturating_mul(ROUNDS) => Err(format!(
            "{}: the last look was {} s ago{}",
            node.name,
            now.saturating_sub(taken).as_secs(),
            why()
        )),
        Some(_) => Ok(()),
    }
}

/// What the last two looks at this node show.
pub async fn of_node(plane: &Plane, node: &Node, seen: &Seen) -> Result<Vec<Finding>, Error> {
    let Some(current) = &seen.current else { return Ok(Vec::new()) };
    let (published, now) = plane.view();
    let fleet = &published.fleet;
    let strangers = current.sessions.keys().filter(|id| fleet.session(**id).is_none()).copied();
    let past = past(plane, strangers.collect()).await?;
    Ok(reconcile::findings(&View {
        fleet,
        node,
        current,
        before: seen.before.as_deref(),
        past: &|id| past.get(&id),
        rules: plane.upkeep.rules,
        now,
    }))
}

/// Sessions that left memory, from history.
pub async fn past(plane: &Plane, ids: Vec<SessionId>) -> Result<HashMap<SessionId, Session>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let history = plane.registry.history().clone();
    reading(plane, move || {
        let mut found = HashMap::new();
        for id in ids {
            found.extend(history.session(id)?.map(|session| (id, session)));
        }
        Ok(found)
    })
    .await
}

pub(super) fn low_disk(plane: &Plane, node: &Node) -> Option<Finding> {
    let load = plane.heard(node).load?;
    scarce(&load).map(|what| Finding {
        code: Code::LowDisk,
        severity: Severity::Required,
        node: Some(node.id),
        session: None,
        title: None,
        repository: None,
        subject: node.name.as_str().into(),
        text: format!("node '{}' is short of {what}", node.name).into(),
        evidence: Vec::new(),
        hint: "droverctl cleanup frees what nobody owns; droverctl trash purge --expired what has expired"
            .into(),
        since: node.since,
        cure: None,
    })
}

fn scarce(load: &v1::NodeLoad) -> Option<String> {
    let percent = load.disk_available_bytes.saturating_mul(100).checked_div(load.disk_total_bytes);
    if let Some(percent) = percent.filter(|percent| *percent < LEAST_FREE_PERCENT) {
        return Some(format!("disk: {percent} % of it is free"));
    }
    // A file system that does not count them says that there are none.
    let is_few = (1..LEAST_INODES).contains(&load.inodes_available);
    is_few.then(|| format!("inodes: {} are free", load.inodes_available))
}
