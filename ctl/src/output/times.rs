//! Times and sizes for people: short, in one or two units.

use std::time::Duration;

use drover_proto::convert::time::from_stamp;
use prost_types::Timestamp;

/// `5s`, `12m`, `3h20m`, `4d6h`.
pub fn short(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: u64, unit: char, small: u64, rest: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{rest}") }
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..600 => two(minutes, 'm', seconds % 60, 's'),
        600..3600 => format!("{minutes}m"),
        3600..86_400 => two(hours, 'h', minutes % 60, 'm'),
        _ => two(days, 'd', hours % 24, 'h'),
    }
}

/// How long ago a stamp was; nothing if there is none. A clock that is behind makes it 0s.
pub fn age(now: i64, stamp: Option<&Timestamp>) -> String {
    stamp.map(|stamp| short(since(now, stamp))).unwrap_or_default()
}

/// From a stamp to `now`.
pub fn since(now: i64, stamp: &Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(from_stamp(stamp).millis())).unwrap_or(0))
}

/// From `now` to a stamp; nothing if that is over.
pub fn until(now: i64, stamp: &Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(from_stamp(stamp).millis().saturating_sub(now)).unwrap_or(0))
}

/// Between two stamps of one clock.
pub fn between(from: &Timestamp, to: &Timestamp) -> Duration {
    from_stamp(to).since(from_stamp(from))
}

/// A stamp in full, in UTC, to the second.
pub fn stamp(stamp: &Timestamp) -> String {
    Timestamp { nanos: 0, ..*stamp }.to_string()
}

/// A length from the wire, for people.
pub fn length(length: &prost_types::Duration) -> String {
    short(Duration::from_secs(u64::try_from(length.seconds).unwrap_or(0)))
}

/// `512 B`, `4.2 KiB`, `1.0 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| count >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(count) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}

/// `1 file`, `2 files`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short() {
        let table = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (95, "1m35s"),
            (700, "11m"),
            (3600, "1h"),
            (12_000, "3h20m"),
            (86_400, "1d"),
            (367_200, "4d6h"),
        ];
        for (seconds, text) in table {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes_have_one_digit_after_the_point() {
        let table =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (4300, "4.1 KiB"), (1 << 30, "1.0 GiB")];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
        assert!(bytes(u64::MAX).ends_with("TiB"));
    }

    #[test]
    fn a_stamp_from_the_future_is_no_time_ago() {
        let future = Timestamp { seconds: 100, nanos: 0 };
        assert_eq!(age(50_000, Some(&future)), "0s");
        assert_eq!(age(160_000, Some(&future)), "1m");
        assert_eq!(age(0, None), "");
        assert_eq!(until(50_000, &future), Duration::from_secs(50));
        assert_eq!(until(160_000, &future), Duration::ZERO);
    }
}
