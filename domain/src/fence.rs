//! The fence: which placement of a session is the one that counts. It only grows, also across a registry that was
//! restored, because the generation rises then.

use std::fmt;

/// (registry generation, epoch of the session), compared in that order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    pub generation: u64,
    pub epoch: u64,
}

/// How the fence on something that arrived stands to the one that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    Same,
    /// What arrived is of an older placement: an ordinary answer, counted, without effect.
    Stale,
    /// What arrived knows of a newer placement than we do: our own knowledge is old.
    Newer,
}

impl Fence {
    pub fn judge(self, arrived: Self) -> Against {
        match arrived.cmp(&self) {
            std::cmp::Ordering::Equal => Against::Same,
            std::cmp::Ordering::Less => Against::Stale,
            std::cmp::Ordering::Greater => Against::Newer,
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_generation_outranks_any_epoch() {
        let old = Fence { generation: 1, epoch: 900 };
        let new = Fence { generation: 2, epoch: 1 };
        assert_eq!(new.judge(old), Against::Stale);
        assert_eq!(old.judge(new), Against::Newer);
        assert_eq!(new.judge(new), Against::Same);
    }
}
