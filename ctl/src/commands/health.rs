//! `droverctl health`: how healthy everything is; the exit code tells it to scripts.

use std::time::Duration;

use drover_proto::v1::{GetHealthRequest, GetHealthResponse, HealthLevel};

use super::Invocation;
use crate::cli::HealthArgs;
use crate::client::{Api, Client};
use crate::error::{Exit, Failure};
use crate::output::View;

/// Between two looks. WatchHealth is not built yet.
const PERIOD: Duration = Duration::from_secs(3);

pub async fn health(invocation: &Invocation, args: HealthArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    let mut health = get(&client).await?;
    if !args.watch {
        invocation.out.data(&health)?;
        return Ok(code(health.level()));
    }
    loop {
        invocation.out.item(&health, |look| health.show(look))?;
        let shown = health;
        health = loop {
            tokio::time::sleep(PERIOD).await;
            let next = get(&client).await?;
            if next != shown {
                break next;
            }
        };
    }
}

async fn get(client: &Client) -> Result<GetHealthResponse, Failure> {
    let call = |mut api: Api, request| async move { api.maintenance.get_health(request).await };
    client.call(GetHealthRequest {}, call).await
}

fn code(level: HealthLevel) -> u8 {
    match level {
        HealthLevel::Healthy => 0,
        HealthLevel::CleanupAvailable => 10,
        HealthLevel::CleanupRequired => 11,
        HealthLevel::Manual => 12,
        HealthLevel::Unspecified => Exit::Failed.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_its_exit_code() {
        let table = [
            (HealthLevel::Healthy, 0),
            (HealthLevel::CleanupAvailable, 10),
            (HealthLevel::CleanupRequired, 11),
            (HealthLevel::Manual, 12),
            (HealthLevel::Unspecified, 1),
        ];
        for (level, expected) in table {
            assert_eq!(code(level), expected);
        }
    }
}
