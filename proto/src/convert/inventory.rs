//! What is on a node. Ages become stamps on the clock of whoever takes the inventory in: nobody compares two clocks.

pub mod told;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use drover_domain::converge::Site;
use drover_domain::fence::Fence;
use drover_domain::id::SessionId;
use drover_domain::inventory::{
    Away, Blind, Inventory, Kind, LedgerView, LockFile, Process, References, RunTrace, Stray, Traces,
    Worktree,
};
use drover_domain::presence::Presence;
use drover_domain::time::Timestamp;

use super::time::maybe_length;
use super::{Invalid, known, optional, parsed};
use crate::node_v1;

/// Takes a piece into `inventory`, which was told in pieces since `now`.
pub fn take(
    inventory: &mut Inventory,
    piece: &node_v1::InventoryPiece,
    now: Timestamp,
) -> Result<(), Invalid> {
    for wire in &piece.sessions {
        let (session, traces) = session(wire, now).map_err(|problems| problems.within("sessions"))?;
        inventory.sessions.insert(session, traces);
    }
    for gone in &piece.gone {
        inventory.sessions.remove(&parsed::<SessionId>("gone", gone)?);
    }
    for wire in &piece.locks {
        inventory.locks.push(lock_from(wire, now).map_err(|problems| problems.within("locks"))?);
    }
    for wire in &piece.strays {
        let since = since(wire.age.as_ref(), now).map_err(|problems| problems.within("strays"))?;
        let (path, what) = (wire.path.as_str().into(), wire.what.as_str().into());
        inventory.strays.push(Stray { path, what, since });
    }
    for wire in &piece.blind {
        inventory.blind.push(blind(wire)?);
    }
    Ok(())
}

fn session(wire: &node_v1::SessionTraces, now: Timestamp) -> Result<(SessionId, Traces), Invalid> {
    let traces = Traces {
        ledger: one("ledger", wire.ledger.as_ref(), ledger)?,
        worktrees: all("worktrees", &wire.worktrees, |wire| worktree(wire, now))?,
        away: all("away", &wire.away, |wire| {
            let since = since(wire.age.as_ref(), now)?;
            Ok(Away { path: wire.path.as_str().into(), is_saved: wire.is_saved, since })
        })?,
        references: all("references", &wire.references, |wire| {
            Ok(References {
                repository: wire.repository.as_str().into(),
                base: optional(&wire.base),
                checkpoints: wire.checkpoints,
                since: since(wire.age.as_ref(), now)?,
            })
        })?,
        run: one("run", wire.run.as_ref(), run)?,
        processes: all("processes", &wire.processes, |wire| process_from(wire, now))?,
    };
    Ok((parsed("session_id", &wire.session_id)?, traces))
}

fn ledger(wire: &node_v1::LedgerView) -> Result<LedgerView, Invalid> {
    Ok(LedgerView {
        fence: Fence { generation: wire.generation, epoch: wire.epoch },
        is_assigned: wire.is_assigned,
        site: site(&wire.site)?,
        path: optional(&wire.path),
        run: maybe("run_id", &wire.run_id)?,
        is_busy: wire.is_busy,
        sagas: wire.sagas.iter().map(|saga| saga.as_str().into()).collect(),
    })
}

fn worktree(wire: &node_v1::WorktreeTrace, now: Timestamp) -> Result<Worktree, Invalid> {
    Ok(Worktree {
        repository: wire.repository.as_str().into(),
        entry: wire.entry.as_str().into(),
        path: optional(&wire.path),
        directory: presence("directory", wire.directory, "it could not be looked at")?,
        branch: optional(&wire.branch),
        fence: Fence { generation: wire.generation, epoch: wire.epoch },
        since: since(wire.age.as_ref(), now)?,
    })
}

fn run(wire: &node_v1::RunTrace) -> Result<RunTrace, Invalid> {
    let alive = presence("alive", wire.alive, &wire.why)?;
    Ok(RunTrace { run: parsed("run_id", &wire.run_id)?, alive })
}

pub fn process_from(wire: &node_v1::ProcessTrace, now: Timestamp) -> Result<Process, Invalid> {
    Ok(Process {
        pid: wire.pid,
        start: wire.start,
        run: maybe("run_id", &wire.run_id)?,
        name: wire.name.as_str().into(),
        since: since(wire.age.as_ref(), now)?,
    })
}

pub fn lock_from(wire: &node_v1::LockFile, now: Timestamp) -> Result<LockFile, Invalid> {
    Ok(LockFile {
        repository: wire.repository.as_str().into(),
        name: wire.name.as_str().into(),
        since: since(wire.age.as_ref(), now)?,
        holder: optional(&wire.holder),
        is_ours: wire.is_ours,
        stamp: wire.stamp.as_str().into(),
    })
}

fn blind(wire: &node_v1::Blind) -> Result<Blind, Invalid> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == wire.kind);
    let kind = kind.ok_or_else(|| Invalid::one("blind.kind", "is nothing that this version knows"))?;
    Ok(Blind { kind, place: optional(&wire.place), why: wire.why.as_str().into() })
}

fn site(word: &str) -> Result<Site, Invalid> {
    let site = Site::ALL.into_iter().find(|site| site.word() == word);
    site.ok_or_else(|| Invalid::one("site", format!("'{word}' is nothing that this version knows")))
}

fn presence(field: &str, value: i32, why: &str) -> Result<Presence<()>, Invalid> {
    Ok(match known::<node_v1::Presence>(field, value)? {
        node_v1::Presence::Present => Presence::Present(()),
        node_v1::Presence::Absent => Presence::Absent,
        node_v1::Presence::Unknown | node_v1::Presence::Unspecified => Presence::Unknown(why.to_owned()),
    })
}

fn since(age: Option<&prost_types::Duration>, now: Timestamp) -> Result<Timestamp, Invalid> {
    let age = maybe_length("age", age)?.unwrap_or(Duration::ZERO);
    let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Ok(Timestamp::from_millis(now.millis().saturating_sub(millis)))
}

fn maybe<T: FromStr>(field: &str, text: &str) -> Result<Option<T>, Invalid>
where
    T::Err: Display,
{
    (!text.is_empty()).then(|| parsed(field, text)).transpose()
}

fn one<W, T>(
    field: &str,
    wire: Option<&W>,
    convert: impl Fn(&W) -> Result<T, Invalid>,
) -> Result<Option<T>, Invalid> {
    wire.map(convert).transpose().map_err(|problems| problems.within(field))
}

fn all<W, T>(field: &str, wire: &[W], convert: impl Fn(&W) -> Result<T, Invalid>) -> Result<Vec<T>, Invalid> {
    let all: Result<_, Invalid> = wire.iter().map(convert).collect();
    all.map_err(|problems| problems.within(field))
}
