//! What leaves memory: cleaned sessions after a while, join tokens that are no good any more, and old plans. History keeps
//! what happened.

use std::time::Duration;

use drover_domain::command::Wish;
use drover_domain::plan::Plan;
use drover_domain::session::State;

use crate::plane::Plane;

const PERIOD: Duration = Duration::from_secs(30);
/// How long a cleaned session stays in memory.
const CLEANED: Duration = Duration::from_secs(3600);
/// How long a join token is still listed after it is no good any more.
const TOKENS: Duration = Duration::from_secs(24 * 3600);
/// How long a plan can still be read after it can no longer be applied.
const PLANS: Duration = Duration::from_secs(24 * 3600);
const AT_ONCE: usize = 256;

pub(crate) async fn run(plane: Plane) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = plane.tasks.cancelled() => return,
        }
        let (published, now) = plane.view();
        let is_old =
            |state: &State, since| matches!(state, State::Cleaned { .. }) && now.since(since) > CLEANED;
        let sessions = published.fleet.sessions().filter(|session| is_old(&session.state, session.since));
        let sessions = sessions.map(|session| Wish::Forget { session: session.id });
        let tokens = published.fleet.tokens().filter(|token| now.since(token.expires) > TOKENS);
        let tokens = tokens.map(|token| Wish::ForgetToken { id: token.id });
        let is_done_with = |plan: &Plan| {
            // What the controller planned by itself nobody asks for later: the log tells what became of it.
            let kept = if &*plan.by == "controller" { Duration::ZERO } else { PLANS };
            now.since(plan.expires) > kept && (plan.applied.is_none() || plan.is_over())
        };
        let plans = published.fleet.plans().filter(|plan| is_done_with(plan));
        let plans = plans.map(|plan| Wish::ForgetPlan { plan: plan.id });
        for wish in sessions.chain(tokens).chain(plans).take(AT_ONCE) {
            if let Err(error) = plane.wish(wish).await {
                tracing::debug!("something could not be forgotten yet: {}", error.text);
            }
        }
    }
}
