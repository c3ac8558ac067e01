//! Registries of any size, made through the fleet's own rules and the real store: what is in them could have come
//! about in no other way, only slower.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use drover_controller::random;
use drover_controller::store::Store;
use drover_daemon::clock::Clock;
use drover_domain::actor::Actor;
use drover_domain::change::Change;
use drover_domain::command::{Command, NewSession, Wish};
use drover_domain::fleet::Fleet;
use drover_domain::id::{InstallationId, SessionId};
use drover_domain::name::Name;
use drover_domain::session::Removal;
use drover_domain::spec::{Secrets, Spec};
use drover_domain::time::Timestamp;
use drover_proto::convert::spec;
use drover_proto::v1;

/// What is to be in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    /// Sessions that wait for nothing and nobody: they were given up after a while in the queue.
    pub live: u64,
    /// Sessions that only the store still knows.
    pub gone: u64,
    /// So many more changes of each live session are in the log.
    pub holds: u32,
}

/// How many changes go into one transaction.
const AT_ONCE: usize = 4096;
const WAITED: Duration = Duration::from_secs(60);

/// Makes a registry in `directory`; gives the ids of the live sessions.
pub(crate) fn fill(directory: &Path, fill: Fill) -> Result<Vec<String>> {
    drover_daemon::atomic::private_directory(directory)?;
    let (store, loaded) = Store::open(directory, InstallationId::from_random(random::bytes()))?;
    let now = Timestamp::from_millis(Clock::system().wall_millis() - 600_000);
    let mut filling = Filling { store, fleet: loaded.fleet, changes: vec![], now };
    let spec = Arc::new(checked_spec()?);
    let mut ids = Vec::new();
    for number in 0..fill.live + fill.gone {
        let id = filling.create(number, &spec)?;
        // Those that are gone are spread among the others.
        if scattered_among(number, fill) {
            filling.decide(Wish::DeleteSession { session: id, removal: Removal::default() })?;
            filling.decide(Wish::Forget { session: id })?;
        } else {
            ids.push(id);
        }
    }
    filling.now = now.after(WAITED);
    for id in &ids {
        filling.decide(Wish::ExpireQueue { session: *id })?;
    }
    for round in 0..fill.holds {
        for id in &ids {
            let reason = format!("for the {round} time").into();
            filling.decide(Wish::HoldSession { session: *id, lasts: None, reason })?;
        }
    }
    filling.write()?;
    Ok(ids.iter().map(ToString::to_string).collect())
}

fn scattered_among(number: u64, fill: Fill) -> bool {
    let all = fill.live + fill.gone;
    // As many steps of this staircase are new as sessions are gone.
    number * fill.gone / all != (number + 1) * fill.gone / all
}

struct Filling {
    store: Store,
    fleet: Fleet,
    changes: Vec<Change>,
    now: Timestamp,
}

impl Filling {
    fn create(&mut self, number: u64, spec: &Arc<Spec>) -> Result<SessionId> {
        let id = SessionId::from_random(random::bytes());
        let new = NewSession {
            id,
            project: Name::default_project(),
            name: Name::new(&format!("filled-{number}")).map_err(|error| anyhow!("{error}"))?,
            owner: "operator".into(),
            spec: spec.clone(),
            secrets: Secrets::default(),
            start: true,
            origin: None,
        };
        self.decide(Wish::CreateSession(Box::new(new)))?;
        Ok(id)
    }

    fn decide(&mut self, wish: Wish) -> Result<()> {
        let command = Command { actor: Actor::User("operator".into()), trace: None, wish };
        let decision = self.fleet.decide(&command, self.now)?;
        for change in decision.changes {
            self.fleet.apply(&change);
            self.changes.push(change);
        }
        if self.changes.len() >= AT_ONCE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.store.commit(&self.changes, &[])?;
        self.changes.clear();
        Ok(self.store.checkpointer()?.run()?)
    }
}

/// What a session is usually asked to be: some 600 bytes.
pub(crate) fn usual_spec() -> v1::SessionSpec {
    let prompt = "Make the parser accept a trailing comma, add tests for it, and run all of them. ".repeat(5);
    v1::SessionSpec {
        repository: "https://git.example.org/team/service.git".into(),
        base: "main".into(),
        command: vec!["agent".into(), "--prompt".into(), prompt],
        env: [("LANG", "C.UTF-8"), ("CARGO_TERM_COLOR", "never"), ("AGENT_MODE", "unattended")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        queue_timeout: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..v1::SessionSpec::default()
    }
}

fn checked_spec() -> Result<Spec> {
    spec::from_wire("spec", usual_spec()).map_err(|invalid| anyhow!("{invalid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_registry_opens_with_what_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let ids = fill(directory.path(), Fill { live: 30, gone: 70, holds: 2 }).unwrap();
        let (store, loaded) = Store::open(directory.path(), InstallationId::from_random([1; 10])).unwrap();
        assert_eq!((ids.len(), loaded.fleet.session_count()), (30, 30));
        assert_eq!(loaded.fleet.revision(), 30 * 4 + 70 * 3);
        let id = ids[0].parse().unwrap();
        assert!(loaded.fleet.session(id).unwrap().hold.is_some());
        assert!(store.history().oldest().unwrap().is_some());
    }
}
