//! What taking over a large snapshot does to the requests that pass meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use crate::contenders::{ADMIN, Contender};
use crate::figures::{Finding, Goal, Spread, Table, digits};
use crate::memory::get;
use crate::pace::{Latencies, Pace};
use crate::run::Run;
use crate::snapshot::with_rules;

/// How many rules, and how many targets behind each.
const SIZE: (u32, u32) = (1_000, 10);
/// Requests a second meanwhile.
const RATE: f64 = 2_000.0;
/// Milliseconds that taking it over may take.
const BAR: f64 = 50.0;
/// The slowest request meanwhile, in relation to the 99th percentile before.
const SLOWEST: f64 = 2.0;
/// The family that says how long the last snapshot took.
const TOOK: &str = "evenkeel_proxy_snapshot_apply_duration_seconds";

/// A round's figures, in microseconds but for the first.
struct Round {
    applied_ms: f64,
    p99_before: f64,
    slowest_before: f64,
    slowest_meanwhile: f64,
}

/// A snapshot is taken over again and again; requests before are compared with those meanwhile.
///
/// # Errors
/// The proxy cannot be started, or a request fails.
pub async fn measure(run: &mut Run) -> Result<Finding> {
    let mut table = Table::new([
        "1,000 rules, 10,000 targets",
        " applied in, ms",
        " p99 before, µs",
        " slowest before, µs",
        " slowest meanwhile, µs",
    ]);
    let mut rounds = Vec::new();
    for number in 1..=run.rounds.count.min(3) {
        let figures = round(run).await?;
        let Round { applied_ms, p99_before, slowest_before, slowest_meanwhile } = figures;
        let cells = [applied_ms, p99_before, slowest_before, slowest_meanwhile].map(digits);
        table.line(std::iter::once(format!("Round {number}")).chain(cells));
        rounds.push(figures);
    }
    let median = |value: fn(&Round) -> f64| {
        Spread::of(rounds.iter().map(value)).map_or(f64::NAN, |spread| spread.median)
    };
    let goal = |what: &str, bar, measured, unit| Goal { what: what.to_owned(), bar, measured, unit };
    let goals = vec![
        goal("1,000 rules and 10,000 targets applied", BAR, median(|round| round.applied_ms), " ms"),
        goal(
            "Slowest request meanwhile, in relation to the p99 before",
            SLOWEST,
            median(|round| round.slowest_meanwhile / round.p99_before),
            "",
        ),
    ];
    Ok(Finding { table, goals })
}

async fn round(run: &mut Run) -> Result<Round> {
    let ours = Contender::Evenkeel;
    let (port, file) = (ours.http(), run.file("evenkeel.yaml"));
    let small = std::fs::read_to_string(&file)?;
    let large = with_rules(port, SIZE.0, SIZE.1);
    run.end(ours);
    run.process(ours).await?;
    let pace = Pace { rate: RATE, time: Duration::from_secs(2) };
    let before = Run::paced(port, pace).await?;
    let replaced = async {
        sleep(Duration::from_millis(300)).await;
        replace(&file, &large)
    };
    let meanwhile = Run::paced(port, Pace { time: Duration::from_secs(3), ..pace });
    let (meanwhile, replaced) = tokio::join!(meanwhile, replaced);
    let (meanwhile, ()) = (meanwhile?, replaced?);
    let applied_ms = applied(port + ADMIN).await? * 1e3;
    run.end(ours);
    replace(&file, &small)?;
    Ok(Round {
        applied_ms,
        p99_before: micros(&before, 0.99),
        slowest_before: micros(&before, 1.0),
        slowest_meanwhile: micros(&meanwhile, 1.0),
    })
}

/// As `kubectl` and editors do: another file, renamed over this one.
fn replace(file: &std::path::Path, text: &str) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, file)?)
}

fn micros(latencies: &Latencies, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e3
}

/// How long the last snapshot took, in seconds, once it is the second one.
async fn applied(admin: u16) -> Result<f64> {
    let began = Instant::now();
    loop {
        let metrics = get(admin, "/metrics").await?;
        if value(&metrics, "evenkeel_proxy_snapshot_counter").is_some_and(|counter| counter >= 2.0) {
            return value(&metrics, TOOK).with_context(|| format!("no {TOOK}"));
        }
        ensure!(began.elapsed() < Duration::from_secs(20), "the snapshot is not taken over");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The value of a family without labels.
fn value(metrics: &str, family: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(family)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_from_metrics() {
        let metrics = "# TYPE a_b gauge\na_b 2\na_b_seconds 0.0125\na_c{listener=\"web\"} 7\n";
        assert_eq!(value(metrics, "a_b"), Some(2.0));
        assert_eq!(value(metrics, "a_b_seconds"), Some(0.0125));
        assert_eq!(value(metrics, "a_c"), None);
    }
}
