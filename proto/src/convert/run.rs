//! Runs, faults, and the small parts that several messages share.

use drover_domain::id::RunId;
use drover_domain::outcome::{Cause, Limit, Outcome, Usage};
use drover_domain::session::{
    Checkpoint, EndedRun, Fault, FaultCode, Grant, Handle, Kept, LiveRun, Order, Progress, Workspace,
};

use super::time::{from_length, from_stamp, length, stamp};
use super::{Invalid, known, optional, parsed, required};
use crate::v1;

pub fn live(run: &LiveRun) -> v1::Run {
    v1::Run {
        start_time: Some(stamp(run.started)),
        deadline: run.deadline.map(stamp),
        extensions: run.extensions,
        handle: Some(handle(&run.handle)),
        ..ordered(run.order)
    }
}

/// A run of which nothing is known but its order.
pub fn ordered(order: Order) -> v1::Run {
    v1::Run { id: order.run.to_string(), ordinal: order.ordinal, ..v1::Run::default() }
}

pub fn ended(run: &EndedRun) -> v1::Run {
    let (outcome, exit_code, signal, detail) = outcome(&run.outcome);
    v1::Run {
        start_time: run.started.map(stamp),
        end_time: Some(stamp(run.ended)),
        outcome: outcome.into(),
        exit_code,
        signal,
        detail,
        usage: Some(usage(&run.usage)),
        ..ordered(run.order)
    }
}

pub fn order_from(wire: &v1::Run) -> Result<Order, Invalid> {
    Ok(Order { run: parsed::<RunId>("id", &wire.id)?, ordinal: wire.ordinal })
}

/// Without what was granted: that is nobody's business but the registry's.
pub fn live_from(wire: &v1::Run) -> Result<LiveRun, Invalid> {
    Ok(LiveRun {
        order: order_from(wire)?,
        started: from_stamp(&required("start_time", wire.start_time)?),
        deadline: wire.deadline.as_ref().map(from_stamp),
        extensions: wire.extensions,
        grant: Grant::default(),
        handle: handle_from(required("handle", wire.handle.as_ref())?)?,
    })
}

pub fn ended_from(wire: &v1::Run) -> Result<EndedRun, Invalid> {
    Ok(EndedRun {
        order: order_from(wire)?,
        started: wire.start_time.as_ref().map(from_stamp),
        ended: from_stamp(&required("end_time", wire.end_time)?),
        outcome: outcome_from(wire)?,
        usage: usage_from(wire.usage.as_ref())?,
    })
}

fn handle(handle: &Handle) -> v1::RunHandle {
    use v1::run_handle::Handle as H;
    let handle = match handle {
        Handle::Process { pid } => H::Pid(*pid),
        Handle::Tmux { name } => H::TmuxName(name.to_string()),
        Handle::Container { id } => H::ContainerId(id.to_string()),
    };
    v1::RunHandle { handle: Some(handle) }
}

fn handle_from(wire: &v1::RunHandle) -> Result<Handle, Invalid> {
    use v1::run_handle::Handle as H;
    Ok(match required("handle", wire.handle.as_ref())? {
        H::Pid(pid) => Handle::Process { pid: *pid },
        H::TmuxName(name) => Handle::Tmux { name: name.as_str().into() },
        H::ContainerId(id) => Handle::Container { id: id.as_str().into() },
    })
}

fn outcome(outcome: &Outcome) -> (v1::RunOutcome, Option<i32>, Option<i32>, String) {
    use v1::RunOutcome as O;
    let word = |word: &str| word.to_owned();
    match outcome {
        Outcome::Succeeded => (O::Succeeded, Some(0), None, String::new()),
        Outcome::Failed(code) => (O::Failed, Some(*code), None, String::new()),
        Outcome::Signalled(signal) => (O::Signalled, None, Some(*signal), String::new()),
        Outcome::TimedOut(Limit::Run) => (O::TimedOut, None, None, word("run")),
        Outcome::TimedOut(Limit::Idle) => (O::TimedOut, None, None, word("idle")),
        Outcome::TimedOut(Limit::Cap) => (O::TimedOut, None, None, word("cap")),
        Outcome::Stopped(by) => (O::Stopped, None, None, by.to_string()),
        Outcome::Interrupted(Cause::Reboot) => (O::Interrupted, None, None, word("reboot")),
        Outcome::Interrupted(Cause::Agent) => (O::Interrupted, None, None, word("agent")),
        Outcome::RateLimited => (O::RateLimited, None, None, String::new()),
        Outcome::Lost => (O::Lost, None, None, String::new()),
    }
}

