//! One pass over the machine, without the ledger: what there is, wherever things of this agent's may be.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_domain::id::SessionId;
use drover_domain::inventory::{Blind, Kind, References, Worktree};
use drover_domain::presence::Presence;
use drover_domain::session::Order;
use drover_domain::time::Timestamp;

use super::Commons;
use super::directories::Directories;
use super::ledger_view::Known;
use super::processes::{Census, Whose};
use super::references::{self, Ours};
use super::worktrees;
use crate::git::left::{self, Left};
use crate::git::loose;
use crate::saga::Home;

/// Where is looked, and when.
#[derive(Debug)]
pub(super) struct Grounds {
    pub home: Home,
    /// The repositories that the ledger knows of.
    pub commons: Commons,
    pub only: Option<PathBuf>,
    pub now_millis: i64,
    pub boot: Duration,
}

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub worktrees: Vec<(SessionId, Worktree)>,
    pub references: Vec<(SessionId, References)>,
    pub directories: Directories,
    pub locks: Vec<Left>,
    pub census: Census,
    pub runs: Vec<(SessionId, Order, Presence<()>)>,
    pub blind: Vec<Blind>,
}

/// Lock files that may lie in a repository.
type Candidates = Vec<(PathBuf, String)>;

impl Machine {
    pub(super) fn look(grounds: &Grounds, known: &Known) -> Self {
        let home = &grounds.home;
        let directories = Directories::look(&home.worktrees);
        let mut machine = Self { directories, ..Self::default() };
        let mut candidates = Candidates::new();
        for common in machine.commons(grounds) {
            machine.repository(grounds, known, &common, &mut candidates);
        }
        machine.locks = left::judged(&candidates, grounds.now_millis);
        let whose = Whose { root: &home.worktrees, node: home.node, known };
        machine.census = Census::take(whose, grounds.now_millis, grounds.boot);
        let lives = |(session, order)| (session, order, home.runs.lives(session, order));
        machine.runs = known.runs().into_iter().map(lives).collect();
        machine
    }

    /// Nothing could be looked at.
    pub(super) fn unseen(why: &str) -> Self {
        let blind = |kind| Blind { kind, place: None, why: why.into() };
        Self { blind: Kind::ALL.into_iter().map(blind).collect(), ..Self::default() }
    }

    /// Every repository that may hold something, once.
    fn commons(&self, grounds: &Grounds) -> Commons {
        if let Some(only) = &grounds.only {
            return Commons::from([only.clone()]);
        }
        let pointed: BTreeSet<&PathBuf> =
            self.directories.filled.iter().filter_map(|filled| filled.common.as_ref()).collect();
        let real = |common: &PathBuf| common.canonicalize().ok();
        // One that is simply gone holds nothing.
        pointed.into_iter().chain(&grounds.commons).filter_map(real).collect()
    }

    fn repository(&mut self, grounds: &Grounds, known: &Known, common: &Path, candidates: &mut Candidates) {
        let owner = grounds.home.owner();
        let entries = worktrees::look(common, &owner).unwrap_or_else(|error| {
            self.blind.push(blind(Kind::Worktrees, common, &error));
            worktrees::Entries::default()
        });
        let below = loose::below(common, "refs/drover").unwrap_or_else(|error| {
            self.blind.push(blind(Kind::References, common, &error));
            loose::Names::default()
        });
        let is_known = |session: SessionId| {
            known.knows(session)
                || known.kept.contains_key(&(session, common.to_owned()))
                || entries.ours.iter().any(|(ours, _)| *ours == session)
        };
        let ours = Ours {
            owner: &owner,
            is_copy: common.starts_with(&grounds.home.mirrors.root),
            is_known: &is_known,
            others: &entries.others,
        };
        match references::look(common, &below, &ours) {
            Ok(found) => self.references.extend(found),
            Err(error) => self.blind.push(blind(Kind::References, common, &error)),
        }
        self.locks_of(common, &entries, below.locks, candidates);
        self.worktrees.extend(entries.ours);
    }

    fn locks_of(
        &mut self,
        common: &Path,
        entries: &worktrees::Entries,
        below: Vec<String>,
        candidates: &mut Candidates,
    ) {
        let mut names = below;
        for found in [loose::locks_in(common), branches(common)] {
            match found {
                Ok(found) => names.extend(found),
                Err(error) => self.blind.push(blind(Kind::Locks, common, &error)),
            }
        }
        for (_, worktree) in &entries.ours {
            let entry = Path::new(worktree.entry.as_ref());
            let Ok(entry) = entry.strip_prefix(common) else { continue };
            names.extend(["index.lock", "HEAD.lock"].map(|name| entry.join(name).to_string_lossy().into()));
        }
        candidates.extend(names.into_iter().map(|name| (common.to_owned(), name)));
    }
}

/// Locks of the sessions' branches.
fn branches(common: &Path) -> std::io::Result<Vec<String>> {
    let mut found = loose::below(common, "refs/heads/drover")?.locks;
    let heads = loose::locks_in(&common.join("refs/heads"))?;
    found.extend(
        heads.iter().filter(|name| name.starts_with("drover")).map(|name| format!("refs/heads/{name}")),
    );
    Ok(found)
}

pub(super) fn blind(kind: Kind, place: &Path, error: &std::io::Error) -> Blind {
    Blind { kind, place: Some(place.to_string_lossy().into()), why: error.to_string().into() }
}

/// When it was last changed. What does not tell is new.
pub(super) fn changed(path: &Path) -> Timestamp {
    let at = fs::symlink_metadata(path)
        .map(|found| found.mtime().saturating_mul(1000).saturating_add(found.mtime_nsec() / 1_000_000));
    Timestamp::from_millis(at.unwrap_or(i64::MAX))
}
