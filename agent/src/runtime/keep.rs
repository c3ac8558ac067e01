//! Keeps the logs of ended runs within their age and size.

use std::io;

use drover_domain::presence::Presence;

use super::Processes;
use super::look::Seen;
use crate::logs::keep::{self, Kept, Rules};

impl Processes {
    /// Deletes logs of ended runs by these rules. Returns how many went.
    pub fn keep_logs(&self, rules: Rules) -> io::Result<usize> {
        let mut logs = Vec::new();
        for key in self.all()? {
            let directory = self.directory(key).log();
            // One that cannot be read is left alone, and none that is being made is missed.
            let Ok(bytes) = keep::size(&directory) else { continue };
            let (ended, written) = match self.look(key) {
                Presence::Present(Seen::Ended(exit)) => (Some(exit.ended), exit.log_bytes),
                Presence::Present(Seen::Starting | Seen::Running(_) | Seen::Orphaned)
                | Presence::Absent
                | Presence::Unknown(_) => (None, None),
            };
            logs.push(Kept { directory, bytes, ended, written });
        }
        let now = self.0.clock.wall_millis();
        let gone = keep::plan(&logs, rules, now);
        for (log, why) in &gone {
            keep::cut(log, *why, now)?;
            tracing::info!(log = %log.directory.display(), bytes = log.bytes, ?why, "an old log is deleted");
        }
        Ok(gone.len())
    }
}
