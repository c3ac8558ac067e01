//! Drains: at the deadline of one, what still runs on its node is stopped like anything that a person stops. It takes no
//! input: it is woken, looks, plans, acts, and a wake-up that gets lost costs one period.

use std::time::Duration;

use drover_domain::command::Wish;
use drover_domain::drain;

use crate::plane::Plane;

/// It looks at least this often.
const PERIOD: Duration = Duration::from_secs(10);
/// After a stop that could not be written.
const AGAIN: Duration = Duration::from_millis(200);

/// Stops what is overdue. Says when to look again at the latest.
pub(crate) async fn round(plane: &Plane) -> Duration {
    let (published, now) = plane.view();
    let plan = drain::plan(&published.fleet, now);
    let stops = plan.stops.into_iter().map(|session| plane.wish(Wish::StopForDrain { session }));
    let failed: Vec<_> = futures::future::join_all(stops).await.into_iter().filter_map(Result::err).collect();
    if let Some(error) = failed.first() {
        tracing::warn!("{} runs are not stopped for a drain yet: {}", failed.len(), error.text);
        return AGAIN;
    }
    plan.look_again.map_or(PERIOD, |at| at.since(now).clamp(Duration::from_millis(1), PERIOD))
}
