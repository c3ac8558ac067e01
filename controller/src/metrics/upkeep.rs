//! What was found, what was done about it, and what was left alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use drover_domain::finding::Code;
use drover_domain::plan::{Kept, Outcome};

use super::Metrics;
use super::text::{Histogram, SECONDS, Text};

#[derive(Debug)]
pub(super) struct Upkeep {
    counts: Mutex<Counts>,
    ages: Histogram,
}

#[derive(Debug, Default)]
struct Counts {
    detected: BTreeMap<Code, u64>,
    repaired: BTreeMap<(Code, Outcome), u64>,
    cleaned: BTreeMap<(Code, Outcome), u64>,
    kept: BTreeMap<Kept, u64>,
    told: [u64; 2],
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { counts: Mutex::default(), ages: Histogram::new(SECONDS) }
    }
}

impl Metrics {
    /// A finding is new. It was so for this long.
    pub fn detected(&self, code: Code, age: Duration) {
        self.0.upkeep.with(|counts| *counts.detected.entry(code).or_default() += 1);
        self.0.upkeep.ages.observe(age.as_secs_f64());
    }

    /// An action came to its end.
    pub fn acted(&self, is_repair: bool, code: Code, outcome: Outcome) {
        self.0.upkeep.with(|counts| {
            let of = if is_repair { &mut counts.repaired } else { &mut counts.cleaned };
            *of.entry((code, outcome)).or_default() += 1;
        });
    }

    /// A round left something alone.
    pub fn kept(&self, why: Kept) {
        self.0.upkeep.with(|counts| *counts.kept.entry(why).or_default() += 1);
    }
}

impl Metrics {
    /// Somebody was told, or could not be.
    pub fn notified(&self, is_told: bool) {
        self.0.upkeep.with(|counts| counts.told[usize::from(is_told)] += 1);
    }
}

impl Upkeep {
    fn with(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn write(&self, text: &mut Text) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let name = "drover_orphans_detected_total";
        text.begin(name, "counter", "Findings that appeared.");
        for (code, count) in &counts.detected {
            text.sample(name, &format!("code=\"{}\"", code.word()), count);
        }
        for (name, help, of) in [
            ("drover_repair_actions_total", "Actions of repair plans by how they ended.", &counts.repaired),
            ("drover_cleanup_actions_total", "Actions of cleanup plans by how they ended.", &counts.cleaned),
        ] {
            text.begin(name, "counter", help);
            for ((code, outcome), count) in of {
                let labels = format!("code=\"{}\",result=\"{}\"", code.word(), outcome.word());
                text.sample(name, &labels, count);
            }
        }
        let name = "drover_kept_total";
        text.begin(name, "counter", "Things that a round left alone, each time it did.");
        for (why, count) in &counts.kept {
            text.sample(name, &format!("reason=\"{}\"", why.word()), count);
        }
        let name = "drover_notifications_total";
        text.begin(name, "counter", "Attempts to tell somebody.");
        for (result, count) in ["failed", "done"].iter().zip(counts.told) {
            text.sample(name, &format!("result=\"{result}\""), count);
        }
        let name = "drover_time_to_detect_seconds";
        text.begin(name, "histogram", "How long it was so when it was found, as far as can be seen.");
        text.histogram(name, "", &self.ages);
    }
}
