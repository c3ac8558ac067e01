//! A short run of chaos: what it counts is within its goals, and nothing that was promised is broken. `DROVER_CHAOS` says
//! how many sessions.

use drover_tests::chaos::{Scale, run};

const USUAL: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "who asked for a long run wants its figures")]
async fn after_chaos_everything_holds_and_almost_nothing_waits_for_a_human() {
    let sessions = std::env::var("DROVER_CHAOS").ok().map_or(USUAL, |text| text.parse().unwrap());
    let report = run(Scale { seed: 3, sessions, agents: 3, steps_per_fault: 4 }).await;
    println!("{report}");
    assert!(report.breaches.is_empty(), "{report}");
    assert!(report.orphans.percent() < 1.0, "{report}");
    assert!(report.cleaned.of == 0 || report.cleaned.percent() >= 99.0, "{report}");
}
