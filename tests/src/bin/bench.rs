//! bench: measures Drover against bare ways to the same end, and prints a table. Run by cargo, it has the programs that it
//! measures built first.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use drover_daemon::shutdown::Shutdown;
use drover_daemon::tasks::Tasks;
use drover_tests::bench::{self, GOALS, Scale, bare};

/// Measures Drover against bare ways to the same end.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Smaller sizes: minutes in all
    Quick { rows: Vec<String> },
    /// The sizes of the goals: maybe an hour
    All { rows: Vec<String> },
    #[command(hide = true)]
    BareServer(bare::BareArgs),
    #[command(hide = true)]
    BareClient { address: String, authority: std::path::PathBuf, answer: u32 },
    #[command(hide = true)]
    Spawns(bench::SpawnArgs),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Quick { rows } => measure(Scale::QUICK, rows).await,
        Command::All { rows } => measure(Scale::ALL, rows).await,
        Command::BareServer(args) => bare::serve(args).await.map(|()| ExitCode::SUCCESS),
        Command::BareClient { address, authority, answer } => {
            bare::once(&address, &authority, answer).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Spawns(args) => {
            writeln!(std::io::stdout(), "{}", bench::spawns(args).await?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The programs as they are now. Without cargo those that are there are measured.
fn build() -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut build = std::process::Command::new(cargo);
    build.args(["build", "--quiet", "--workspace", "--bins", "--manifest-path", manifest]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    anyhow::ensure!(build.status()?.success(), "the programs to measure could not be built");
    Ok(())
}

async fn measure(scale: Scale, rows: Vec<String>) -> anyhow::Result<ExitCode> {
    if let Some(odd) = rows.iter().find(|row| !GOALS.iter().any(|goal| goal.eq_ignore_ascii_case(row))) {
        writeln!(std::io::stderr(), "{odd} is not measured; these are: {}", GOALS.join(" "))?;
        return Ok(ExitCode::from(2));
    }
    build()?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .with_target(false)
        .init();
    let home = tempfile::Builder::new().prefix("drover-bench-").tempdir()?;
    // Everything that is made from here on is made in there.
    if tempfile::env::override_temp_dir(home.path()).is_err() {
        anyhow::bail!("the directory for temporary files was settled before");
    }
    let (shutdown, signals) = (Shutdown::default(), Tasks::new());
    signals.spawn(shutdown.clone().on_signals());
    let table = tokio::select! {
        table = bench::run(scale, &rows) => Some(table),
        () = shutdown.gracefully.cancelled() => None,
    };
    bench::end_processes_below(home.path());
    bench::remove_groups_of(home.path());
    home.close()?;
    match table {
        Some(table) => {
            write!(std::io::stdout(), "{table}")?;
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(ExitCode::from(130)),
    }
}
