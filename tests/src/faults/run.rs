//! One run of a case.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::cases::{Case, Promise};
use super::removals::Before;
use super::stage::Stage;
use super::steady::{Counts, QUICK, Steady};

/// What became of the requests of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Requests with an outcome.
    pub requests: u64,
    /// Those that failed, by what they were and why.
    pub failures: BTreeMap<String, u64>,
    /// WebSockets and TCP sessions that were closed before the client wished.
    pub sessions_closed: u64,
    /// From the fault to the end of the last request that failed.
    pub last_failure: Option<Duration>,
    /// What 99 % of the GETs that take no time themselves took at most, from when they were due: how busy the machine was.
    pub p99: Duration,
    /// From the fault until all was well.
    pub took: Duration,
    /// From the decision that a replica goes to its removal, of each that was drained.
    pub removals: Vec<Duration>,
}

impl Run {
    /// Sums up what was counted from `fault` on, until all was well again after it `took` so long.
    pub fn of(counts: &Counts, fault: Instant, took: Duration) -> Self {
        let failures = counts.requests.iter().flat_map(|(what, tally)| {
            tally.failures().into_iter().map(move |(why, count)| (format!("{what}: {why}"), count))
        });
        let last = counts.requests.values().filter_map(|tally| tally.last_failure).max();
        Self {
            requests: counts.requests.values().map(|tally| tally.requests).sum(),
            failures: failures.collect(),
            sessions_closed: counts.sessions.values().map(crate::traffic::Tally::failed).sum(),
            last_failure: last.map(|last| last.saturating_duration_since(fault)),
            p99: counts.requests.get(QUICK).map(|tally| tally.percentile(99.0)).unwrap_or_default(),
            took,
            removals: Vec::new(),
        }
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, failures, sessions_closed, last_failure, p99, took, removals } = self;
        write!(f, "{requests} requests, {} failed {failures:?}", self.failed())?;
        if let Some(last) = last_failure {
            write!(f, " until {:.1} s", last.as_secs_f64())?;
        }
        write!(f, ", p99 {:.3} s", p99.as_secs_f64())?;
        write!(f, ", {sessions_closed} sessions closed, all well after {:.1} s", took.as_secs_f64())?;
        write!(f, ", replicas removed after {removals:?}")
    }
}

/// Runs a case once, on a stage where all is well, and leaves it so.
///
/// # Errors
/// When the fault cannot be made, or all is not well again in time.
pub async fn run(case: &Case, stage: &Stage<'_>) -> Result<Run> {
    let steady = Steady::start(&stage.http, &stage.echo, case.traffic);
    let before = Before::now(stage.ns).await?;
    steady.run_on(2).await?;
    let fault = Instant::now();
    let mended = (case.fault)(stage, &steady).await;
    let took = fault.elapsed();
    let after = steady.run_on(2).await;
    let mut run = Run::of(&steady.stop().await, fault, took);
    mended?;
    after?;
    run.removals = before.removals(stage.ns).await?;
    stage.restore().await?;
    Ok(run)
}

/// Fails when a run did not keep what its case promises.
///
/// # Errors
/// With what failed.
pub fn judge(case: &Case, run: &Run) -> Result<()> {
    ensure!(
        case.promise != Promise::NothingFails || run.failed() == 0,
        "{}: {} of {} requests failed: {:?}",
        case.name,
        run.failed(),
        run.requests,
        run.failures
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::faults::cases::Reach;
    use crate::faults::steady::Traffic;

    #[test]
    fn only_a_case_that_promises_it_must_not_lose_a_request() {
        let case = |promise| Case {
            name: "case",
            reach: Reach::Namespace,
            traffic: Traffic::Everything,
            promise,
            fault: |_, _| async { Ok(()) }.boxed_local(),
        };
        let lost = Run { requests: 10, failures: [("GET: reset".to_owned(), 1)].into(), ..Run::default() };
        for (promise, run, kept) in [
            (Promise::NothingFails, &Run::default(), true),
            (Promise::NothingFails, &lost, false),
            (Promise::OnlyTheVictimsFail, &lost, true),
        ] {
            assert_eq!(judge(&case(promise), run).is_ok(), kept, "{promise:?}");
        }
        let error = judge(&case(Promise::NothingFails), &lost).unwrap_err().to_string();
        assert_eq!(error, r#"case: 1 of 10 requests failed: {"GET: reset": 1}"#);
    }
}
