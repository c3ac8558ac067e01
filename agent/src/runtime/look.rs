//! How a run stands, from its directory alone.

use drover_domain::presence::Presence;

use super::told;
use crate::process::Boot;
use crate::shim::record::{Exit, RunDirectory, Started, Unreadable};

/// A run that was started, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A supervisor has it and has not come to the command.
    Starting,
    Running(Started),
    /// No process of it is left.
    Ended(Exit),
    /// Its supervisor is gone and did not say how it ended. Processes of it may be left.
    Orphaned,
}

pub(super) fn look(directory: &RunDirectory, boot: &Boot) -> Presence<Seen> {
    seen(directory, boot).unwrap_or_else(|unreadable| Presence::Unknown(told(&unreadable)))
}

fn seen(directory: &RunDirectory, boot: &Boot) -> Result<Presence<Seen>, Unreadable> {
    if let Some(exit) = directory.exit()? {
        return Ok(Presence::Present(Seen::Ended(exit)));
    }
    let run = match directory.run() {
        Ok(Some(run)) => run,
        // A supervisor is started only after the whole file is on disk.
        Ok(None) | Err(Unreadable::Garbled { .. }) => return Ok(Presence::Absent),
        Err(error) => return Err(error),
    };
    match directory.is_held() {
        Ok(true) => Ok(Presence::Present(directory.started()?.map_or(Seen::Starting, Seen::Running))),
        Ok(false) => dead(directory, run.boot == *boot),
        Err(error) => Ok(Presence::Unknown(format!("cannot see whether its supervisor lives: {error}"))),
    }
}

/// Nobody holds it.
fn dead(directory: &RunDirectory, is_of_this_boot: bool) -> Result<Presence<Seen>, Unreadable> {
    // It may have ended between the two looks.
    if let Some(exit) = directory.exit()? {
        return Ok(Presence::Present(Seen::Ended(exit)));
    }
    // What a supervisor writes before the command need not outlive the boot: after another one it may have been.
    let was_begun = !is_of_this_boot || directory.supervisor()?.is_some();
    Ok(if was_begun { Presence::Present(Seen::Orphaned) } else { Presence::Absent })
}
