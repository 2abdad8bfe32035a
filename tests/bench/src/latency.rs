//! What a proxy adds to how long a request takes, at half of what it can do at most.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::contenders::Contender;
use crate::figures::{Finding, Goal, Spread, Table, ratios};
use crate::load::Load;
use crate::pace::{Latencies, Pace};
use crate::run::Run;

const CONTENDERS: [Contender; 5] =
    [Contender::Nginx, Contender::Evenkeel, Contender::Haproxy, Contender::Traefik, Contender::Pingora];
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
/// Requests a second that leave every machine time to spare: what is added here is work, not waiting for others.
const UNHURRIED: f64 = 2_000.0;
/// The most that ours adds in relation to what Nginx adds.
const BAR: f64 = 1.0;

/// Microseconds at each percentile, by round.
type ByRound = [Vec<f64>; PERCENTILES.len()];

/// Latency through each contender less that of the targets themselves: all at half of what Nginx does at most, and, without
/// goals, all at a rate that none of them feels. With the rates.
///
/// # Errors
/// A contender cannot be started, or a request fails.
pub async fn measure(run: &mut Run) -> Result<[(f64, Finding); 2]> {
    let busy = saturation(run).await? / 2.0;
    let at_busy = at_rate(run, busy).await?;
    let mut at_ease = at_rate(run, UNHURRIED).await?;
    at_ease.goals.clear();
    Ok([(busy, at_busy), (UNHURRIED, at_ease)])
}

async fn at_rate(run: &mut Run, rate: f64) -> Result<Finding> {
    let contenders: Vec<Contender> = CONTENDERS.into_iter().filter(|contender| run.has(*contender)).collect();
    let mut added: Vec<(Contender, ByRound)> =
        contenders.iter().map(|contender| (*contender, ByRound::default())).collect();
    let pace = Pace { rate, time: Duration::from_secs(run.rounds.seconds.into()) };
    for round in 0..=run.rounds.count {
        let direct = Run::paced(20001, pace).await?;
        for (contender, by_round) in &mut added {
            run.process(*contender).await?;
            let through = Run::paced(contender.http(), pace).await;
            let through = through.with_context(|| contender.name())?;
            if round > 0 {
                by_round.iter_mut().zip(differences(&through, &direct)).for_each(|(all, one)| all.push(one));
            }
        }
    }
    Ok(finding(&added))
}

/// Requests a second that Nginx does at most.
async fn saturation(run: &mut Run) -> Result<f64> {
    let scripts = run.directory().to_owned();
    run.process(Contender::Nginx).await?;
    let (began, load) = (Instant::now(), Load::Wrk { connections: 64, path: "/", more: &[] });
    let done = load.run(Contender::Nginx.http(), 2, &scripts).await?;
    Ok(done.requests as f64 / began.elapsed().as_secs_f64())
}

fn differences(through: &Latencies, direct: &Latencies) -> [f64; PERCENTILES.len()] {
    PERCENTILES.map(|(_, quantile)| {
        let at = |latencies: &Latencies| latencies.value_at_quantile(quantile) as f64 / 1e3;
        at(through) - at(direct)
    })
}

fn finding(added: &[(Contender, ByRound)]) -> Finding {
    let mut table = Table::new(["Added µs: least / **median** / most", " p50", " p99", " p99.9"]);
    for (contender, by_round) in added {
        let spreads = by_round.iter().map(|values| Spread::of(values.iter().copied()));
        let spreads = spreads.map(|spread| spread.map(|spread| spread.to_string()).unwrap_or_default());
        table.line(std::iter::once(contender.name().to_owned()).chain(spreads));
    }
    let of = |wanted: Contender| added.iter().find(|(contender, _)| *contender == wanted);
    let goals = of(Contender::Evenkeel).zip(of(Contender::Nginx)).map(|((_, ours), (_, theirs))| {
        let pairs = PERCENTILES.iter().zip(ours.iter().zip(theirs));
        let goals = pairs.filter_map(|((name, _), (ours, theirs))| {
            let measured = ratios(ours, theirs)?.median;
            let what = format!("Added latency, {name}: in relation to Nginx");
            Some(Goal { what, bar: BAR, measured, unit: "" })
        });
        goals.collect()
    });
    Finding { table, goals: goals.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(microseconds: impl Iterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new(3).unwrap();
        microseconds.for_each(|value| latencies.record(value * 1_000).unwrap());
        latencies
    }

    #[test]
    fn what_is_added_is_the_difference_at_each_percentile() {
        let (direct, through) = (latencies(1..=1_000), latencies((1..=1_000).map(|value| value * 2)));
        let [p50, p99, p999] = differences(&through, &direct);
        assert!((p50 - 500.0).abs() < 2.0, "{p50}");
        assert!((p99 - 990.0).abs() < 3.0, "{p99}");
        assert!((p999 - 999.0).abs() < 3.0, "{p999}");
    }

    #[test]
    fn goals_are_in_relation_to_nginx() {
        let by_round = |factor: f64| [10.0, 100.0, 200.0].map(|value| vec![value * factor]);
        let added = [(Contender::Nginx, by_round(1.0)), (Contender::Evenkeel, by_round(0.5))];
        let finding = finding(&added);
        assert_eq!(finding.table.lines[1][1], "5.00 / **5.00** / 5.00");
        assert_eq!(finding.goals.len(), 3);
        assert!(finding.goals.iter().all(|goal| (goal.measured - 0.5).abs() < 1e-9));
    }
}
