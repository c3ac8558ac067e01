//! Git, in one place. The command line, through one runner, does everything that changes a repository or talks to a
//! network; git2 (in `read` only) looks. No command runs a repository's hooks, and what else a repository may
//! control runs as the session's user with a clean environment. Knows nothing of sessions' states.

pub mod failure;
mod holders;
pub mod left;
pub mod limits;
pub mod lock;
pub mod loose;
pub mod mirror;
mod patience;
pub mod read;
pub mod runner;
mod stale;
pub mod worktrees;
