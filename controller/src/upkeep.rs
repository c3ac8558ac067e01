//! What keeps the whole in order: looks at the nodes, findings, plans and how they are carried out. Loops take no input;
//! what they hold in memory can be looked at anew at any time.

mod ask;
pub mod carry;
pub mod findings;
pub mod looks;
pub mod planning;
pub mod rounds;

use std::time::Duration;

use drover_domain::reconcile::Rules;

pub use looks::Looks;

/// How often is looked, and what follows by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Between two looks at a node.
    pub every: Duration,
    /// Between two looks that take nothing for granted.
    pub full: Duration,
    pub rules: Rules,
    /// Whether what is safe is done without being asked for.
    pub apply: bool,
}

impl Terms {
    pub const DEFAULT: Self = Self {
        every: Duration::from_secs(60),
        full: Duration::from_secs(30 * 60),
        rules: Rules::DEFAULT,
        apply: true,
    };
}
