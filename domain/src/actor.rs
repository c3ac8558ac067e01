//! Who asks for a change. Every command carries its actor, and so does every change in the log.

use std::fmt;

use crate::id::NodeId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A person or script, by the name of its token.
    User(Box<str>),
    /// An agent, by its certificate.
    Node(NodeId),
    /// The controller itself: scheduler, leases, retention.
    Controller,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Node(id) => write!(f, "node:{id}"),
            Self::Controller => f.write_str("controller"),
        }
    }
}
