//! What is measured: the rows of the page.

use crate::contenders::Contender::{
    self, Evenkeel, EvenkeelRules, EvenkeelTwo, Haproxy, Nginx, Pingora, Traefik,
};
use crate::figures::{Finding, Goal, Sample, Spread, Table, digits, ratios};
use crate::load::{Done, Load};

/// A row of processor time for a unit of work.
#[derive(Debug)]
pub struct Row {
    /// What the command line calls it.
    pub name: &'static str,
    /// What the page calls it.
    pub title: &'static str,
    /// How contenders are loaded.
    pub load: Load,
    /// What they are loaded with.
    pub unit: Unit,
    /// Who takes part. Ratios are to the first.
    pub contenders: &'static [Contender],
    /// What is to be reached.
    pub bars: &'static [Bar],
}

/// What processor time is related to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// An answer.
    Request,
    /// An echo.
    Message,
    /// Bytes of answers or echoes.
    Gib,
}

impl Unit {
    /// How many of them were done.
    pub fn of(self, done: Done) -> f64 {
        match self {
            Self::Request | Self::Message => done.requests as f64,
            Self::Gib => done.bytes / 1024_f64.powi(3),
        }
    }

    /// Its name, and what its cost is shown in: that many microseconds.
    fn shown(self) -> (&'static str, &'static str, f64) {
        match self {
            Self::Request => ("request", "µs", 1.0),
            Self::Message => ("message", "µs", 1.0),
            Self::Gib => ("GiB", "ms", 1e3),
        }
    }
}

/// The most that one contender may cost in relation to another.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Whose cost.
    pub of: Contender,
    /// In relation to whom.
    pub to: Contender,
    /// The most, as a ratio of medians by round.
    pub most: f64,
}

const ALL: &[Contender] = &[Nginx, Evenkeel, Haproxy, Traefik, Pingora];

const fn bar(to: Contender, most: f64) -> Bar {
    Bar { of: Evenkeel, to, most }
}

