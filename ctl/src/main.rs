//! droverctl: the command line of Drover, and Drover whole on one machine (`dev`). Only this file decides how the
//! process ends.

#![allow(unreachable_pub, reason = "nothing of a binary can be reached from elsewhere")]

mod attached;
mod chance;
mod cli;
mod client;
mod commands;
mod context;
mod error;
mod follow;
mod machine;
mod output;
mod progress;
mod prompt;
mod repository;
mod variables;

use std::process::ExitCode;

use cli::{Asked, Cli};
use client::trace::Root;
use commands::Invocation;
use error::{Exit, Failure};
use output::Output;
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    // A run's supervisor is this program too, and wants nothing of what follows.
    #[cfg(feature = "dev")]
    if let Some(code) = commands::dev::shim() {
        return code;
    }
    match cli::parse(std::env::args_os()) {
        Ok(Asked::Command(cli)) => obey(*cli),
        Ok(Asked::Planned(name)) => {
            let failure = Failure::new(Exit::Failed, format!("`droverctl {name}` is not built yet"))
                .next("droverctl --help lists what is");
            end(&Output::default(), Err(failure))
        }
        Err(error) => {
            // If even this cannot be printed, the code still tells.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn obey(cli: Cli) -> ExitCode {
    let invocation = Invocation::new(cli.global);
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(&invocation.out, Err(Failure::new(Exit::Failed, "cannot start").why(error)));
        }
    };
    let result = runtime.block_on(async {
        let root = Root::begin(commands::name(&cli.command), commands::serves(&cli.command))?;
        let result = commands::obey(&invocation, cli.command).await;
        root.close();
        result
    });
    let code = end(&invocation.out, result);
    // A question that nobody answered may still wait for its line.
    runtime.shutdown_background();
    code
}

/// One thread is enough to ask a controller; to be one takes all.
fn runtime(command: &cli::Command) -> std::io::Result<Runtime> {
    let mut builder =
        if commands::serves(command) { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.enable_all().build()
}

fn end(out: &Output, result: Result<u8, Failure>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.is_silent() {
                out.error(&failure.to_string());
            }
            ExitCode::from(failure.exit.code())
        }
    }
}
