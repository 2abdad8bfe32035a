//! What is counted of a group.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_proxy_api::report::LATENCY_BOUNDS;

/// Counts of a group since this proxy knows it.
#[derive(Debug, Default)]
pub struct GroupStats {
    requests: AtomicU64,
    no_target: AtomicU64,
    retries: AtomicU64,
    retries_over_budget: AtomicU64,
    connect_failures: AtomicU64,
    suspicions: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    latency_micros: AtomicU64,
}

impl GroupStats {
    #[inline]
    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn count_no_target(&self) {
        self.no_target.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt to connect to a target that failed.
    pub(crate) fn count_connect_failure(&self) {
        self.connect_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a target before which others are picked from now on.
    pub(crate) fn count_suspicion(&self) {
        self.suspicions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an attempt beyond a request's first.
    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that the budget did not allow.
    pub(crate) fn count_retry_over_budget(&self) {
        self.retries_over_budget.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn count_latency(&self, latency: Duration) {
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < latency);
        if let Some(count) = self.latency.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.latency_micros.fetch_add(latency.as_micros() as u64, Ordering::Relaxed);
    }

    /// Requests, retries not counted.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Of these, those that found no target.
    pub fn no_target(&self) -> u64 {
        self.no_target.load(Ordering::Relaxed)
    }

    /// Attempts beyond a request's first.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Retries that would have been safe but were beyond the budget.
    pub fn retries_over_budget(&self) -> u64 {
        self.retries_over_budget.load(Ordering::Relaxed)
    }

    /// Attempts to connect to a target that failed.
    pub fn connect_failures(&self) -> u64 {
        self.connect_failures.load(Ordering::Relaxed)
    }

    /// Times that a target became a suspect.
    pub fn suspicions(&self) -> u64 {
        self.suspicions.load(Ordering::Relaxed)
    }

    /// Requests whose answer's head came.
    pub fn answers(&self) -> u64 {
        self.latency.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Sum of the requests' times to the response head.
    pub fn latency_sum(&self) -> Duration {
        Duration::from_micros(self.latency_micros.load(Ordering::Relaxed))
    }

    /// Requests by time to the response head: one count for each of [`LATENCY_BOUNDS`], and one for the slower ones.
    pub fn latency(&self) -> Vec<u64> {
        self.latency.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}
