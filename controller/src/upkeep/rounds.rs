//! Rounds: each node is asked every minute what is there, also as soon as it links. What is found is told in the log, new
//! work is refused where it has to wait, and what can lose nothing is put right, a bounded lot at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use drover_domain::command::Wish;
use drover_domain::finding::{Finding, Key, Severity};
use drover_domain::id::NodeId;
use drover_domain::node::{Node, Standing};
use drover_domain::plan::{Purpose, Risk};

use super::findings;
use super::planning::{self, Scope};
use crate::error::Error;
use crate::plane::Plane;

/// How often it is seen who is due.
const TICK: Duration = Duration::from_secs(1);
/// What is done by itself in one round of a node.
const MOST_ACTIONS: usize = 50;

pub(crate) async fn run(plane: Plane) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK.min(plane.upkeep.every)) => {}
            () = plane.tasks.cancelled() => return,
        }
        let fleet = plane.registry.now().fleet.clone();
        plane.looks.forget(|node| fleet.node(node).is_none());
        for node in fleet.nodes().filter(|node| node.standing == Standing::Reachable) {
            if let Some(full) = due(&plane, node.id) {
                let (plane, node) = (plane.clone(), node.clone());
                plane.clone().tasks.spawn(async move {
                    if let Err(error) = round(&plane, &node, full).await {
                        tracing::warn!(node = %node.name, "a round was not finished: {}", error.text);
                    }
                    plane.looks.with(node.id, |seen| seen.is_looking = false);
                });
            }
        }
    }
}

/// Whether it is time to look at the node, and whether at everything. Takes the turn.
fn due(plane: &Plane, node: NodeId) -> Option<bool> {
    let line = plane.links.line(node)?;
    let now = plane.clock.boot();
    let is_past = |at: Option<Duration>, length| at.is_none_or(|at| now.saturating_sub(at) >= length);
    plane.looks.with(node, |seen| {
        let is_new = seen.line != Some(line);
        if seen.is_looking || !(is_new || is_past(seen.tried, plane.upkeep.every)) {
            return None;
        }
        seen.is_looking = true;
        seen.line = Some(line);
        Some(is_new || is_past(seen.full, plane.upkeep.full))
    })
}

async fn round(plane: &Plane, node: &Arc<Node>, full: bool) -> Result<(), Error> {
    if let Err(status) = plane.looks.take(plane, node.id, full).await {
        tracing::info!(node = %node.name, "it could not be looked at: {}", status.message());
        return Ok(());
    }
    let mut found = findings::of_node(plane, node, &plane.looks.of(node.id)).await?;
    found.extend(findings::low_disk(plane, node));
    tell(plane, node.id, &found).await?;
    guard(plane, node.id, &found).await?;
    if plane.upkeep.apply { put_right(plane, node.id, found, full).await } else { Ok(()) }
}

/// What is new, and what is over, goes into the log.
async fn tell(plane: &Plane, node: NodeId, found: &[Finding]) -> Result<(), Error> {
    let shown = found.iter().filter(|finding| finding.severity > Severity::Info);
    let now: BTreeMap<Key, Finding> = shown.map(|finding| (finding.key(), finding.clone())).collect();
    let before = plane.looks.with(node, |seen| std::mem::replace(&mut seen.told, now.clone()));
    let at = plane.registry.timestamp();
    for finding in now.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(_, finding)| finding) {
        plane.metrics.detected(finding.code, at.since(finding.since));
        plane.wish(Wish::Note { finding: Box::new(finding.clone()), is_over: false }).await?;
    }
    for finding in before.into_iter().filter(|(key, _)| !now.contains_key(key)).map(|(_, finding)| finding) {
        plane.wish(Wish::Note { finding: Box::new(finding), is_over: true }).await?;
    }
    Ok(())
}

/// New work has to wait for what is required, and for as long as too much is gone at once.
async fn guard(plane: &Plane, node: NodeId, found: &[Finding]) -> Result<(), Error> {
    let is_grave = |finding: &&Finding| {
        let is_brake =
            finding.severity == Severity::Manual && finding.cure.is_none() && !finding.code.is_of_remains();
        finding.severity == Severity::Required || is_brake
    };
    let gravest = found.iter().find(is_grave);
    let reason =
        gravest.map_or_else(String::new, |finding| format!("{}: {}", finding.code.word(), finding.text));
    let on = gravest.is_some();
    plane
        .wish(Wish::SetSafeMode { node: Some(node), on, reason: reason.into(), automatic: true })
        .await
        .map(drop)
}

/// Plans what can lose nothing, and says yes to it. What was begun before comes first.
async fn put_right(plane: &Plane, node: NodeId, found: Vec<Finding>, full: bool) -> Result<(), Error> {
    let fleet = plane.registry.now().fleet.clone();
    let is_at_it = fleet.plans().any(|plan| {
        plan.applied.is_some() && plan.open().any(|(_, action)| action.finding.node == Some(node))
    });
    if is_at_it {
        return Ok(());
    }
    let is_meant = |finding: &Finding| {
        let is_ripe = finding.severity == Severity::Available || (full && finding.severity == Severity::Info);
        is_ripe && finding.cure.is_some()
    };
    let found: Vec<Finding> = found.into_iter().filter(is_meant).collect();
    let found = not_tried(plane, node, found);
    for purpose in [Purpose::Repair, Purpose::Cleanup] {
        let plan = planning::of(plane, purpose, &Scope::default(), found.clone(), "controller").await?;
        plan.kept.iter().for_each(|kept| plane.metrics.kept(kept.code));
        let safe = plan.actions.iter().filter(|action| action.risk == Risk::Safe);
        let keys: Vec<Key> = safe.map(|action| action.finding.key()).collect();
        if !keys.is_empty() {
            tried(plane, node, keys);
            let (id, digest) = (plan.id, plan.digest);
            plane.wish(Wish::MakePlan(Box::new(plan))).await?;
            plane.wish(Wish::ApplyPlan { plan: id, digest, only_safe: true }).await?;
        }
    }
    Ok(())
}

/// What does not go away is tried less and less often.
fn not_tried(plane: &Plane, node: NodeId, mut found: Vec<Finding>) -> Vec<Finding> {
    let now = plane.clock.boot();
    plane.looks.with(node, |seen| {
        let keys: BTreeSet<Key> = found.iter().map(Finding::key).collect();
        seen.attempts.retain(|key, _| keys.contains(key));
        let is_due = |(count, last): &(u32, Duration)| now.saturating_sub(*last) >= pause(*count);
        found.retain(|finding| seen.attempts.get(&finding.key()).is_none_or(is_due));
    });
    found.truncate(MOST_ACTIONS);
    found
}

fn tried(plane: &Plane, node: NodeId, keys: Vec<Key>) {
    let now = plane.clock.boot();
    plane.looks.with(node, |seen| {
        for key in keys {
            let attempts = seen.attempts.entry(key).or_default();
            *attempts = (attempts.0.saturating_add(1), now);
        }
    });
}

/// After so many attempts: one minute, two, four, to a day.
fn pause(attempts: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    Duration::from_secs(60).saturating_mul(1 << attempts.saturating_sub(1).min(12)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_away_is_tried_less_and_less_often() {
        let minutes: Vec<u64> = [1, 2, 3, 11, 12, 40].map(|count| pause(count).as_secs() / 60).into();
        assert_eq!(minutes, [1, 2, 4, 1024, 1440, 1440]);
    }
}