pub fn outcome_from(wire: &v1::Run) -> Result<Outcome, Invalid> {
    use v1::RunOutcome as O;
    let odd = || Invalid::one("detail", format!("'{}' is not a word for this outcome", wire.detail));
    Ok(match known("outcome", wire.outcome)? {
        O::Unspecified => return Err(Invalid::one("outcome", "is missing")),
        O::Succeeded => Outcome::Succeeded,
        O::Failed => Outcome::Failed(required("exit_code", wire.exit_code)?),
        O::Signalled => Outcome::Signalled(required("signal", wire.signal)?),
        O::TimedOut => Outcome::TimedOut(match wire.detail.as_str() {
            "run" => Limit::Run,
            "idle" => Limit::Idle,
            "cap" => Limit::Cap,
            _ => return Err(odd()),
        }),
        O::Stopped => Outcome::Stopped(wire.detail.as_str().into()),
        O::Interrupted => Outcome::Interrupted(match wire.detail.as_str() {
            "reboot" => Cause::Reboot,
            "agent" => Cause::Agent,
            _ => return Err(odd()),
        }),
        O::RateLimited => Outcome::RateLimited,
        O::Lost => Outcome::Lost,
    })
}

fn usage(usage: &Usage) -> v1::Usage {
    v1::Usage {
        peak_memory_bytes: usage.peak_memory_bytes,
        cpu_time: usage.cpu_time.map(length),
        peak_processes: usage.peak_processes,
    }
}

fn usage_from(wire: Option<&v1::Usage>) -> Result<Usage, Invalid> {
    let Some(wire) = wire else { return Ok(Usage::default()) };
    Ok(Usage {
        peak_memory_bytes: wire.peak_memory_bytes,
        cpu_time: wire.cpu_time.as_ref().map(|time| from_length("usage.cpu_time", time)).transpose()?,
        peak_processes: wire.peak_processes,
    })
}

pub fn progress(progress: &Progress) -> v1::Progress {
    v1::Progress { step: progress.step, steps: progress.of, name: progress.name.to_string() }
}

pub fn progress_from(wire: &v1::Progress) -> Progress {
    Progress { step: wire.step, of: wire.steps, name: wire.name.as_str().into() }
}

pub fn workspace(workspace: &Workspace) -> v1::Workspace {
    v1::Workspace {
        path: workspace.path.to_string(),
        branch: workspace.branch.to_string(),
        base_commit: workspace.base_commit.to_string(),
    }
}

pub fn workspace_from(wire: &v1::Workspace) -> Workspace {
    let text = |text: &str| text.into();
    Workspace { path: text(&wire.path), branch: text(&wire.branch), base_commit: text(&wire.base_commit) }
}

pub fn checkpoint(checkpoint: &Checkpoint) -> v1::SavedCheckpoint {
    v1::SavedCheckpoint {
        reference: checkpoint.reference.to_string(),
        commit: checkpoint.commit.to_string(),
        create_time: Some(stamp(checkpoint.at)),
    }
}

pub fn checkpoint_from(wire: &v1::SavedCheckpoint) -> Result<Checkpoint, Invalid> {
    Ok(Checkpoint {
        reference: wire.reference.as_str().into(),
        commit: wire.commit.as_str().into(),
        at: from_stamp(required("create_time", wire.create_time.as_ref())?),
    })
}

pub fn kept(kept: &Kept) -> v1::Kept {
    v1::Kept {
        branch: kept.branch.as_deref().unwrap_or_default().to_owned(),
        trash: kept.trash.iter().map(ToString::to_string).collect(),
        reasons: kept.reasons.iter().map(ToString::to_string).collect(),
    }
}

pub fn kept_from(wire: &v1::Kept) -> Kept {
    let texts = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    Kept { branch: optional(&wire.branch), trash: texts(&wire.trash), reasons: texts(&wire.reasons) }
}

pub fn fault(fault: &Fault) -> v1::Fault {
    v1::Fault {
        code: fault.code.word().to_owned(),
        step: fault.step.to_string(),
        text: fault.text.to_string(),
        hint: fault.hint.to_string(),
        retryable: fault.retryable,
    }
}

/// A code that this version does not know (a newer agent's) is `OTHER`; its text still says what happened.
pub fn fault_from(wire: &v1::Fault) -> Fault {
    let code = FaultCode::ALL.into_iter().find(|code| code.word() == wire.code).unwrap_or(FaultCode::Other);
    let text = |text: &str| text.into();
    Fault {
        code,
        step: text(&wire.step),
        text: text(&wire.text),
        hint: text(&wire.hint),
        retryable: wire.retryable,
    }
}
