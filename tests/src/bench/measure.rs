//! The measuring loop: a round takes a baseline, the product and a baseline again, so that a machine that gets slower
//! meanwhile is no merit of either. What is judged is the median of the rounds' ratios.

use std::time::Duration;

use drover_daemon::clock::Clock;

/// Fewer rounds than this say nothing.
pub(crate) const ROUNDS: usize = 7;

/// Two ways to the same end. Each call takes one sample, in the unit of the row.
pub(crate) trait Contest {
    async fn bare(&mut self) -> anyhow::Result<f64>;
    async fn product(&mut self) -> anyhow::Result<f64>;
}

/// What was found: the numbers that are judged, and the figures behind them for who wants to know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    pub judged: Vec<f64>,
    pub unit: Unit,
    pub figures: String,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Times,
    Seconds,
    PerSecond,
    Kibibytes,
    Mebibytes,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Times => format!("{value:.3} ×"),
            Self::Seconds if value < 0.001 => format!("{:.0} µs", value * 1e6),
            Self::Seconds if value < 1.0 => format!("{:.2} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Kibibytes => format!("{value:.2} KiB"),
            Self::Mebibytes => format!("{value:.2} MiB"),
        }
    }
}

impl Measured {
    /// Samples that are judged as they are.
    pub(crate) fn plain(judged: Vec<f64>, unit: Unit, figures: impl Into<String>) -> Self {
        Self { judged, unit, figures: figures.into() }
    }
}

/// Runs the rounds at once: for what cannot be tried beforehand without leaving a trace.
pub(crate) async fn rounds(contest: &mut impl Contest, unit: Unit) -> anyhow::Result<Measured> {
    let (mut ratios, mut bare, mut product) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = contest.bare().await?;
        let sample = contest.product().await?;
        let after = contest.bare().await?;
        ratios.push(ratio(before, sample, after));
        bare.extend([before, after]);
        product.push(sample);
    }
    let figures =
        format!("bare {}, product {}", unit.show(median(&mut bare)), unit.show(median(&mut product)));
    Ok(Measured { judged: ratios, unit: Unit::Times, figures })
}

/// The same after one try of each that does not count.
pub(crate) async fn warm_rounds(contest: &mut impl Contest, unit: Unit) -> anyhow::Result<Measured> {
    contest.bare().await?;
    contest.product().await?;
    rounds(contest, unit).await
}

/// The product's part of what the baselines around it took.
pub(crate) fn ratio(before: f64, product: f64, after: f64) -> f64 {
    product / f64::midpoint(before, after)
}

/// The middle one, or what is in the middle of the two in the middle. NaN of nothing.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (odd, half) if odd % 2 == 1 => values[half],
        (_, half) => f64::midpoint(values[half - 1], values[half]),
    }
}

/// How long something takes.
#[derive(Debug)]
pub(crate) struct Stopwatch(Clock, Duration);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let clock = Clock::system();
        let started = clock.boot();
        Self(clock, started)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.boot().saturating_sub(self.1)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&mut [1.0]), 1.0);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn a_ratio_is_against_both_baselines() {
        assert_eq!(ratio(1.0, 3.0, 3.0), 1.5);
    }

    struct Slowing(f64);

    impl Contest for Slowing {
        async fn bare(&mut self) -> anyhow::Result<f64> {
            self.0 += 1.0;
            Ok(self.0)
        }

        async fn product(&mut self) -> anyhow::Result<f64> {
            self.0 += 1.0;
            Ok(2.0 * self.0)
        }
    }

    #[tokio::test]
    async fn a_machine_that_gets_slower_evenly_changes_no_ratio() {
        let measured = rounds(&mut Slowing(0.0), Unit::Seconds).await.unwrap();
        assert_eq!(measured.judged, vec![2.0; ROUNDS]);
        assert_eq!(measured.figures, "bare 11.00 s, product 22.00 s");
    }

    #[test]
    fn numbers_are_written_as_a_person_reads_them() {
        assert_eq!(Unit::Seconds.show(0.000_042), "42 µs");
        assert_eq!(Unit::Seconds.show(0.0421), "42.10 ms");
        assert_eq!(Unit::Seconds.show(4.2), "4.20 s");
        assert_eq!(Unit::PerSecond.show(18_800.4), "18800/s");
        assert_eq!(Unit::Times.show(0.5), "0.500 ×");
    }
}
