//! What an agent saw.

use drover_domain::command::{Observation, Report};
use drover_domain::fence::Fence;
use drover_domain::id::NodeId;
use drover_domain::session::{EndedRun, LiveRun, Order};

use super::{Invalid, parsed, required, run};
use crate::node_v1;
use crate::node_v1::report::Observation as Wire;

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
            let live =
                LiveRun { order: order(*id), started: *started, deadline: *deadline, extensions: 0, handle };
            Wire::RunStarted(run::live(&live))
        }
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
            let LiveRun { order, started, deadline, handle, extensions: _ } = run::live_from(wire)?;
            Observation::RunStarted { run: order.run, started, deadline, handle }
        }
        Wire::RunEnded(wire) => {
            let EndedRun { order, started, ended, outcome, usage } = run::ended_from(wire)?;
            Observation::RunEnded { run: order.run, started, ended, outcome, usage }
        }
        Wire::Removed(kept) => Observation::Removed(run::kept_from(kept)),
        Wire::Faulted(fault) => Observation::Faulted(run::fault_from(fault)),
    })
}
