//! drover-agent: reads its settings, starts the agent, and ends it when it is told to. A supervisor's call is served
//! before anything else begins.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use cli::Cli;
use drover_agent::app::App;
use drover_agent::config::Config;
use drover_agent::shim;
use drover_daemon::clock::Clock;
use drover_daemon::shutdown::Shutdown;
use drover_daemon::tasks::Tasks;
use drover_daemon::telemetry::{self, Telemetry};

fn main() -> ExitCode {
    if let Some(directory) = shim::requested(std::env::args_os()) {
        return shim::main(&directory);
    }
    let cli = Cli::parse();
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return fail(&format!("cannot find its own program: {error}"), 1),
    };
    let (config, telemetry) = match Config::load(cli.config.as_deref(), &cli.flags(), program) {
        Ok(loaded) => loaded,
        Err(problems) => return fail(&format!("the settings cannot be used:\n{problems}"), 2),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), 1),
    };
    match runtime.block_on(run(config, &telemetry)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

async fn run(config: Config, telemetry: &Telemetry) -> anyhow::Result<()> {
    let telemetry = telemetry::start("drover-agent", telemetry)?;
    let (shutdown, signals, tasks) = (Shutdown::default(), Tasks::new(), Tasks::new());
    signals.spawn(shutdown.clone().on_signals());
    let patience = config.patience;
    let agent = tokio::select! {
        started = App::start(config, Clock::system(), tasks) => started?,
        () = shutdown.gracefully.cancelled() => return Ok(()),
    };
    shutdown.gracefully.cancelled().await;
    tracing::info!("ending; runs go on");
    tokio::select! {
        in_order = agent.shutdown(patience) => if !in_order {
            tracing::warn!("the step in hand was cut off after {patience:.0?}; the next start takes it up");
        },
        () = shutdown.now.cancelled() => tracing::warn!("ending at once"),
    }
    telemetry.close(patience);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "there is no log yet, or no more")]
fn fail(text: &str, code: u8) -> ExitCode {
    eprintln!("drover-agent: {text}");
    ExitCode::from(code)
}
