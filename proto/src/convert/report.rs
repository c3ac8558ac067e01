//! What an agent saw.

use drover_domain::command::{Observation, Report};
use drover_domain::fence::Fence;
use drover_domain::id::NodeId;
use drover_domain::session::{EndedRun, Grant, LiveRun, Order};

use super::time::{from_stamp, stamp};
use super::{Invalid, parsed, required, run};
use crate::node_v1;
use crate::node_v1::report::Observation as Wire;
use crate::v1;

/// `ordinal` is of the run that the observation is about; 0 for any other.
pub fn to_wire(report: &Report, ordinal: u32) -> node_v1::Report {
    node_v1::Report {
        sequence: report.sequence,
        session_id: report.session.to_string(),
        generation: report.fence.generation,
        epoch: report.fence.epoch,
        observation: Some(observation(&report.observation, ordinal)),
    }
}

/// `node` is who said it, by its certificate.
pub fn from_wire(node: NodeId, wire: &node_v1::Report) -> Result<Report, Invalid> {
    let observation = observation_from(required("observation", wire.observation.as_ref())?)
        .map_err(|problems| problems.within("observation"))?;
    Ok(Report {
        node,
        sequence: wire.sequence,
        session: parsed("session_id", &wire.session_id)?,
        fence: Fence { generation: wire.generation, epoch: wire.epoch },
        observation,
    })
}

fn observation(seen: &Observation, ordinal: u32) -> Wire {
    let order = |run| Order { run, ordinal };
    match seen {
        Observation::Progress(progress) => Wire::Progress(run::progress(progress)),
        Observation::WorkspaceReady(workspace) => Wire::WorkspaceReady(run::workspace(workspace)),
        Observation::RunStarted { run: id, started, deadline, handle } => {
            let handle = handle.clone();
            let live = LiveRun {
                order: order(*id),
                started: *started,
                deadline: *deadline,
                extensions: 0,
                grant: Grant::default(),
                handle,
            };
            Wire::RunStarted(run::live(&live))
        }
        Observation::RunExtended { run: id, deadline, extensions } => Wire::RunExtended(v1::Run {
            deadline: Some(stamp(*deadline)),
            extensions: *extensions,
            ..run::ordered(order(*id))
        }),
        Observation::Checkpointed(checkpoint) => Wire::Checkpointed(run::checkpoint(checkpoint)),
        Observation::RunEnded { run: id, started, ended, outcome, usage } => {
            let outcome = outcome.clone();
            let run =
                EndedRun { order: order(*id), started: *started, ended: *ended, outcome, usage: *usage };
            Wire::RunEnded(run::ended(&run))
        }
        Observation::Removed(kept) => Wire::Removed(run::kept(kept)),
        Observation::Faulted(fault) => Wire::Faulted(run::fault(fault)),
    }
}

fn observation_from(wire: &Wire) -> Result<Observation, Invalid> {
    Ok(match wire {
        Wire::Progress(progress) => Observation::Progress(run::progress_from(progress)),
        Wire::WorkspaceReady(workspace) => Observation::WorkspaceReady(run::workspace_from(workspace)),
        Wire::RunStarted(wire) => {
            let LiveRun { order, started, deadline, handle, extensions: _, grant: _ } = run::live_from(wire)?;
            Observation::RunStarted { run: order.run, started, deadline, handle }
        }
        Wire::RunExtended(wire) => Observation::RunExtended {
            run: run::order_from(wire)?.run,
            deadline: from_stamp(required("deadline", wire.deadline.as_ref())?),
            extensions: wire.extensions,
        },
        Wire::Checkpointed(wire) => Observation::Checkpointed(run::checkpoint_from(wire)?),
        Wire::RunEnded(wire) => {
            let EndedRun { order, started, ended, outcome, usage } = run::ended_from(wire)?;
            Observation::RunEnded { run: order.run, started, ended, outcome, usage }
        }
        Wire::Removed(kept) => Observation::Removed(run::kept_from(kept)),
        Wire::Faulted(fault) => Observation::Faulted(run::fault_from(fault)),
    })
}
