//! Plans: made from a fresh look, shown, said yes to, and followed while they are carried out.

use std::sync::Arc;

use drover_domain::command::Wish;
use drover_domain::finding::Code;
use drover_domain::fleet::{Answer, Fleet};
use drover_domain::id::PlanId;
use drover_domain::plan::{Plan, Purpose};
use drover_domain::time::Timestamp;
use drover_proto::convert::plan::{result, to_wire};
use drover_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::session_reads::Items;
use super::{Call, resolve};
use crate::error::Error;
use crate::plane::Plane;
use crate::upkeep::planning::{self, Scope};

/// News on their way to one who follows a plan.
const NEWS: usize = 16;

pub async fn repair(
    plane: &Plane,
    request: Request<v1::PlanRepairRequest>,
) -> Result<Response<v1::PlanRepairResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "PlanRepair", &asked.request_id, &asked)?;
    let answer = made(plane, call, Purpose::Repair, asked.scope, |plan| v1::PlanRepairResponse { plan });
    answer.await
}

pub async fn cleanup(
    plane: &Plane,
    request: Request<v1::PlanCleanupRequest>,
) -> Result<Response<v1::PlanCleanupResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "PlanCleanup", &asked.request_id, &asked)?;
    let answer = made(plane, call, Purpose::Cleanup, asked.scope, |plan| v1::PlanCleanupResponse { plan });
    answer.await
}

async fn made<M>(
    plane: &Plane,
    call: Call,
    purpose: Purpose,
    scope: Option<v1::PlanScope>,
    wrap: fn(Option<v1::Plan>) -> M,
) -> Result<Response<M>, Status>
where
    M: prost::Message + Default + 'static,
{
    let scope = read(plane, scope.unwrap_or_default()).await?;
    let plan = planning::fresh(plane, purpose, &scope, &call.actor().to_string()).await?;
    let render = move |fleet: &Fleet, answer: &Answer, _: Timestamp| {
        wrap(answer.plan().map(|plan| to_wire(plan, fleet)))
    };
    call.submit(plane, Wish::MakePlan(Box::new(plan)), render).await
}

async fn read(plane: &Plane, asked: v1::PlanScope) -> Result<Scope, Error> {
    let fleet = plane.registry.now().fleet.clone();
    let session = match asked.session.as_str() {
        "" => None,
        // One that nobody knows any more may have left something.
        text => Some(match text.parse() {
            Ok(id) => id,
            Err(_) => resolve::session(&fleet, text, &asked.project)?.id,
        }),
    };
    let node = match asked.node.as_str() {
        "" => None,
        node => Some(resolve::node(&fleet, node)?.id),
    };
    let codes = asked.codes.iter().map(|word| {
        let known = Code::ALL.into_iter().find(|code| code.word() == word);
        known.ok_or_else(|| Error::invalid("scope.codes", format!("'{word}' is no finding's code")))
    });
    Ok(Scope {
        session,
        project: match (asked.project.as_str(), session) {
            ("", _) | (_, Some(_)) => None,
            (project, None) => Some(resolve::project(project)?),
        },
        node,
        repository: (!asked.repository.is_empty()).then_some(asked.repository),
        codes: codes.collect::<Result<_, _>>()?,
        force: asked.force,
    })
}

pub fn get(plane: &Plane, asked: &v1::GetPlanRequest) -> Result<Response<v1::GetPlanResponse>, Status> {
    let fleet = &plane.registry.now().fleet;
    let plan = one(fleet, &asked.plan)?;
    Ok(Response::new(v1::GetPlanResponse { plan: Some(to_wire(&plan, fleet)) }))
}

/// By its id, or a beginning of it that only one has.
fn one(fleet: &Fleet, reference: &str) -> Result<Arc<Plan>, Error> {
    if !reference.starts_with(PlanId::PREFIX) {
        return Err(Error::invalid("plan", "is not the beginning of a plan's id: plan_…"));
    }
    let mut found = fleet.plans().filter(|plan| plan.id.to_string().starts_with(reference));
    match (found.next(), found.next()) {
        (Some(plan), None) => Ok(plan.clone()),
        (Some(_), Some(_)) => Err(Error::invalid("plan", "is the beginning of more than one id")),
        (None, _) => Err(Error::not_found(
            "PLAN_NOT_FOUND",
            format!("there is no plan '{reference}'"),
            "plans are kept for a day; make a new one: droverctl repair, or droverctl cleanup",
        )),
    }
}

pub async fn apply(
    plane: &Plane,
    request: Request<v1::ApplyPlanRequest>,
) -> Result<Response<Items<v1::ApplyPlanResponse>>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "ApplyPlan", &asked.request_id, &asked)?;
    let plan = one(&plane.registry.now().fleet, &asked.plan)?;
    let shown = plan.digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if shown != asked.digest {
        return Err(Error::from(drover_domain::refused::Refused::PlanChanged(plan.id)).into());
    }
    let wish = Wish::ApplyPlan { plan: plan.id, digest: plan.digest, only_safe: asked.only_safe };
    call.submit(plane, wish, |_, _, _| v1::ApplyPlanResponse::default()).await?;
    let (news, stream) = mpsc::channel(NEWS);
    // It is carried out whether somebody follows or not.
    plane.tasks.spawn(follow(plane.clone(), plan.id, news));
    Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
}

/// Tells each result once, in the order in which they come, until nothing is left to be done.
async fn follow(plane: Plane, id: PlanId, news: mpsc::Sender<Result<v1::ApplyPlanResponse, Status>>) {
    let mut revision = plane.registry.revision();
    let mut told = std::collections::BTreeSet::new();
    loop {
        revision.borrow_and_update();
        let published = plane.registry.now();
        let Some(plan) = published.fleet.plan(id) else { return };
        for (number, action) in (1..).zip(&plan.actions) {
            let Some(done) = action.result.as_ref().filter(|_| !told.contains(&number)) else { continue };
            told.insert(number);
            let (result, message) = (result(done.result).into(), done.text.to_string());
            if news.send(Ok(v1::ApplyPlanResponse { action: number, result, message })).await.is_err() {
                return;
            }
        }
        if plan.is_over() {
            return;
        }
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            () = news.closed() => return,
            () = plane.tasks.cancelled() => return,
        }
    }
}
