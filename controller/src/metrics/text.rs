//! Prometheus' text form: every family says once what it is, then come its samples.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bounds of lengths of time, in seconds.
pub(super) const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
/// The bounds of numbers of commands in a batch.
pub(super) const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counts by upper bound, as Prometheus wants them.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    count: AtomicU64,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let buckets = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, count: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, value: f64) {
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            if value <= *bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        let millionths = Duration::try_from_secs_f64(value).unwrap_or_default().as_micros();
        self.sum.fetch_add(u64::try_from(millionths).unwrap_or(0), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Text that grows by one family after the other.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.begin(name, "gauge", help);
        self.sample(name, "", value);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl fmt::Display) {
        self.begin(name, "counter", help);
        self.sample(name, "", value);
    }

    /// Says what `name` is; its samples follow.
    pub(super) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// `labels` as they stand between the braces.
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: impl fmt::Display) {
        match labels {
            "" => self.line(format_args!("{name} {value}")),
            labels => self.line(format_args!("{name}{{{labels}}} {value}")),
        }
    }

    pub(super) fn histogram(&mut self, name: &str, labels: &str, of: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        // Read before the buckets: a bucket may be ahead of the count for a moment, never a count that no bucket has.
        let count = of.count.load(Ordering::Relaxed);
        for (bound, bucket) in of.bounds.iter().zip(&of.buckets) {
            let value = bucket.load(Ordering::Relaxed).min(count);
            self.line(format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {value}"));
        }
        self.line(format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"));
        let sum = Duration::from_micros(of.sum.load(Ordering::Relaxed)).as_secs_f64();
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.0, "{text}");
    }
}
