//! What a ledger says, as a value: loaded as a whole at start, and the model that the database is tested against.
//! `apply` is the one definition of what a write means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use drover_domain::converge::Local;
use drover_domain::id::SessionId;
use drover_domain::session::{Fault, Workspace};

/// Everything that is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    pub sessions: BTreeMap<SessionId, Entry>,
    pub sagas: BTreeMap<Key, Record>,
    /// By their sequence.
    pub reports: BTreeMap<u64, Pending>,
    /// The last sequence that was given to a report.
    pub reported: u64,
    /// The last one that the controller said to be durable, whatever it said since.
    pub acknowledged: u64,
    pub cookie: Option<Bytes>,
    /// Where saved work may lie.
    pub repositories: BTreeSet<PathBuf>,
    /// By their session and the common directory of their repository.
    pub kept: BTreeMap<(SessionId, PathBuf), KeptBranch>,
}

/// A branch that its session's removal left, and that is Drover's still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBranch {
    pub branch: Box<str>,
    /// The commit that it began at.
    pub base: Box<str>,
}

/// One session on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Wire bytes of what was last assigned. None: nothing is wanted of it, so it is kept as it is.
    pub assignment: Option<Bytes>,
    pub local: Local,
    pub workspace: Option<Workspace>,
}

/// Names one saga: what it is about is in the name, such as `run.3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub session: SessionId,
    pub saga: Box<str>,
}

/// What the names of sagas about saved work begin with. Saved work outlives its session, and so do they.
pub const TRASH: &str = "trash.";

/// How far a saga has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What its steps must know to find their effects again, as JSON.
    pub data: Box<str>,
    pub heading: Heading,
    /// The steps whose effects may exist, by name, with their place in the order.
    pub steps: BTreeMap<Box<str>, (u32, Mark)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Heading {
    #[default]
    Forward,
    /// It undoes what it made, because of this fault; `told`: the fault was reported already.
    Back { fault: Fault, told: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Its effect may have begun.
    Intended,
    Made,
}

/// A report on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub session: SessionId,
    /// Superseded by the session's next report.
    pub progress: bool,
    pub body: Bytes,
}

/// One change; several are committed together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Assign {
        session: SessionId,
        assignment: Option<Bytes>,
    },
    Local {
        session: SessionId,
        local: Local,
    },
    Workspace {
        session: SessionId,
        workspace: Workspace,
    },
    /// Workspaces were made in this repository: saved work may lie in it from now on.
    Repository(PathBuf),
    /// The session's branch stays in this repository and is Drover's still, also once the session is forgotten.
    KeepBranch {
        session: SessionId,
        common: PathBuf,
        kept: KeptBranch,
    },
    /// Such a branch is gone, or is somebody's.
    GiveUpBranch {
        session: SessionId,
        common: PathBuf,
    },
    /// The session is no longer known here. Its reports stay until they are acknowledged.
    Forget(SessionId),
    /// A step's mark, together with its saga's data.
    Mark {
        key: Key,
        step: &'static str,
        number: u32,
        mark: Mark,
        data: Box<str>,
    },
    Turn {
        key: Key,
        fault: Fault,
        told: bool,
    },
    Undone {
        key: Key,
        step: Box<str>,
    },
    /// Nothing that this saga made is left, or it is of no interest any more.
    End(Key),
    Report {
        session: SessionId,
        progress: bool,
        body: Bytes,
    },
    /// Everything up to here has arrived.
    Acknowledged(u64),
    /// The next report's sequence is higher than this: the controller has seen so many of ours.
    ReportAfter(u64),
    Cookie(Bytes),
}

impl Book {
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Assign { session, assignment } => {
                self.sessions.entry(*session).or_default().assignment.clone_from(assignment);
            }
            Write::Local { session, local } => {
                self.sessions.entry(*session).or_default().local.clone_from(local);
            }
            Write::Workspace { session, workspace } => {
                self.sessions.entry(*session).or_default().workspace = Some(workspace.clone());
            }
            Write::Repository(common) => drop(self.repositories.insert(common.clone())),
            Write::KeepBranch { session, common, kept } => {
                drop(self.kept.insert((*session, common.clone()), kept.clone()));
            }
            Write::GiveUpBranch { session, common } => {
                drop(self.kept.remove(&(*session, common.clone())));
            }
            Write::Forget(session) => {
                self.sessions.remove(session);
                self.sagas.retain(|key, _| key.session != *session || key.saga.starts_with(TRASH));
            }
            Write::Mark { key, step, number, mark, data } => {
                let record = self.sagas.entry(key.clone()).or_default();
                record.data.clone_from(data);
                record.steps.insert((*step).into(), (*number, *mark));
            }
            Write::Turn { key, fault, told } => {
                let heading = Heading::Back { fault: fault.clone(), told: *told };
                self.sagas.entry(key.clone()).or_default().heading = heading;
            }
            Write::Undone { key, step } => {
                if let Some(record) = self.sagas.get_mut(key) {
                    record.steps.remove(step);
                }
            }
            Write::End(key) => drop(self.sagas.remove(key)),
            Write::Report { session, progress, body } => {
                self.reports.retain(|_, report| report.session != *session || !report.progress);
                self.reported += 1;
                let report = Pending { session: *session, progress: *progress, body: body.clone() };
                self.reports.insert(self.reported, report);
            }
            Write::Acknowledged(sequence) => {
                self.reports.retain(|known, _| known > sequence);
                self.acknowledged = self.acknowledged.max(*sequence);
            }
            Write::ReportAfter(sequence) => self.reported = self.reported.max(*sequence),
            Write::Cookie(cookie) => self.cookie = Some(cookie.clone()),
        }
    }
}
