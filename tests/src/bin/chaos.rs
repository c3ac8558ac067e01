//! chaos: what becomes of hundreds of sessions while programs are killed and things are deleted by hand. Prints the figures,
//! and ends with 1 if something that was promised does not hold.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use drover_daemon::shutdown::Shutdown;
use drover_daemon::tasks::Tasks;
use drover_tests::chaos::{self, Scale};

/// What becomes of hundreds of sessions while programs are killed and things are deleted by hand.
#[derive(Debug, Parser)]
#[command(name = "chaos", version)]
struct Cli {
    /// The same seed asks for the same things in the same order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 300)]
    sessions: usize,
    #[arg(long, default_value_t = 3)]
    agents: usize,
    /// So many steps of the work between two faults
    #[arg(long, default_value_t = 6)]
    steps_per_fault: usize,
}

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let Cli { seed, sessions, agents, steps_per_fault } = Cli::parse();
    let (shutdown, signals) = (Shutdown::default(), Tasks::new());
    signals.spawn(shutdown.clone().on_signals());
    // Whatever it started ends with it, also if somebody has had enough.
    let report = tokio::select! {
        report = chaos::run(Scale { seed, sessions, agents, steps_per_fault: steps_per_fault.max(1) }) => report,
        () = shutdown.gracefully.cancelled() => return Ok(ExitCode::from(130)),
    };
    write!(std::io::stdout(), "{report}")?;
    Ok(if report.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