const fn wrk(path: &'static str, more: &'static [&'static str]) -> Load {
    Load::Wrk { connections: 64, path, more }
}

/// Every row.
pub const ROWS: &[Row] = &[
    Row {
        name: "small",
        title: "HTTP/1.1, connections kept, small answers",
        load: wrk("/", &[]),
        unit: Unit::Request,
        contenders: ALL,
        bars: &[bar(Nginx, 0.95), bar(Pingora, 0.55)],
    },
    Row {
        name: "browser",
        title: "The header fields of a browser, and 17 in the answer",
        load: wrk("/browser", &["-s", "browser.lua"]),
        unit: Unit::Request,
        contenders: ALL,
        bars: &[bar(Nginx, 0.95), bar(Pingora, 0.55)],
    },
    Row {
        name: "post",
        title: "POST of 200 bytes",
        load: wrk("/", &["-s", "post.lua"]),
        unit: Unit::Request,
        contenders: ALL,
        bars: &[bar(Nginx, 0.95), bar(Pingora, 0.55)],
    },
    Row {
        name: "rules",
        title: "100 rules with 10 targets each, all of them used",
        load: wrk("/", &["-s", "rules.lua"]),
        unit: Unit::Request,
        contenders: &[Evenkeel, EvenkeelRules],
        bars: &[Bar { of: EvenkeelRules, to: Evenkeel, most: 1.05 }],
    },
    Row {
        name: "64k",
        title: "Answers of 64 KiB",
        load: wrk("/64k", &[]),
        unit: Unit::Request,
        contenders: ALL,
        bars: &[bar(Nginx, 1.0)],
    },
    Row {
        name: "10m",
        title: "Answers of 10 MiB, on 8 connections",
        load: Load::Wrk { connections: 8, path: "/10m", more: &[] },
        unit: Unit::Gib,
        contenders: ALL,
        bars: &[bar(Nginx, 1.0)],
    },
    Row {
        name: "connect",
        title: "A new connection for each request",
        load: wrk("/", &["-H", "Connection: close"]),
        unit: Unit::Request,
        contenders: ALL,
        bars: &[bar(Nginx, 1.0)],
    },
    Row {
        name: "websocket",
        title: "WebSocket: 64 bytes there and back on 64 connections",
        load: Load::WebSocket,
        unit: Unit::Message,
        contenders: ALL,
        bars: &[bar(Nginx, 1.0)],
    },
    Row {
        name: "tcp",
        title: "TCP: 64 KiB there and back on 8 connections",
        load: Load::Tcp,
        unit: Unit::Gib,
        contenders: &[Nginx, Evenkeel, Haproxy, Traefik],
        bars: &[bar(Nginx, 1.0)],
    },
    Row {
        name: "h2c",
        title: "HTTP/2 without TLS, 8 connections with 8 streams each",
        load: Load::H2c,
        unit: Unit::Request,
        contenders: ALL,
        bars: &[bar(Pingora, 0.9)],
    },
    Row {
        name: "workers",
        title: "Two workers against one",
        load: wrk("/", &[]),
        unit: Unit::Request,
        contenders: &[Evenkeel, EvenkeelTwo],
        bars: &[],
    },
];

/// Throughput of two workers in relation to one.
const TWO_WORKERS: f64 = 1.8;

/// The samples of a contender, one for each round.
pub type Samples = (Contender, Vec<Sample>);

impl Row {
    /// What the samples come to, on a machine with so many cores.
    pub fn finding(&self, samples: &[Samples], cores: usize) -> Finding {
        let (unit, time, scale) = self.unit.shown();
        let reference = self.contenders.first().copied();
        let mut table = Table::new(["Least / **median** / most"]);
        table.head.extend([
            format!(" CPU {time} for a {unit}"),
            format!(" in relation to {}", reference.map(Contender::name).unwrap_or_default()),
            format!(" {unit} each second"),
            " failed".to_owned(),
        ]);
        let reference = reference.and_then(|reference| costs(samples, reference));
        for (contender, samples) in samples {
            let own: Vec<f64> = samples.iter().map(Sample::cost).collect();
            let ratio = reference.as_ref().and_then(|reference| ratios(&own, reference));
            let rate = Spread::of(samples.iter().map(Sample::rate)).map(|rate| digits(rate.median));
            let failed: u64 = samples.iter().map(|sample| sample.failed).sum();
            let show = |spread: Option<Spread>| spread.map(|spread| spread.to_string()).unwrap_or_default();
            table.line([
                contender.name().to_owned(),
                show(Spread::of(own.iter().map(|cost| cost / scale))),
                show(ratio),
                rate.unwrap_or_default(),
                failed.to_string(),
            ]);
        }
        let goals = self.bars.iter().filter_map(|bar| {
            let measured = ratios(&costs(samples, bar.of)?, &costs(samples, bar.to)?)?.median;
            Some(Goal { what: self.goal(bar), bar: bar.most, measured, unit: "" })
        });
        Finding { table, goals: goals.chain(scaling(samples, cores)).collect() }
    }

    fn goal(&self, bar: &Bar) -> String {
        let of = if bar.of == Evenkeel { String::new() } else { format!("{}, ", bar.of.name()) };
        format!("{}: {of}in relation to {}", self.title, bar.to.name())
    }
}

/// The goal of two workers, as what one does in relation to them. Cores are needed for two and as many for their load.
fn scaling(samples: &[Samples], cores: usize) -> Option<Goal> {
    let ratio = ratios(&rates(samples, Evenkeel)?, &rates(samples, EvenkeelTwo)?)?;
    let what = "Throughput of one worker in relation to two".to_owned();
    (cores >= 4).then_some(Goal { what, bar: 1.0 / TWO_WORKERS, measured: ratio.median, unit: "" })
}

fn of(samples: &[Samples], wanted: Contender) -> Option<&[Sample]> {
    samples.iter().find(|(contender, _)| *contender == wanted).map(|(_, samples)| samples.as_slice())
}

fn costs(samples: &[Samples], wanted: Contender) -> Option<Vec<f64>> {
    Some(of(samples, wanted)?.iter().map(Sample::cost).collect())
}

fn rates(samples: &[Samples], wanted: Contender) -> Option<Vec<f64>> {
    Some(of(samples, wanted)?.iter().map(Sample::rate).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn sample(microseconds: u64) -> Sample {
        let cpu = Duration::from_micros(microseconds * 1_000);
        Sample { work: 1_000.0, failed: 0, cpu, elapsed: Duration::from_secs(1) }
    }

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn rows_have_names_of_their_own() {
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn goals_compare_medians_of_ratios_by_round() {
        let samples = [
            (Nginx, vec![sample(20), sample(40), sample(20)]),
            (Evenkeel, vec![sample(18), sample(20), sample(16)]),
        ];
        let finding = row("64k").finding(&samples, 2);
        assert_eq!(finding.goals.len(), 1);
        assert!((finding.goals[0].measured - 0.8).abs() < 1e-9);
        assert_eq!(
            finding.table.lines[1],
            ["Evenkeel", "16.0 / **18.0** / 20.0", "0.50 / **0.80** / 0.90", "1000", "0"]
        );
    }

    #[test]
    fn who_did_not_take_part_has_no_goal() {
        let samples = [(Nginx, vec![sample(20)]), (Evenkeel, vec![sample(18)])];
        assert_eq!(row("small").finding(&samples, 2).goals.len(), 1);
    }

    #[test]
    fn two_workers_are_compared_where_cores_allow() {
        let samples = [(Evenkeel, vec![sample(20)]), (EvenkeelTwo, vec![sample(20)])];
        assert_eq!(row("workers").finding(&samples, 2).goals, []);
        assert!(!row("workers").finding(&samples, 4).goals[0].is_met());
    }

    #[test]
    fn large_bodies_are_counted_in_gib() {
        let done = Done { requests: 3, failed: 0, bytes: 2.0 * 1024_f64.powi(3) };
        assert_eq!((Unit::Gib.of(done), Unit::Request.of(done)), (2.0, 3.0));
    }
}
