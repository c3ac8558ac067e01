//! How a run stands, from its directory alone.

use drover_domain::presence::Presence;

use super::{Key, Processes, told};
use crate::cgroup::Cgroup;
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

impl Processes {
    /// Whether anything of the run lives. One whose directory is gone is looked for in its control group.
    pub(super) fn alive(&self, key: Key) -> Presence<()> {
        let is_left = || {
            let made =
                self.0.cgroup.as_ref().map(|home| home.join(format!("{}.{}", key.session, key.order.run)));
            let group = self.cgroup(key).or_else(|| made.map(Cgroup::at));
            let command = self.directory(key).started().ok().flatten();
            group.is_some_and(|group| group.is_populated())
                || command.is_some_and(|command| !command.process.look(&self.0.boot).is_absent())
        };
        match self.look(key) {
            Presence::Present(Seen::Starting | Seen::Running(_)) => Presence::Present(()),
            Presence::Present(Seen::Ended(_)) => Presence::Absent,
            Presence::Present(Seen::Orphaned) | Presence::Absent if is_left() => Presence::Present(()),
            Presence::Present(Seen::Orphaned) | Presence::Absent => Presence::Absent,
            Presence::Unknown(why) => Presence::Unknown(why),
        }
    }
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
