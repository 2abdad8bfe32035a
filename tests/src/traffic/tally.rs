//! What became of requests, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Longer latencies count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// What became of a request: an answer, or the reason why there was none.
pub type Outcome = Result<Answer, String>;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status; 200 where the protocol has none.
    pub status: u16,
    /// The replica that gave it, where it says so.
    pub replica: Option<String>,
}

/// Counts of requests by what became of them.
#[derive(Clone)]
pub struct Tally {
    /// Requests that have an outcome.
    pub requests: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Answers by the replica that gave them.
    pub by_replica: BTreeMap<String, u64>,
    /// When each replica gave its first answer.
    pub first_answer: BTreeMap<String, Instant>,
    /// Requests without an answer, by reason.
    pub errors: BTreeMap<String, u64>,
    /// When the last request failed.
    pub last_failure: Option<Instant>,
    latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        #[allow(clippy::expect_used, reason = "bounds and digits are such as the histogram allows")]
        let latency = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3).expect("1 µs to a minute");
        Self {
            requests: 0,
            by_status: BTreeMap::new(),
            by_replica: BTreeMap::new(),
            first_answer: BTreeMap::new(),
            errors: BTreeMap::new(),
            last_failure: None,
            latency,
        }
    }
}

impl Tally {
    /// Counts an outcome.
    pub fn record(&mut self, outcome: &Outcome, start: Instant, end: Instant) {
        self.requests += 1;
        self.latency.saturating_record((end - start).as_micros() as u64);
        if !matches!(outcome, Ok(Answer { status: 200..300, .. })) {
            self.last_failure = Some(end);
        }
        match outcome {
            Ok(Answer { status, replica }) => {
                *self.by_status.entry(*status).or_default() += 1;
                if let Some(replica) = replica {
                    *self.by_replica.entry(replica.clone()).or_default() += 1;
                    self.first_answer.entry(replica.clone()).or_insert(end);
                }
            }
            Err(error) => *self.errors.entry(error.clone()).or_default() += 1,
        }
    }

    /// Requests without an answer, or with one other than 2XX.
    pub fn failed(&self) -> u64 {
        let succeeded: u64 = self.by_status.range(200..300).map(|(_, count)| count).sum();
        self.requests - succeeded
    }

    /// Why requests failed, and how many each: statuses, then errors.
    pub fn failures(&self) -> Vec<(String, u64)> {
        let statuses = self.by_status.iter().filter(|(status, _)| !(200..300).contains(*status));
        let statuses = statuses.map(|(status, count)| (format!("answered {status}"), *count));
        statuses.chain(self.errors.iter().map(|(error, count)| (error.clone(), *count))).collect()
    }

    /// The latency that so many percent of the requests did not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(percent / 100.0))
    }

    /// The difference between the replica that answered most and the one that answered least, in percent of the mean.
    /// 0 with fewer than two replicas.
    pub fn spread_percent(&self) -> f64 {
        let (Some(most), Some(least)) = (self.by_replica.values().max(), self.by_replica.values().min())
        else {
            return 0.0;
        };
        let mean = self.by_replica.values().sum::<u64>() as f64 / self.by_replica.len() as f64;
        (most - least) as f64 / mean * 100.0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed", self.requests, self.failed())?;
        write!(f, "; by status {:?}, by replica {:?}", self.by_status, self.by_replica)?;
        write!(f, "; p50 {:?}, p99 {:?}", self.percentile(50.0), self.percentile(99.0))?;
        if self.errors.is_empty() { Ok(()) } else { write!(f, "; errors {:?}", self.errors) }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts for several senders: everything, what came since somebody last looked, and what was asked in a span of time.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Tallies>>);

#[derive(Default)]
struct Tallies {
    total: Tally,
    window: Tally,
    span: Option<(Instant, Tally)>,
}

impl Recorder {
    /// Counts an outcome.
    pub fn record(&self, outcome: &Outcome, start: Instant, end: Instant) {
        let mut tallies = self.tallies();
        tallies.total.record(outcome, start, end);
        tallies.window.record(outcome, start, end);
        if let Some((_, span)) = tallies.span.as_mut().filter(|(began, _)| *began <= start) {
            span.record(outcome, start, end);
        }
    }

    /// Begins a span: requests that began before it do not count in it.
    pub fn begin_span(&self, now: Instant) {
        self.tallies().span = Some((now, Tally::default()));
    }

    /// What was asked since the span began; nothing without one.
    pub fn span(&self) -> Option<Tally> {
        self.tallies().span.as_ref().map(|(_, tally)| tally.clone())
    }

    /// Everything so far.
    pub fn total(&self) -> Tally {
        self.tallies().total.clone()
    }

    /// What came since the last call.
    pub fn take_window(&self) -> Tally {
        std::mem::take(&mut self.tallies().window)
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, replica: &str) -> Answer {
        Answer { status, replica: Some(replica.into()) }
    }

    #[test]
    fn whatever_is_not_a_success_has_failed() {
        let (recorder, now) = (Recorder::default(), Instant::now());
        for outcome in [
            Ok(answer(200, "a")),
            Ok(answer(204, "a")),
            Ok(answer(404, "a")),
            Ok(answer(503, "b")),
            Err("reset".into()),
        ] {
            recorder.record(&outcome, now, now + Duration::from_millis(250));
        }
        let tally = recorder.total();
        assert_eq!((tally.requests, tally.failed()), (5, 3));
        assert_eq!(tally.last_failure, Some(now + Duration::from_millis(250)));
        let failures =
            [("answered 404", 1), ("answered 503", 1), ("reset", 1)].map(|(why, n)| (why.to_owned(), n));
        assert_eq!(tally.failures(), failures);
        assert_eq!(tally.percentile(99.0).as_millis(), 250);
    }

    #[test]
    fn a_window_has_only_what_came_since_the_last() {
        let (recorder, now) = (Recorder::default(), Instant::now());
        recorder.record(&Ok(answer(200, "a")), now, now);
        assert_eq!(recorder.take_window().requests, 1);
        recorder.record(&Ok(answer(200, "a")), now, now);
        recorder.record(&Ok(answer(200, "b")), now, now);
        assert_eq!(recorder.take_window().requests, 2);
        assert_eq!(recorder.take_window().requests, 0);
        assert_eq!(recorder.total().requests, 3);
    }

    #[test]
    fn a_span_has_only_what_was_asked_in_it() {
        let (recorder, before) = (Recorder::default(), Instant::now());
        assert!(recorder.span().is_none());
        let (began, after) = (before + Duration::from_millis(1), before + Duration::from_millis(2));
        recorder.begin_span(began);
        recorder.record(&Ok(answer(200, "a")), before, after);
        assert_eq!(recorder.span().unwrap().requests, 0, "asked before");
        recorder.record(&Ok(answer(200, "a")), after, after);
        assert_eq!(recorder.span().unwrap().requests, 1);
    }

    #[test]
    fn the_spread_is_the_difference_between_most_and_least_in_percent_of_the_mean() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        assert!(tally.spread_percent() < 0.1);
        for (replica, count) in [("a", 110), ("b", 100), ("c", 90)] {
            for _ in 0..count {
                tally.record(&Ok(answer(200, replica)), now, now);
            }
        }
        assert!((tally.spread_percent() - 20.0).abs() < 0.01);
    }
}
