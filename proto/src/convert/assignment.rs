//! What a node should be doing for one session.

use std::sync::Arc;

use drover_domain::converge::{Assignment, Target};
use drover_domain::fence::Fence;
use drover_domain::name::Name;
use drover_domain::session::{Grant, Halt, Order, Removal};
use drover_domain::spec::Secrets;

use super::time::{length, maybe_length};
use super::{Invalid, optional, parsed, required, run, spec};
use crate::node_v1;
use crate::node_v1::assignment::Target as Wire;

pub fn to_wire(assignment: &Assignment) -> node_v1::Assignment {
    let secrets = assignment.secrets.0.iter();
    let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
    node_v1::Assignment {
        session_id: assignment.session.to_string(),
        project: assignment.project.to_string(),
        name: assignment.name.to_string(),
        owner: assignment.owner.to_string(),
        generation: assignment.fence.generation,
        epoch: assignment.fence.epoch,
        attempt: assignment.attempt,
        spec: Some(spec::to_wire(&assignment.spec)),
        secrets: secrets.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        branch: assignment.branch.to_string(),
        workspace: assignment.workspace.as_ref().map(run::workspace),
        trace_parent: text(&assignment.trace),
        target: Some(target(&assignment.target)),
        base_commit: text(&assignment.base_commit),
        origin: text(&assignment.origin),
        rebuild: assignment.rebuild,
        resumes: assignment.resumes,
        grant: Some(node_v1::Grant {
            total: Some(length(assignment.grant.total)),
            count: assignment.grant.count,
        }),
        halt: assignment
            .halt
            .as_ref()
            .map(|halt| node_v1::Halt { by: halt.by.to_string(), grace: halt.grace.map(length) }),
    }
}

pub fn from_wire(wire: node_v1::Assignment) -> Result<Assignment, Invalid> {
    let name = |field: &str, text: &str| Name::new(text).map_err(|problem| Invalid::one(field, problem));
    let secrets = wire.secrets.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(Assignment {
        session: parsed("session_id", &wire.session_id)?,
        project: name("project", &wire.project)?,
        name: name("name", &wire.name)?,
        owner: wire.owner.into(),
        fence: Fence { generation: wire.generation, epoch: wire.epoch },
        attempt: wire.attempt,
        spec: Arc::new(spec::accepted("spec", required("spec", wire.spec)?)?),
        secrets: Arc::new(Secrets(secrets)),
        branch: wire.branch.into(),
        workspace: wire.workspace.as_ref().map(run::workspace_from),
        base_commit: optional(&wire.base_commit),
        origin: optional(&wire.origin),
        rebuild: wire.rebuild,
        resumes: wire.resumes,
        grant: wire.grant.as_ref().map(grant_from).transpose()?.unwrap_or_default(),
        halt: wire.halt.map(halt_from).transpose()?,
        target: target_from(&required("target", wire.target)?)?,
        trace: optional(&wire.trace_parent),
    })
}

fn target(target: &Target) -> Wire {
    match target {
        Target::Keep => Wire::Keep(node_v1::Keep {}),
        Target::Ready { stop } => Wire::Ready(node_v1::Ready { stop: stop.map(order) }),
        Target::Running { order: run } => Wire::Running(order(*run)),
        Target::Cleaned { removal, stop } => Wire::Cleaned(node_v1::Removal {
            keep_branch: removal.keep_branch,
            force_branch: removal.force_branch,
            stop: stop.map(order),
        }),
    }
}

fn target_from(wire: &Wire) -> Result<Target, Invalid> {
    let stop = |stop: &Option<node_v1::Order>| stop.as_ref().map(order_from).transpose();
    Ok(match wire {
        Wire::Keep(_) => Target::Keep,
        Wire::Ready(ready) => Target::Ready { stop: stop(&ready.stop)? },
        Wire::Running(run) => Target::Running { order: order_from(run)? },
        Wire::Cleaned(wire) => {
            let removal = Removal { keep_branch: wire.keep_branch, force_branch: wire.force_branch };
            Target::Cleaned { removal, stop: stop(&wire.stop)? }
        }
    })
}

fn grant_from(wire: &node_v1::Grant) -> Result<Grant, Invalid> {
    let total = maybe_length("grant.total", wire.total.as_ref())?;
    Ok(Grant { total: total.unwrap_or_default(), count: wire.count })
}

fn halt_from(wire: node_v1::Halt) -> Result<Halt, Invalid> {
    Ok(Halt { grace: maybe_length("halt.grace", wire.grace.as_ref())?, by: wire.by.into() })
}

pub fn order(order: Order) -> node_v1::Order {
    node_v1::Order { run_id: order.run.to_string(), ordinal: order.ordinal }
}

fn order_from(wire: &node_v1::Order) -> Result<Order, Invalid> {
    Ok(Order { run: parsed("order.run_id", &wire.run_id)?, ordinal: wire.ordinal })
}
