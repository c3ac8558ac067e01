//! What `rm` and `reset --hard` have in common: what would be saved and removed is shown, and a person agrees to it
//! before it is done. Saving cannot be switched off; only the question can.

use drover_proto::v1::{BranchFate, RemovalPreview, Session};

use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::output::sanitise::line;
use crate::output::sessions::{preview, title};
use crate::prompt;

/// What is asked about, in the words of its command.
#[derive(Clone, Copy, Debug)]
pub struct Deed {
    /// The question if work has to be saved first.
    pub saving: &'static str,
    /// The question if only a run has to be stopped.
    pub stopping: &'static str,
    /// What `--yes` does.
    pub yes: &'static str,
}

/// Asks if there is something to lose or to stop. Without a terminal, work that has to be saved is a refusal.
pub async fn is_agreed(
    out: &Output,
    session: &Session,
    found: &RemovalPreview,
    deed: Deed,
) -> Result<bool, Failure> {
    let saves_work = found.saves_work || found.branch_fate() == BranchFate::SavedAndDeleted;
    let is_worth_a_word = found.stops_run && out.can_ask();
    if !saves_work && !is_worth_a_word {
        return Ok(true);
    }
    tell(out, session, found, "has:");
    if !out.can_ask() {
        let what = format!("session '{}' has work that would have to be saved first", title(session));
        return Err(Failure::new(Exit::Conflict, what)
            .why("there is no terminal to ask on")
            .next(deed.yes)
            .next(format!("droverctl diff {} shows the work", title(session))));
    }
    prompt::confirm(if saves_work { deed.saving } else { deed.stopping }).await
}

/// What was found, under a line that says what it is.
pub fn tell(out: &Output, session: &Session, found: &RemovalPreview, how: &str) {
    out.note(format!("{} {how}", title(session)));
    for text in preview(found) {
        out.note(format!("  {}", line(&text)));
    }
}
