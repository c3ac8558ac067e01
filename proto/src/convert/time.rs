//! Stamps and lengths.

use std::time::Duration;

use drover_domain::time::Timestamp;

use super::Invalid;

pub fn stamp(at: Timestamp) -> prost_types::Timestamp {
    let millis = at.millis();
    let nanos = i32::try_from(millis.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos }
}

pub fn from_stamp(at: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_millis(at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000))
}

pub fn length(length: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0) }
}

pub fn from_length(field: &str, length: &prost_types::Duration) -> Result<Duration, Invalid> {
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(length.seconds), u32::try_from(length.nanos)) else {
        return Err(Invalid::one(field, "is less than nothing"));
    };
    Ok(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())))
}

/// A length that may be left out.
pub fn maybe_length(
    field: &str,
    length: Option<&prost_types::Duration>,
) -> Result<Option<Duration>, Invalid> {
    length.map(|length| from_length(field, length)).transpose()
}
