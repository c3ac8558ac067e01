//! What came of it, as it is quoted.

use std::collections::BTreeMap;
use std::fmt;

use super::Scale;

#[derive(Debug)]
pub struct Report {
    pub(super) scale: Scale,
    pub(super) harm: BTreeMap<&'static str, usize>,
    /// Sessions that became orphans by themselves.
    pub orphans: Share,
    pub(super) orphaned: std::collections::BTreeSet<String>,
    /// Of what was left behind, what was cleaned up without a human.
    pub cleaned: Share,
    /// Of what was found, what waits for a human.
    pub manual: Share,
    /// Left behind and never told of: it may have been cleaned up before the round that would have told.
    pub undetected: usize,
    /// From being left behind to being found, in milliseconds.
    pub delays: Vec<i64>,
    pub(super) codes: BTreeMap<String, usize>,
    pub(super) kept: BTreeMap<String, usize>,
    pub(super) left: Vec<String>,
    /// What must not be; none is expected.
    pub breaches: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub of: usize,
    pub count: usize,
}

impl Share {
    pub fn percent(&self) -> f64 {
        if self.of == 0 { 0.0 } else { 100.0 * self.count as f64 / self.of as f64 }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({:.1} %)", self.count, self.of, self.percent())
    }
}

impl Report {
    fn delay(&self, percent: usize) -> f64 {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let at = (delays.len() * percent / 100).min(delays.len().saturating_sub(1));
        delays.get(at).map_or(0.0, |millis| *millis as f64 / 1000.0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale { seed, sessions, agents, .. } = self.scale;
        writeln!(f, "seed {seed}: {sessions} sessions over {agents} agents")?;
        let list = |counts: &mut dyn Iterator<Item = String>| counts.collect::<Vec<_>>().join(", ");
        let harm = list(&mut self.harm.iter().map(|(kind, count)| format!("{count} {kind}")));
        writeln!(f, "harm                    {harm}")?;
        writeln!(f, "sessions orphaned       {} (goal < 1 %)", self.orphans)?;
        writeln!(f, "cleaned automatically   {} (goal >= 99 %)", self.cleaned)?;
        writeln!(f, "left for a human        {} (goal < 5 %)", self.manual)?;
        writeln!(
            f,
            "seen after              p50 {:.1} s, p99 {:.1} s; {} gone before they were told (a round takes 1 s here, 60 s in service)",
            self.delay(50),
            self.delay(99),
            self.undetected
        )?;
        writeln!(
            f,
            "found                   {}",
            list(&mut self.codes.iter().map(|(code, count)| format!("{count} {code}")))
        )?;
        writeln!(
            f,
            "kept, by reason         {}",
            list(&mut self.kept.iter().map(|(code, count)| format!("{count} {code}")))
        )?;
        for orphaned in &self.orphaned {
            writeln!(f, "by itself               {orphaned}")?;
        }
        for left in &self.left {
            writeln!(f, "still there             {left}")?;
        }
        for breach in &self.breaches {
            writeln!(f, "BREACH                  {breach}")?;
        }
        writeln!(
            f,
            "audit                   {}",
            if self.breaches.is_empty() { "everything holds" } else { "BROKEN" }
        )
    }
}
