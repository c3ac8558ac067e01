//! Plans that were said yes to, carried out: each action's precondition is looked at again right before it, what became of
//! it is committed, and a plan that was cut short goes on where it was. Nodes work beside each other, and each in order.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_domain::command::Wish;
use drover_domain::finding::{Cure, Finding};
use drover_domain::id::{NodeId, PlanId, SessionId};
use drover_domain::plan::{Action, Outcome, Plan, Purpose, Risk};
use drover_domain::session::{Removal, State, StateKind};
use drover_proto::node_v1::DeedResult;
use futures::future::join_all;
use tonic::Code;

use super::{ask, findings};
use crate::plane::Plane;
use crate::rpc::reading;
use crate::store::backup;

const PERIOD: Duration = Duration::from_secs(1);
/// How long a node that cannot be asked is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a session may take to get where it was told to.
const SETTLES: Duration = Duration::from_secs(120);
/// Copies of the registry from before risky plans.
const COPIES: usize = 10;

/// What became of an action, and words for it.
type Told = (Outcome, String);

pub(crate) async fn run(plane: Plane) {
    let at_it: Arc<Mutex<HashSet<PlanId>>> = Arc::default();
    let mut revision = plane.registry.revision();
    loop {
        revision.borrow_and_update();
        let fleet = plane.registry.now().fleet.clone();
        for plan in fleet.plans().filter(|plan| plan.applied.is_some() && !plan.is_over()) {
            if !at_it.lock().unwrap_or_else(PoisonError::into_inner).insert(plan.id) {
                continue;
            }
            let (plane, plan, at_it) = (plane.clone(), plan.clone(), at_it.clone());
            plane.clone().tasks.spawn(async move {
                tokio::select! { () = carry_out(&plane, &plan) => {}, () = plane.tasks.cancelled() => {} }
                at_it.lock().unwrap_or_else(PoisonError::into_inner).remove(&plan.id);
            });
        }
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PERIOD) => {}
            () = plane.tasks.cancelled() => return,
        }
    }
}

async fn carry_out(plane: &Plane, plan: &Plan) {
    let copy = match copy(plane, plan).await {
        Ok(copy) => copy,
        Err(why) => {
            // Nothing risky without it; what is safe needs none.
            for (number, _) in plan.open().filter(|(_, action)| action.risk != Risk::Safe) {
                finish(
                    plane,
                    plan,
                    number,
                    (Outcome::Failed, format!("the registry could not be backed up: {why}")),
                )
                .await;
            }
            None
        }
    };
    let mut by_node: BTreeMap<Option<NodeId>, Vec<(u32, &Action)>> = BTreeMap::new();
    let now = plane.registry.now();
    let current = now.fleet.plan(plan.id).cloned();
    for (number, action) in current.iter().flat_map(|plan| plan.open()) {
        by_node.entry(action.finding.node).or_default().push((number, action));
    }
    let copy = &copy;
    let nodes = by_node.iter().map(|(node, actions)| async move {
        for (number, action) in actions {
            let (outcome, mut text) = carry(plane, action).await;
            if let (Some(copy), true) = (copy, action.risk != Risk::Safe) {
                text.push_str(&format!("; the registry from before is kept in {copy}"));
            }
            finish(plane, plan, *number, (outcome, text)).await;
        }
        if let Some(node) = node {
            // What is shown next is how it is now.
            if let Err(status) = plane.looks.take(plane, *node, false).await {
                tracing::debug!(%node, "not looked at: {}", status.message());
            }
        }
    });
    join_all(nodes).await;
}

/// The registry as it is before something risky.
async fn copy(plane: &Plane, plan: &Plan) -> Result<Option<String>, String> {
    if !plan.open().any(|(_, action)| action.risk != Risk::Safe) {
        return Ok(None);
    }
    let (source, name) = (plane.registry.history().path().to_owned(), format!("plan-{}", plan.id));
    let directory = plane.data_dir.join(backup::DIRECTORY);
    let made = reading(plane, move || {
        let made = backup::create(&source, &directory, &name)?;
        backup::prune(&directory, "plan-", COPIES)?;
        Ok(made)
    });
    made.await.map(|made| Some(made.display().to_string())).map_err(|error| error.text)
}

async fn finish(plane: &Plane, plan: &Plan, number: u32, (result, text): Told) {
    let place = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    if let Some(action) = plan.actions.get(place) {
        plane.metrics.acted(plan.purpose == Purpose::Repair, action.finding.code, result);
    }
    let wish = Wish::FinishAction { plan: plan.id, number, result, text: text.into() };
    if let Err(error) = plane.wish(wish).await {
        // It is carried out again, and finds that nothing is left to do.
        tracing::warn!(plan = %plan.id, number, "what became of an action could not be written: {}", error.text);
    }
}

