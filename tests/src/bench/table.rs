//! The table: a line for each measure with its goal, what was found, and the verdict on the median.

use super::measure::{Measured, Unit, median};

/// What a measure has to come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    /// As the list of goals numbers it.
    pub id: &'static str,
    pub measure: String,
    pub bound: Bound,
    pub stretch: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Shown, never judged.
    Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Miss,
    Shown,
    NotMeasured,
}

/// A line. Without numbers it says why there are none.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub goal: Goal,
    pub found: Result<Measured, String>,
}

impl Goal {
    pub(crate) fn new(id: &'static str, measure: impl Into<String>, bound: Bound) -> Self {
        Self { id, measure: measure.into(), bound, stretch: None }
    }

    #[must_use]
    pub(crate) fn stretch(mut self, stretch: f64) -> Self {
        self.stretch = Some(stretch);
        self
    }
}

impl Bound {
    fn judge(self, median: f64) -> Verdict {
        match self {
            Self::AtMost(most) if median <= most => Verdict::Pass,
            Self::AtLeast(least) if median >= least => Verdict::Pass,
            Self::AtMost(_) | Self::AtLeast(_) => Verdict::Miss,
            Self::Shown => Verdict::Shown,
        }
    }

    fn show(self, unit: Unit, stretch: Option<f64>) -> String {
        let stretch = stretch.map(|stretch| format!(" ({stretch})")).unwrap_or_default();
        let unit = match unit {
            Unit::Times => "×",
            Unit::Seconds => "s",
            Unit::PerSecond => "/s",
            Unit::Kibibytes => "KiB",
            Unit::Mebibytes => "MiB",
        };
        match self {
            Self::AtMost(most) => format!("≤ {most} {unit}{stretch}"),
            Self::AtLeast(least) => format!("≥ {least} {unit}{stretch}"),
            Self::Shown => "–".into(),
        }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Miss => "MISS",
            Self::Shown => "shown",
            Self::NotMeasured => "not measured",
        }
    }
}

impl Row {
    pub(crate) fn verdict(&self) -> Verdict {
        match &self.found {
            Ok(measured) if measured.judged.is_empty() => Verdict::NotMeasured,
            Ok(measured) => self.goal.bound.judge(median(&mut measured.judged.clone())),
            Err(_) => Verdict::NotMeasured,
        }
    }

    fn cells(&self) -> [String; 6] {
        let Goal { id, measure, bound, stretch } = &self.goal;
        let (goal, found, figures) = match &self.found {
            Ok(measured) => (bound.show(measured.unit, *stretch), spread(measured), measured.figures.clone()),
            Err(why) => (bound.show(Unit::Times, *stretch), "–".into(), why.clone()),
        };
        [(*id).into(), measure.clone(), goal, found, self.verdict().word().into(), figures]
    }
}

/// The median, and between which numbers the rounds were.
fn spread(measured: &Measured) -> String {
    let mut values = measured.judged.clone();
    let middle = median(&mut values);
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return "–".into() };
    format!("{} ({}–{})", measured.unit.show(middle), bare_number(*first), bare_number(*last))
}

fn bare_number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

const HEAD: [&str; 6] = ["#", "measure", "goal (stretch)", "median (min–max)", "", "figures, never judged"];

/// All lines, in columns, with those that are not built yet at the foot.
pub(crate) fn render(rows: &[Row], missing: &[(&str, &str)]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    if !missing.is_empty() {
        text.push_str("\nnot measured yet:\n");
        missing.iter().for_each(|(id, why)| text.push_str(&format!("{id:3}  {why}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bound: Bound, judged: &[f64]) -> Row {
        let measured = Measured::plain(judged.to_vec(), Unit::Times, "bare 1 s, product 2 s");
        Row { goal: Goal::new("G1", "a thing", bound).stretch(0.5), found: Ok(measured) }
    }

    #[test]
    fn the_median_is_judged_and_not_the_best_or_the_worst() {
        assert_eq!(row(Bound::AtMost(0.8), &[0.9, 0.8, 0.1]).verdict(), Verdict::Pass);
        assert_eq!(row(Bound::AtMost(0.8), &[0.9, 0.81, 0.1]).verdict(), Verdict::Miss);
        assert_eq!(row(Bound::AtLeast(0.7), &[0.7, 0.1, 0.9]).verdict(), Verdict::Pass);
        assert_eq!(row(Bound::AtLeast(0.7), &[0.69, 0.1, 0.9]).verdict(), Verdict::Miss);
        assert_eq!(row(Bound::Shown, &[9.0]).verdict(), Verdict::Shown);
    }

    #[test]
    fn what_could_not_be_measured_passes_nothing() {
        let row = Row { goal: Goal::new("G1", "a thing", Bound::AtMost(1.0)), found: Err("no git".into()) };
        assert_eq!(row.verdict(), Verdict::NotMeasured);
        assert!(render(&[row], &[]).contains("not measured  no git"));
    }

    #[test]
    fn a_table_has_a_line_for_each_row_and_a_foot() {
        let text = render(&[row(Bound::AtMost(0.8), &[0.7, 0.6, 0.9])], &[("G2", "no layered workspaces")]);
        insta::assert_snapshot!(text, @r"
        #   measure  goal (stretch)  median (min–max)             figures, never judged
        G1  a thing  ≤ 0.8 × (0.5)   0.700 × (0.600–0.900)  pass  bare 1 s, product 2 s

        not measured yet:
        G2   no layered workspaces
        ");
    }
}
