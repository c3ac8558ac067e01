//! drover-controller: reads its settings, starts the controller, and ends it when it is told to.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use drover_controller::app;
use drover_controller::config::{Config, Flags};
use drover_daemon::clock::Clock;
use drover_daemon::shutdown::Shutdown;
use drover_daemon::tasks::Tasks;
use drover_daemon::telemetry;

/// The control plane of Drover: keeps the registry of sessions, schedules them, serves the API.
#[derive(Debug, Parser)]
#[command(name = "drover-controller", version, about, long_about = None)]
struct Cli {
    /// Settings; every key can also be given as DROVER_<KEY>
    #[arg(long, value_name = "FILE", env = "DROVER_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:7437]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where the registry, the authority and the operator's token are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// A name or address that clients dial, for the certificate (may be given more than once)
    #[arg(long = "dial-name", value_name = "NAME")]
    names: Vec<String>,
    /// What to log: info, debug, or a filter such as drover_controller=debug,info
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let flags = Flags { listen: cli.listen, data_dir: cli.data_dir, names: cli.names, log: cli.log };
    let config = match Config::load(cli.config.as_deref(), flags) {
        Ok(config) => config,
        Err(problems) => return fail(&format!("the settings cannot be used:\n{problems}"), 2),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), 1),
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}"), 1),
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let telemetry = telemetry::start("drover-controller", &config.telemetry)?;
    let (shutdown, signals) = (Shutdown::default(), Tasks::new());
    signals.spawn(shutdown.clone().on_signals());
    let listener = tokio::net::TcpListener::bind(config.listen).await;
    let listener =
        listener.map_err(|error| anyhow::anyhow!("cannot listen on {}: {error}", config.listen))?;
    let patience = config.shutdown;
    let running = app::start(config, listener, Clock::system()).await?;
    shutdown.gracefully.cancelled().await;
    tracing::info!("ending");
    tokio::select! {
        _ = running.shutdown() => {}
        () = shutdown.now.cancelled() => tracing::warn!("ending at once"),
    }
    telemetry.close(patience);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "there is no log yet, or no more")]
fn fail(text: &str, code: u8) -> ExitCode {
    eprintln!("drover-controller: {text}");
    ExitCode::from(code)
}
