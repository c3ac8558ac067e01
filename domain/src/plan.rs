//! Plans: findings turned into ordered actions, each with its precondition, reason and risk, and everything that is left
//! alone, with why. Making one changes nothing; what was shown is what is applied, each action at most once.

mod make;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

pub use make::{Assessment, Branch, Made, make};

use crate::finding::{Cure, Finding};
use crate::id::PlanId;
use crate::time::Timestamp;

/// How long a plan may be applied after it was made.
pub const GOOD_FOR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub id: PlanId,
    pub purpose: Purpose,
    /// Who had it made.
    pub by: Box<str>,
    pub made: Timestamp,
    pub expires: Timestamp,
    pub actions: Vec<Action>,
    pub kept: Vec<KeptItem>,
    /// Of what is shown of it: actions and what is kept.
    pub digest: [u8; 32],
    pub applied: Option<Applied>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// What is recorded wrongly is put right.
    Repair,
    /// What nobody owns is removed.
    Cleanup,
}

/// Somebody said yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub by: Box<str>,
    pub at: Timestamp,
    /// Only what is safe was said yes to.
    pub only_safe: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub finding: Finding,
    pub cure: Cure,
    /// In words.
    pub what: Box<str>,
    pub reason: Box<str>,
    pub preconditions: Vec<Box<str>>,
    pub risk: Risk,
    /// The state of the remains when they were looked at; in another one nothing is done.
    pub stamp: Box<str>,
    pub result: Option<Done>,
}

/// What an action needs to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Nothing: it can lose nothing.
    Safe,
    /// Somebody's yes.
    Confirm,
    /// Force.
    Force,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub result: Outcome,
    pub text: Box<str>,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    /// Its precondition no longer held.
    Skipped,
    Failed,
}

/// Something that a plan leaves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptItem {
    pub subject: Box<str>,
    pub code: Kept,
    pub reason: Box<str>,
}

/// Why something is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kept {
    /// It is younger than its grace.
    Young,
    /// Somebody is inside.
    InUse,
    /// Its branch has commits that are nowhere else.
    Unmerged,
    /// Somebody has its branch checked out.
    CheckedOut,
    /// Nothing shows whose it is.
    NotOurs,
    /// It could not be judged.
    Unknown,
    /// Its node cannot be asked.
    NodeAway,
    /// Too much is gone at once.
    Brake,
    /// It needs to be named, and force.
    NeedsForce,
    /// Nothing of this kind ends it.
    NoCure,
}

impl Plan {
    /// What is to be done of it, and was not yet.
    pub fn open(&self) -> impl Iterator<Item = (u32, &Action)> {
        let only_safe = self.applied.as_ref().map(|applied| applied.only_safe);
        (1..).zip(&self.actions).filter(move |(_, action)| {
            let is_meant = only_safe.is_some_and(|only_safe| !only_safe || action.risk == Risk::Safe);
            is_meant && action.result.is_none()
        })
    }

    pub fn is_over(&self) -> bool {
        self.applied.is_some() && self.open().next().is_none()
    }
}

impl Purpose {
    pub fn word(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Cleanup => "cleanup",
        }
    }
}

impl Risk {
    pub fn word(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Confirm => "confirm",
            Self::Force => "force",
        }
    }
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

impl Kept {
    pub const ALL: [Self; 10] = [
        Self::Young,
        Self::InUse,
        Self::Unmerged,
        Self::CheckedOut,
        Self::NotOurs,
        Self::Unknown,
        Self::NodeAway,
        Self::Brake,
        Self::NeedsForce,
        Self::NoCure,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Young => "YOUNG",
            Self::InUse => "IN_USE",
            Self::Unmerged => "UNMERGED",
            Self::CheckedOut => "CHECKED_OUT",
            Self::NotOurs => "NOT_OURS",
            Self::Unknown => "UNKNOWN",
            Self::NodeAway => "NODE_AWAY",
            Self::Brake => "BRAKE",
            Self::NeedsForce => "NEEDS_FORCE",
            Self::NoCure => "NO_CURE",
        }
    }
}
