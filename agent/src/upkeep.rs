//! What an agent looks after by itself, now and then: logs of ended runs that are too old or too many, and saved work that
//! has expired. Nothing of it is pressing; what fails is tried again at the next round.

use std::time::Duration;

use drover_daemon::tasks::Tasks;

use crate::converge::Converge;
use crate::logs::keep::Rules;
use crate::runtime::Processes;

const EVERY: Duration = Duration::from_secs(600);

/// Goes its rounds until the tasks end.
pub(crate) async fn keep(converge: Converge, runs: Processes, logs: Rules, tasks: Tasks) {
    loop {
        tokio::select! { () = round(&converge, &runs, logs, &tasks) => {}, () = tasks.cancelled() => return }
        tokio::select! { () = tokio::time::sleep(EVERY) => {}, () = tasks.cancelled() => return }
    }
}

async fn round(converge: &Converge, runs: &Processes, logs: Rules, tasks: &Tasks) {
    let of = runs.clone();
    match tasks.spawn_blocking(move || of.keep_logs(logs)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!("old logs are not deleted yet: {error}"),
        Err(error) => tracing::warn!("old logs are not deleted yet: {error}"),
    }
    match converge.purge_expired().await {
        Ok(purged) => purged.iter().for_each(|item| tracing::info!(item = item.id, "saved work has expired")),
        Err(error) => tracing::warn!("expired saved work is not deleted yet: {error}"),
    }
}
