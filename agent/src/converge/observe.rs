//! What is told to the controller, as writes that go into the same commit as the state they tell of.

use drover_domain::command::Observation;
use drover_domain::converge::{Local, LocalRun};
use drover_domain::id::SessionId;
use drover_domain::session::{Fault, Order};

use crate::ledger::Write;
use crate::saga::Ended;
use crate::wire;

/// The state and what it tells.
pub(super) fn change(session: SessionId, local: Local, observation: &Observation) -> Vec<Write> {
    let report = report(session, &local, observation);
    vec![Write::Local { session, local }, report]
}

pub(super) fn report(session: SessionId, local: &Local, observation: &Observation) -> Write {
    let progress = matches!(observation, Observation::Progress(_));
    let ordinal = match local.run {
        LocalRun::Starting(order) | LocalRun::Live(order) | LocalRun::Ended(order) => order.ordinal,
        LocalRun::None => 0,
    };
    Write::Report { session, progress, body: wire::report(session, local.fence, observation, ordinal) }
}

/// The fault, told once: under this attempt nothing more is tried.
pub(super) fn faulted(session: SessionId, local: Local, attempt: u32, fault: &Fault) -> Vec<Write> {
    let local = Local { faulted: Some(attempt), ..local };
    change(session, local, &Observation::Faulted(fault.clone()))
}

/// No process of this run is left.
pub(super) fn ended(session: SessionId, local: Local, order: Order, ended: &Ended) -> Vec<Write> {
    let local = Local { run: LocalRun::Ended(order), ..local };
    let observation = Observation::RunEnded {
        run: order.run,
        started: ended.started,
        ended: ended.ended,
        outcome: ended.outcome.clone(),
        usage: ended.usage,
    };
    change(session, local, &observation)
}
