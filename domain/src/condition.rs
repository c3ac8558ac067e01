//! Facts about a session that can be derived from the registry: never stored, always true to what they come from.

use std::time::Duration;

use crate::node::{Node, Standing};
use crate::session::{Session, State};
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub kind: Kind,
    pub truth: Truth,
    pub reason: &'static str,
    /// Since when it is so, as far as that is known.
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    NodeReachable,
    WorkspacePresent,
    ProcessAlive,
    DeadlineNear,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::NodeReachable => "NodeReachable",
            Self::WorkspacePresent => "WorkspacePresent",
            Self::ProcessAlive => "ProcessAlive",
            Self::DeadlineNear => "DeadlineNear",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    /// It is so according to the last report, but the node cannot be asked.
    Unknown,
}

/// A deadline this close is near.
pub const NEAR: Duration = Duration::from_secs(300);

/// What can be said of `session`, whose node (if it is on one) is `node`.
pub fn of(session: &Session, node: Option<&Node>, now: Timestamp) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let heard = node.is_none_or(|node| node.standing == Standing::Reachable);
    let seen = |truth: bool| match (truth, heard) {
        (_, false) => Truth::Unknown,
        (true, true) => Truth::True,
        (false, true) => Truth::False,
    };
    if let Some(node) = node {
        let truth = if heard { Truth::True } else { Truth::False };
        conditions.push(Condition {
            kind: Kind::NodeReachable,
            truth,
            reason: reason_of(node.standing),
            since: node.since,
        });
    }
    let cleaned = matches!(session.state, State::Cleaned { .. });
    if let Some(reason) = match (&session.workspace, cleaned) {
        (Some(_), false) => Some("Reported"),
        (None, false) if session.state.placement().is_some() => Some("NotMadeYet"),
        (Some(_) | None, _) => None,
    } {
        let truth = seen(session.workspace.is_some());
        conditions.push(Condition { kind: Kind::WorkspacePresent, truth, reason, since: session.since });
    }
    if let State::Running { run, .. } = &session.state {
        conditions.push(Condition {
            kind: Kind::ProcessAlive,
            truth: seen(true),
            reason: "RunStarted",
            since: run.started,
        });
        if let Some(deadline) = run.deadline
            && now.after(NEAR) >= deadline
        {
            conditions.push(Condition {
                kind: Kind::DeadlineNear,
                truth: Truth::True,
                reason: "RunTimeout",
                since: deadline,
            });
        }
    }
    conditions
}

fn reason_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Joined => "NeverHeard",
        Standing::Reachable => "HeartbeatsArrive",
        Standing::Unreachable => "HeartbeatsMissing",
        Standing::Lost => "NodeLost",
        Standing::Revoked => "NodeRevoked",
    }
}
