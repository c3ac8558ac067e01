//! Runs, for people: how they ended, how long they may go on, and what they used.

use drover_domain::spec::Limits;
use drover_proto::convert::run::outcome_from;
use drover_proto::v1::{Run, RunHandle, RunOutcome, Session, run_handle::Handle};

use super::sessions::word;
use super::table::{Row, table};
use super::times::{age, between, bytes, length, short, since, stamp, until};
use super::{BAD, Look};

/// How a run ended, in one word.
pub fn outcome(run: &Run) -> String {
    outcome_from(run)
        .map_or_else(|_| word(run.outcome().as_str_name(), "RUN_OUTCOME_"), |outcome| outcome.to_string())
}

/// How long ago it ended, after a blank; nothing if it goes on.
pub fn ago(run: &Run, look: &Look) -> String {
    run.end_time.as_ref().map(|at| format!(" {} ago", short(since(look.now, at)))).unwrap_or_default()
}

/// A run in one line.
pub fn run_line(run: &Run, look: &Look) -> String {
    let mut parts = vec![format!("#{}", run.ordinal)];
    match (&run.start_time, &run.end_time) {
        (Some(start), Some(end)) => {
            parts.push(format!("{} after {}", outcome(run), short(between(start, end))));
            parts.push(format!("ended {} (node's clock)", stamp(end)));
        }
        (Some(start), None) => parts.push(format!("runs for {}", short(since(look.now, start)))),
        (None, Some(_)) => parts.push(format!("{} before it started", outcome(run))),
        (None, None) => parts.push("ordered".to_owned()),
    }
    parts.extend(run.handle.as_ref().and_then(handle));
    if let Some(usage) = &run.usage {
        parts.extend(usage.peak_memory_bytes.map(|peak| format!("peak {}", bytes(peak))));
        parts.extend(usage.cpu_time.as_ref().map(|time| format!("cpu {}", length(time))));
    }
    parts.push(run.id.clone());
    parts.join(", ")
}

fn handle(handle: &RunHandle) -> Option<String> {
    Some(match handle.handle.as_ref()? {
        Handle::Pid(pid) => format!("pid {pid}"),
        Handle::TmuxName(name) => format!("tmux {name}"),
        Handle::ContainerId(id) => format!("container {id}"),
    })
}

/// When the run that goes on will be stopped, and how far that can be moved yet. Nothing, if it has no limit.
pub fn deadline(session: &Session, look: &Look) -> String {
    let run = session.current_run.as_ref();
    let Some((run, at)) = run.and_then(|run| Some((run, run.deadline.as_ref()?))) else {
        return String::new();
    };
    let left = short(until(look.now, at));
    format!("in {left}, {} (node's clock); {}", stamp(at), extensions(session, run))
}

/// How often a run's deadline was moved, and how often and how far it may be.
pub fn extensions(session: &Session, run: &Run) -> String {
    let spec = session.spec.clone().unwrap_or_default();
    let most = spec.max_extensions.unwrap_or(Limits::MAX_EXTENSIONS);
    let in_all = spec.max_extension.map(|most| format!(", {} in all at most", length(&most)));
    format!("{} of {most} extensions used{}", run.extensions, in_all.unwrap_or_default())
}

/// Runs that are over, a row each.
pub fn over(runs: &[Run], look: &Look) -> String {
    let header: &[&str] = if look.wide {
        &["RUN", "OUTCOME", "ENDED", "TOOK", "PEAK", "CPU", "ID"]
    } else {
        &["RUN", "OUTCOME", "ENDED", "TOOK", "PEAK", "CPU"]
    };
    let row = |run: &Run| {
        let took = run.start_time.as_ref().zip(run.end_time.as_ref());
        let usage = run.usage.unwrap_or_default();
        let mut cells = vec![
            format!("#{}", run.ordinal),
            outcome(run),
            run.end_time
                .as_ref()
                .map(|_| format!("{} ago", age(look.now, run.end_time.as_ref())))
                .unwrap_or_default(),
            took.map(|(start, end)| short(between(start, end))).unwrap_or_default(),
            usage.peak_memory_bytes.map(bytes).unwrap_or_default(),
            usage.cpu_time.as_ref().map(length).unwrap_or_default(),
        ];
        if look.wide {
            cells.push(run.id.clone());
        }
        Row { cells, style: if is_well(run) { anstyle::Style::new() } else { BAD } }
    };
    table(look, header, &runs.iter().map(row).collect::<Vec<_>>())
}

fn is_well(run: &Run) -> bool {
    matches!(run.outcome(), RunOutcome::Succeeded | RunOutcome::Stopped | RunOutcome::Unspecified)
}
