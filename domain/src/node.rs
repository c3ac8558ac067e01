//! A machine with an agent: what it offers, how it stands, and the cookie that tells a copied agent from the real one.
//! When it was last heard is not here: that changes with every beat and is kept in memory by who hears it.

use crate::fence::Fence;
use crate::id::{NodeId, RunId, SessionId, TokenId};
use crate::labels::Labels;
use crate::name::Name;
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub name: Name,
    /// What it said of itself when it last linked.
    pub facts: NodeFacts,
    pub standing: Standing,
    /// Takes no new work.
    pub cordoned: bool,
    /// Is being emptied; then it is cordoned too.
    pub drain: Option<Drain>,
    pub joined: Timestamp,
    pub revision: u64,
    /// When its standing last changed.
    pub since: Timestamp,
    pub cookie: Cookie,
    /// The last of its reports whose effect is committed; earlier ones are repetitions.
    pub acknowledged: u64,
}

/// That a node is to be without runs. It ends when the node is uncordoned, not when the last run has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Who asked for it last.
    pub by: Box<str>,
    pub since: Timestamp,
    /// From then on what still runs is stopped. None: it ends by itself.
    pub deadline: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    pub machine: Box<str>,
    pub hostname: Box<str>,
    pub agent_version: Box<str>,
    pub boot: Box<str>,
    /// One start of the agent.
    pub incarnation: Box<str>,
    pub labels: Labels,
    pub slots: u32,
    pub capabilities: Vec<Box<str>>,
    /// What a person should know of how it started: a ledger that was lost, damaged or older than it should be.
    pub notes: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Enrolled, never heard.
    Joined,
    Reachable,
    Unreachable,
    Lost,
    /// Its certificate counts no more.
    Revoked,
}

impl Standing {
    pub const ALL: [Self; 5] = [Self::Joined, Self::Reachable, Self::Unreachable, Self::Lost, Self::Revoked];

    pub fn word(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::Revoked => "revoked",
        }
    }
}

/// SHA-256 of the cookie that the agent must show at its next link. The previous one counts too: the agent may have
/// died between getting a new one and storing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    pub current: Option<[u8; 32]>,
    pub previous: Option<[u8; 32]>,
}

impl Cookie {
    /// Whether an agent that shows `shown` is the one that we know. Before the first roll it has none to show.
    pub fn accepts(&self, shown: Option<&[u8; 32]>) -> bool {
        match shown {
            Some(shown) => [&self.current, &self.previous].into_iter().flatten().any(|known| known == shown),
            None => self.previous.is_none(),
        }
    }

    /// The cookie after the agent showed `shown` and is being handed `next`.
    pub fn rolled(&self, shown: Option<[u8; 32]>, next: [u8; 32]) -> Self {
        Self { current: Some(next), previous: shown }
    }
}

/// What a node knows of what the registry once told it. All of it was committed before it was told, so that a registry
/// which knows less is an older one; a copied or rolled-back agent knows less than the registry, never more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The last of its reports that it was told to be durable.
    pub acknowledged: u64,
    pub held: Vec<Holding>,
}

/// A session that a node holds, as far as the registry must have known it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub session: SessionId,
    pub fence: Fence,
    /// Of the newest run that it was told to make. 0: none.
    pub ordinal: u32,
    /// That run, if it has not ended.
    pub run: Option<RunId>,
}

/// New work is refused, on a node or everywhere. It never hinders stopping, reading or repairing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeMode {
    /// None: everywhere.
    pub node: Option<NodeId>,
    pub reason: Box<str>,
    pub by: Box<str>,
    pub since: Timestamp,
    /// The controller ends it as soon as the reason holds no more.
    pub automatic: bool,
}

/// A join token: good for one node, once, for a while. The secret itself is nowhere but with who was given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub secret_hash: [u8; 32],
    pub expires: Timestamp,
    pub made_by: Box<str>,
    pub made: Timestamp,
    pub used: Option<(NodeId, Timestamp)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_or_the_previous_cookie_counts_and_an_older_one_does_not() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        let fresh = Cookie::default();
        assert!(fresh.accepts(None));
        let first = fresh.rolled(None, a);
        assert!(first.accepts(None), "the answer with the first cookie may have been lost");
        assert!(first.accepts(Some(&a)));
        let second = first.rolled(Some(a), b);
        assert!(second.accepts(Some(&a)) && second.accepts(Some(&b)));
        assert!(!second.accepts(None), "an agent that had a cookie and has none was rolled back");
        let third = second.rolled(Some(b), c);
        assert!(!third.accepts(Some(&a)));
    }
}
