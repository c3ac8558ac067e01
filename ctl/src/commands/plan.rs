//! `droverctl repair`, `cleanup` and `plan`: a plan is made from a fresh look and shown; with a yes it is carried out as it
//! was shown, and each result is said as it comes.

use drover_proto::v1::{
    ActionResult, ActionRisk, ApplyPlanRequest, GetPlanRequest, Plan, PlanCleanupRequest, PlanRepairRequest,
    PlanScope,
};

use super::{Invocation, present};
use crate::cli::{CleanupArgs, HowArgs, PlanApply, PlanCommand, PlanName, RepairArgs, ScopeArgs};
use crate::client::{Api, Client, NODE_WORK, requests};
use crate::error::{Exit, Failure};
use crate::output::View;
use crate::output::sanitise::line;
use crate::output::times::count;
use crate::progress::Progress;
use crate::prompt;

pub async fn repair(invocation: &Invocation, args: RepairArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = PlanRepairRequest {
        request_id: requests::id(&args.how.change),
        scope: Some(scope(invocation, args.scope, args.how.force)?),
    };
    let call = |mut api: Api, request| async move { api.maintenance.plan_repair(request).await };
    let made = looking(invocation, client.call_within(NODE_WORK, request, call)).await?;
    decide(invocation, &client, present(made.plan, "plan")?, &args.how, false).await
}

pub async fn cleanup(invocation: &Invocation, args: CleanupArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let request = PlanCleanupRequest {
        request_id: requests::id(&args.how.change),
        scope: Some(scope(invocation, args.scope, args.how.force)?),
    };
    let call = |mut api: Api, request| async move { api.maintenance.plan_cleanup(request).await };
    let made = looking(invocation, client.call_within(NODE_WORK, request, call)).await?;
    decide(invocation, &client, present(made.plan, "plan")?, &args.how, args.auto).await
}

/// Says what is waited for, while it is.
async fn looking<T>(invocation: &Invocation, look: impl Future<Output = T>) -> T {
    let progress = Progress::new(&invocation.out);
    progress.say("looking at the nodes, twice");
    look.await
}

pub async fn plan(invocation: &Invocation, command: PlanCommand) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    match command {
        PlanCommand::Show(PlanName { plan }) => {
            invocation.out.data(&get(&client, plan).await?)?;
            Ok(0)
        }
        PlanCommand::Apply(PlanApply { plan, yes, change }) => {
            let plan = get(&client, plan).await?;
            let how = HowArgs { yes, change, ..HowArgs::default() };
            decide(invocation, &client, plan, &how, false).await
        }
    }
}

fn scope(invocation: &Invocation, args: ScopeArgs, force: bool) -> Result<PlanScope, Failure> {
    let repository = args.repo.map(|path| match std::path::absolute(&path) {
        Ok(absolute) => absolute.canonicalize().unwrap_or(absolute).to_string_lossy().into_owned(),
        Err(_) => path,
    });
    Ok(PlanScope {
        session: args.session.unwrap_or_default(),
        project: invocation.project()?,
        node: args.node.unwrap_or_default(),
        repository: repository.unwrap_or_default(),
        codes: args.codes,
        force,
    })
}

async fn get(client: &Client, plan: String) -> Result<Plan, Failure> {
    let call = |mut api: Api, request| async move { api.maintenance.get_plan(request).await };
    present(client.call(GetPlanRequest { plan }, call).await?.plan, "plan")
}

/// Shows the plan, and has it carried out if somebody says yes.
async fn decide(
    invocation: &Invocation,
    client: &Client,
    plan: Plan,
    how: &HowArgs,
    only_safe: bool,
) -> Result<u8, Failure> {
    let out = &invocation.out;
    let is_meant = |risk: ActionRisk| !only_safe || risk == ActionRisk::Safe;
    let open = plan
        .actions
        .iter()
        .filter(|action| action.result() == ActionResult::Unspecified && is_meant(action.risk()));
    let open = open.count() as u64;
    if how.dry_run || open == 0 {
        out.data(&plan)?;
        return Ok(0);
    }
    if !only_safe && !how.yes {
        out.note(plan.show(&out.look()));
        if !is_agreed(invocation, &plan, open).await? {
            out.note(format!("nothing was done; within an hour: droverctl plan apply {}", line(&plan.id)));
            return Ok(0);
        }
    }
    apply(invocation, client, plan, only_safe).await
}

async fn is_agreed(invocation: &Invocation, plan: &Plan, open: u64) -> Result<bool, Failure> {
    let what = count(open, "action", "actions");
    if invocation.out.can_ask() {
        return prompt::confirm(&format!("Carry out {what}?")).await;
    }
    Err(Failure::new(Exit::Conflict, format!("{what} would be carried out"))
        .why("there is no terminal to ask on")
        .next("--yes carries them out, --dry-run only shows them")
        .next(format!("droverctl plan apply {} --yes carries out just what was shown", line(&plan.id))))
}

/// Says each result as it comes. A stream that breaks ends nothing: the plan is carried out all the same.
async fn apply(invocation: &Invocation, client: &Client, plan: Plan, only_safe: bool) -> Result<u8, Failure> {
    let out = &invocation.out;
    let request = ApplyPlanRequest {
        request_id: requests::id(&Default::default()),
        plan: plan.id.clone(),
        digest: plan.digest.clone(),
        only_safe,
    };
    let progress = Progress::new(out);
    progress.say(&format!("carrying out {}", plan.id));
    let call = |mut api: Api, request| async move { api.maintenance.apply_plan(request).await };
    let mut news = client.open(request, call).await?;
    let mut failed = 0;
    loop {
        let done = match news.message().await {
            Ok(Some(done)) => done,
            Ok(None) => break,
            Err(status) => {
                let next =
                    format!("it goes on all the same: droverctl plan show {} tells how far it is", plan.id);
                return Err(client.failure(&status).next(next));
            }
        };
        let at = usize::try_from(done.action).unwrap_or(0).saturating_sub(1);
        let what = plan.actions.get(at).map(|action| action.what.as_str()).unwrap_or_default();
        let word = match done.result() {
            ActionResult::Done => "done",
            ActionResult::Skipped => "skipped",
            ActionResult::Failed => {
                failed += 1;
                "FAILED"
            }
            ActionResult::Started | ActionResult::Unspecified => continue,
        };
        out.note(format!("{word}: {} ({})", line(what), line(&done.message)));
    }
    drop(progress);
    out.result(&get(client, plan.id).await?)?;
    Ok(if failed > 0 { Exit::Failed.code() } else { 0 })
}
