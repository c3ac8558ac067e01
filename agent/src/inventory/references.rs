//! References of sessions in a repository: the bases that say whose a branch is, and checkpoints. They bear no mark of an
//! installation or a node, so that only those are told that something else says are ours: the ledger, a worktree with our
//! mark, a branch that a removal left, a checkpoint's own record, or that they lie in a copy of this node's. What that
//! leaves out is a base in a person's repository whose session left no other trace here: it may be another agent's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use drover_domain::id::SessionId;
use drover_domain::inventory::References;
use drover_domain::time::Timestamp;

use super::machine::changed;
use crate::git::loose::{self, Names};
use crate::workspace::Owner;

const BASE: &str = "refs/drover/base/";
const WIP: &str = "refs/drover/wip/";

/// What is there of one session.
#[derive(Debug, Default)]
struct Found {
    base: Option<String>,
    /// Names, of those that are files too.
    checkpoints: BTreeMap<String, Option<String>>,
    since: Option<Timestamp>,
}

/// Which sessions are ours in this repository, by anything but the references themselves.
pub(super) struct Ours<'a> {
    pub owner: &'a Owner,
    /// The repository is a copy of this node's.
    pub is_copy: bool,
    pub is_known: &'a dyn Fn(SessionId) -> bool,
    /// Of another agent's worktrees here.
    pub others: &'a [SessionId],
}

/// `names`: what lies below `refs/drover`.
pub(super) fn look(
    common: &Path,
    names: &Names,
    ours: &Ours<'_>,
) -> io::Result<Vec<(SessionId, References)>> {
    let mut found: BTreeMap<SessionId, Found> = BTreeMap::new();
    let packed_since = changed(&common.join("packed-refs"));
    for packed in loose::packed(common, "refs/drover/")? {
        if let Some((session, is_base)) = session(&packed.name) {
            let found = found.entry(session).or_default();
            found.since.get_or_insert(packed_since);
            if is_base {
                found.base = Some(packed.commit);
            } else {
                found.checkpoints.insert(packed.name, Some(packed.commit));
            }
        }
    }
    let mut bases = BTreeSet::new();
    for name in &names.references {
        match session(name) {
            Some((session, true)) => drop(bases.insert((session, name))),
            Some((session, false)) => {
                found.entry(session).or_default().checkpoints.insert(name.clone(), None);
            }
            None => {}
        }
    }
    for (session, name) in bases {
        let found = found.entry(session).or_default();
        if let Some(commit) = loose::commit(common, name)? {
            found.base = Some(commit);
            found.since = Some(changed(&common.join(name)));
        }
    }
    found.retain(|session, found| ours.has(common, *session, found));
    Ok(found.into_iter().map(|(session, found)| (session, found.told(common, session))).collect())
}

/// The session that a reference is of, and whether it is its base.
fn session(name: &str) -> Option<(SessionId, bool)> {
    let (rest, is_base) = match name.strip_prefix(BASE) {
        Some(rest) => (rest, true),
        None => (name.strip_prefix(WIP)?, false),
    };
    Some((rest.split('/').next()?.parse().ok()?, is_base))
}

impl Ours<'_> {
    fn has(&self, common: &Path, session: SessionId, found: &Found) -> bool {
        if self.is_copy || (self.is_known)(session) {
            return true;
        }
        !self.others.contains(&session) && found.says(common, session, self.owner)
    }
}

impl Found {
    /// Whether a checkpoint says that it is this owner's. A clean one says nothing.
    fn says(&self, common: &Path, session: SessionId, owner: &Owner) -> bool {
        self.checkpoints.iter().rev().any(|(name, packed)| {
            let commit = packed.clone().or_else(|| loose::commit(common, name).ok().flatten());
            let said = commit.and_then(|commit| Owner::said_by(common, &commit));
            said.is_some_and(|(of, whose)| of == *owner && whose == session)
        })
    }

    fn told(self, common: &Path, session: SessionId) -> References {
        let since = self.since.unwrap_or_else(|| changed(&common.join(format!("{WIP}{session}"))));
        References {
            repository: common.to_string_lossy().into(),
            base: self.base.map(Into::into),
            checkpoints: u32::try_from(self.checkpoints.len()).unwrap_or(u32::MAX),
            since,
        }
    }
}
