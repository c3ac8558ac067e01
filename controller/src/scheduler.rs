//! The scheduler: looks at the queue, plans, and submits each move. It takes no input: it is woken, looks, plans, acts,
//! and a wake-up that gets lost costs one period.

use std::time::Duration;

use drover_domain::command::Wish;
use drover_domain::id::RunId;
use drover_domain::placement::{self, Move};

use crate::plane::Plane;
use crate::random;

/// It looks at least this often.
const PERIOD: Duration = Duration::from_secs(10);

/// Plans and submits until nothing can be moved. Says when to look again at the latest.
pub(crate) async fn round(plane: &Plane) -> Duration {
    loop {
        let (published, now) = plane.view();
        let plan = placement::plan(&published.fleet, now);
        if plan.moves.is_empty() && plan.expired.is_empty() {
            return plan
                .look_again
                .map_or(PERIOD, |at| at.since(now).clamp(Duration::from_millis(1), PERIOD));
        }
        let moves = plan.moves.into_iter().map(|step| {
            let run = RunId::from_random(random::bytes());
            match step {
                Move::Place(session, node) => Wish::Place { session, node, run },
                Move::Grant(session) => Wish::Grant { session, run },
            }
        });
        let wishes = moves.chain(plan.expired.into_iter().map(|session| Wish::ExpireQueue { session }));
        let submitted = futures::future::join_all(wishes.map(|wish| plane.wish(wish))).await;
        let failed = submitted.into_iter().filter_map(Result::err).collect::<Vec<_>>();
        if let Some(error) = failed.first() {
            // Mostly a session that was stopped or deleted meanwhile: the next look sees it.
            tracing::debug!("{} moves were not made: {}", failed.len(), error.text);
            return Duration::from_millis(200);
        }
    }
}
