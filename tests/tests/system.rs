//! Drover as a whole: real programs that are killed, misused and crowded, on real repositories. What is promised must
//! hold afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod system {
    mod chaos;
    mod crowds;
    mod drains;
    mod endings;
    mod kills;
    mod languages;
    mod lasting;
    mod leftovers;
    mod logs;
    mod mirrors;
    mod mistakes;
    mod older;
    mod orphans;
    mod saved;
    mod storms;
    mod strangers;
    mod surviving;
    mod sweep;
    mod traces;
    mod two_agents;
    mod users;
}