/// Does it, again while its node cannot be asked.
async fn carry(plane: &Plane, action: &Action) -> Told {
    let began = plane.clock.boot();
    loop {
        match attempt(plane, action).await {
            Ok(told) => return told,
            Err(status) => {
                let is_away = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
                if !is_away || plane.clock.boot().saturating_sub(began) >= PATIENCE {
                    return (Outcome::Failed, status.message().to_owned());
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Does it, if a new look at its node shows that it is still so.
async fn attempt(plane: &Plane, action: &Action) -> Result<Told, tonic::Status> {
    let skipped = |why: &str| Ok((Outcome::Skipped, why.to_owned()));
    let Some(node) = action.finding.node else { return skipped("it is on no node any more") };
    plane.looks.take(plane, node, false).await?;
    let fleet = plane.registry.now().fleet.clone();
    let Some(node) = fleet.node(node).cloned() else { return skipped("its node was removed") };
    let found = findings::of_node(plane, &node, &plane.looks.of(node.id)).await?;
    let is_same = |finding: &Finding| {
        finding.key() == action.finding.key()
            && finding.cure.as_ref().is_some_and(|cure| is_like(cure, &action.cure))
    };
    if !found.iter().any(is_same) {
        return skipped("it is no longer so");
    }
    match &action.cure {
        Cure::Stop(id) | Cure::Retry(id) | Cure::Remove(id) => of_session(plane, &action.cure, *id).await,
        Cure::Tell(_) | Cure::EndProcesses(..) | Cure::Clear(_) | Cure::MoveLock(_) => {
            of_node(plane, node.id, action).await
        }
    }
}

/// Whether it is the same deed at the same thing. Which processes are left, and how old a lock has grown, the node sees.
fn is_like(now: &Cure, planned: &Cure) -> bool {
    match (now, planned) {
        (Cure::EndProcesses(now, _), Cure::EndProcesses(planned, _)) => now == planned,
        (Cure::MoveLock(now), Cure::MoveLock(planned)) => now.stamp == planned.stamp,
        (now, planned) => now == planned,
    }
}

/// Something that the registry wishes.
async fn of_session(plane: &Plane, cure: &Cure, id: SessionId) -> Result<Told, tonic::Status> {
    match cure {
        Cure::Stop(_) => {
            plane.wish(Wish::StopSession { session: id, grace: Some(Duration::ZERO) }).await?;
            let is_so = |state: &State| state.kind() != StateKind::Running;
            Ok(settled(plane, id, "it is ready", is_so).await)
        }
        Cure::Remove(_) => {
            plane.wish(Wish::DeleteSession { session: id, removal: Removal::default() }).await?;
            let is_so = |state: &State| matches!(state, State::Cleaned { .. } | State::Error { .. });
            Ok(settled(plane, id, "it is removed", is_so).await)
        }
        _ => {
            plane.wish(Wish::RetrySession { session: id }).await?;
            Ok((Outcome::Done, "its node tries again".into()))
        }
    }
}

/// Waits until the session is where it was told to be.
async fn settled(plane: &Plane, id: SessionId, done: &str, is_so: impl Fn(&State) -> bool) -> Told {
    let mut revision = plane.registry.revision();
    let waited = tokio::time::timeout(SETTLES, async {
        loop {
            revision.borrow_and_update();
            match plane.registry.now().fleet.session(id).map(|session| session.state.clone()) {
                Some(State::Error { fault, .. }) => return (Outcome::Failed, fault.text.to_string()),
                Some(state) if !is_so(&state) => {}
                Some(_) | None => return (Outcome::Done, done.to_owned()),
            }
            if revision.changed().await.is_err() {
                return (Outcome::Failed, "the controller is shutting down".to_owned());
            }
        }
    });
    let late = || (Outcome::Failed, format!("its node did not confirm within {} s", SETTLES.as_secs()));
    waited.await.unwrap_or_else(|_| late())
}

/// Something that a node does: it looks again itself, right before.
async fn of_node(plane: &Plane, node: NodeId, action: &Action) -> Result<Told, tonic::Status> {
    let deed = ask::act(plane, node, &action.cure, &action.stamp).await?;
    let mut text = deed.text.clone();
    for more in [&deed.kept, &deed.saved] {
        if !more.is_empty() {
            text = format!("{text}; {}", more.join("; "));
        }
    }
    let outcome = match deed.result() {
        DeedResult::Done | DeedResult::Nothing => Outcome::Done,
        DeedResult::Changed => Outcome::Skipped,
        DeedResult::Failed | DeedResult::Unspecified => Outcome::Failed,
    };
    Ok((outcome, text))
}
