//! `droverctl health`: how healthy everything is; the exit code tells it to scripts.

use drover_proto::v1::{GetHealthRequest, HealthLevel, WatchHealthRequest};

use super::{Invocation, present};
use crate::cli::HealthArgs;
use crate::client::Api;
use crate::error::{Exit, Failure};
use crate::output::View;

pub async fn health(invocation: &Invocation, args: HealthArgs) -> Result<u8, Failure> {
    let client = invocation.client().await?;
    if !args.watch {
        let call = |mut api: Api, request| async move { api.maintenance.get_health(request).await };
        let health = client.call(GetHealthRequest {}, call).await?;
        invocation.out.data(&health)?;
        return Ok(code(health.level()));
    }
    let call = |mut api: Api, request| async move { api.maintenance.watch_health(request).await };
    let mut news = client.open(WatchHealthRequest {}, call).await?;
    while let Some(told) = news.message().await.map_err(|status| client.failure(&status))? {
        let health = present(told.health, "health")?;
        invocation.out.item(&health, |look| health.show(look))?;
    }
    Err(Failure::new(Exit::Unavailable, "the controller ended the watch"))
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
