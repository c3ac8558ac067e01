//! Leases: what a node's silence means, looked at every second. Only durations count, on the boot clock. When most of
//! the nodes fall silent at once it is more likely the network or this machine: then none is given up.

use std::time::Duration;

use drover_domain::command::Wish;
use drover_domain::id::NodeId;
use drover_domain::lease::{Silence, Terms};
use drover_domain::node::Standing;

use crate::plane::Plane;

const PERIOD: Duration = Duration::from_secs(1);

pub(crate) async fn run(plane: Plane) {
    let started = plane.clock.boot();
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD.min(plane.terms.heartbeat)) => {}
            () = plane.tasks.cancelled() => return,
        }
        let now = plane.clock.boot();
        let up = now.saturating_sub(started);
        let published = plane.registry.now();
        let silent: Vec<_> = published
            .fleet
            .nodes()
            .filter(|node| matches!(node.standing, Standing::Reachable | Standing::Unreachable))
            // One that was not heard since the start has been silent since the start, as far as anybody knows.
            .map(|node| (node.id, node.standing, plane.links.silence(node.id, now).unwrap_or(up)))
            .collect();
        for (node, standing) in verdicts(&plane.terms, up, &silent) {
            tracing::warn!(%node, "is {}", standing.word());
            if let Err(error) = plane.wish(Wish::SetStanding { node, standing }).await {
                tracing::warn!(%node, "its standing could not be changed: {}", error.text);
            }
        }
    }
}

/// Which nodes stand differently now. One that is heard again says so itself, by linking.
fn verdicts(terms: &Terms, up: Duration, silent: &[(NodeId, Standing, Duration)]) -> Vec<(NodeId, Standing)> {
    let judged: Vec<_> = silent
        .iter()
        .map(|(id, standing, length)| (*id, *standing, terms.silence_since_start(*length, up)))
        .collect();
    let lost = judged.iter().filter(|(_, _, silence)| *silence == Silence::Lost).count();
    let is_mass = judged.len() > 2 && lost * 2 > judged.len();
    if is_mass {
        tracing::error!("{lost} of {} nodes are silent at once: none is given up", judged.len());
    }
    let verdict = |silence: Silence| match silence {
        Silence::Heard => Standing::Reachable,
        Silence::Lost if !is_mass => Standing::Lost,
        Silence::Unreachable | Silence::Lost => Standing::Unreachable,
    };
    judged
        .into_iter()
        .map(|(id, before, silence)| (id, before, verdict(silence)))
        .filter(|(_, before, after)| before != after)
        .map(|(id, _, after)| (id, after))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8, silent: u64) -> (NodeId, Standing, Duration) {
        (NodeId::from_random([number; 10]), Standing::Reachable, Duration::from_secs(silent))
    }

    const UP: Duration = Duration::from_secs(100_000);

    #[test]
    fn a_silent_node_is_unreachable_and_then_lost() {
        let found = verdicts(&Terms::DEFAULT, UP, &[node(1, 5), node(2, 60), node(3, 200), node(4, 1)]);
        let words: Vec<_> = found.iter().map(|(_, standing)| standing.word()).collect();
        assert_eq!(words, ["unreachable", "lost"]);
    }

    #[test]
    fn when_most_are_silent_at_once_none_is_given_up() {
        let found = verdicts(&Terms::DEFAULT, UP, &[node(1, 200), node(2, 200), node(3, 200), node(4, 1)]);
        assert!(found.iter().all(|(_, standing)| *standing == Standing::Unreachable), "{found:?}");
    }

    #[test]
    fn a_controller_that_has_just_started_gives_up_nobody() {
        let found =
            verdicts(&Terms::DEFAULT, Duration::from_secs(200), &[node(1, 200), node(2, 1), node(3, 1)]);
        assert_eq!(found[0].1, Standing::Unreachable);
    }
}
