//! Figures of several rounds, and tables of them.

use std::fmt;
use std::time::Duration;

/// Least, median and most of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The one in the middle; of two, the mean.
    pub median: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of these values; none of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied();
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(at(middle.wrapping_sub(1))?, at(middle)?)
        } else {
            at(middle)?
        };
        Some(Self { least: at(0)?, median, most: at(values.len() - 1)? })
    }
}

/// Three significant digits: nothing here is known better.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / **{}** / {}", digits(self.least), digits(self.median), digits(self.most))
    }
}

/// What one contender did in one round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Units of work: requests, messages or GiB.
    pub work: f64,
    /// Units that failed.
    pub failed: u64,
    /// Processor time of the contender.
    pub cpu: Duration,
    /// How long it took.
    pub elapsed: Duration,
}

impl Sample {
    /// Microseconds of processor time for a unit.
    pub fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.work
    }

    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.work / self.elapsed.as_secs_f64()
    }
}

/// What each value is to that of the same round.
pub fn ratios(values: &[f64], to: &[f64]) -> Option<Spread> {
    Spread::of(values.iter().zip(to).map(|(value, to)| value / to))
}

/// A Markdown table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The first line; what begins with a space is a number.
    pub head: Vec<String>,
    /// The others.
    pub lines: Vec<Vec<String>>,
}

impl Table {
    /// With this head.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(String::from).into(), lines: Vec::new() }
    }

    /// Adds a line.
    pub fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        self.lines.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = |cell: &String| if cell.starts_with(' ') { "---:" } else { "---" };
        let head: Vec<&str> = self.head.iter().map(|cell| cell.trim_start()).collect();
        writeln!(f, "| {} |", head.join(" | "))?;
        writeln!(f, "|{}|", self.head.iter().map(rule).collect::<Vec<_>>().join("|"))?;
        self.lines.iter().try_for_each(|line| writeln!(f, "| {} |", line.join(" | ")))
    }
}

/// Something that was set out for.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// What is measured.
    pub what: String,
    /// The most it may be.
    pub bar: f64,
    /// What it is, the median where there are several.
    pub measured: f64,
    /// Of both.
    pub unit: &'static str,
}

impl Goal {
    /// Whether it is reached.
    pub fn is_met(&self) -> bool {
        self.measured <= self.bar
    }
}

/// What a row found.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// Figures.
    pub table: Table,
    /// What should have come out.
    pub goals: Vec<Goal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_median_between_least_and_most() {
        assert_eq!(Spread::of([]), None);
        for (values, expected) in [
            (&[3.0][..], (3.0, 3.0, 3.0)),
            (&[3.0, 1.0], (1.0, 2.0, 3.0)),
            (&[5.0, 1.0, 2.0], (1.0, 2.0, 5.0)),
            (&[4.0, 1.0, 2.0, 8.0], (1.0, 3.0, 8.0)),
        ] {
            let (least, median, most) = expected;
            assert_eq!(
                Spread::of(values.iter().copied()),
                Some(Spread { least, median, most }),
                "{values:?}"
            );
        }
    }

    #[test]
    fn contenders_are_compared_within_a_round() {
        let ratio = ratios(&[10.0, 30.0, 20.0], &[20.0, 30.0, 10.0]).unwrap();
        assert_eq!(ratio, Spread { least: 0.5, median: 1.0, most: 2.0 });
    }

    #[test]
    fn a_sample_knows_its_cost_and_rate() {
        let (cpu, elapsed) = (Duration::from_secs(1), Duration::from_secs(2));
        let sample = Sample { work: 50_000.0, failed: 0, cpu, elapsed };
        assert_eq!((sample.cost(), sample.rate()), (20.0, 25_000.0));
    }

    #[test]
    fn figures_have_three_digits() {
        let figures = [0.876, 17.45, 161.6, 0.0].map(digits);
        assert_eq!(figures, ["0.88", "17.4", "162", "0.00"]);
        let spread = Spread { least: 0.841, median: 0.9, most: 12.0 };
        assert_eq!(spread.to_string(), "0.84 / **0.90** / 12.0");
    }

    #[test]
    fn numbers_of_a_table_are_on_the_right() {
        let mut table = Table::new(["Contender", " µs"]);
        table.line(["Nginx".to_owned(), "18.0".to_owned()]);
        assert_eq!(table.to_string(), "| Contender | µs |\n|---|---:|\n| Nginx | 18.0 |\n");
    }

    #[test]
    fn a_goal_is_met_up_to_its_bar() {
        let goal = |measured| Goal { what: String::new(), bar: 0.95, measured, unit: "" };
        assert!(goal(0.95).is_met());
        assert!(!goal(0.96).is_met());
        assert!(!goal(f64::NAN).is_met());
    }
}
