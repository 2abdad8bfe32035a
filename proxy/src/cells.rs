//! What is known of a target that outlives any version of the table: a cell for each target of each group, found again
//! by the target's id. Requests count in and out of it, checks write its health, snapshots its draining.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_proxy_api::report::Health;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::signs::Signs;

/// The state of one target of one group. Aligned, so that two targets never share a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Cell {
    in_flight: AtomicU32,
    draining: AtomicBool,
    closing: AtomicBool,
    health: AtomicU8,
    completed: AtomicU64,
    failed: AtomicU64,
    /// What requests tell of it.
    pub(crate) signs: Signs,
    closed: Notify,
    drain: Mutex<Option<Drain>>,
    verdict: Mutex<Verdict>,
}

/// A drain: since when this proxy knows of it, and how long it may take from then on.
#[derive(Clone, Copy, Debug)]
struct Drain {
    heard: Instant,
    limit: Duration,
}

/// Why a target is not healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// In one word, as in Elastic Load Balancing; empty when healthy.
    pub reason: &'static str,
    /// In a sentence; empty when healthy.
    pub description: String,
}

/// Cumulative and current counts of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, streams, tunnels and sessions now.
    pub in_flight: u32,
    /// Completed since the cell exists.
    pub completed: u64,
    /// Of these, failed.
    pub failed: u64,
}

impl Cell {
    /// Counts one in, unless the target drains. Whoever sets draining and then sees nothing in flight can rely on it:
    /// either this sees draining, or the count was there before.
    #[inline]
    pub(crate) fn admit(&self) -> bool {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.draining.load(Ordering::SeqCst) {
            self.leave();
            return false;
        }
        true
    }

    /// Counts one out.
    #[inline]
    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Records one that ended.
    #[inline]
    pub(crate) fn record(&self, failed: bool) {
        self.completed.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests, streams, tunnels and sessions in flight now.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Current counts.
    pub fn counts(&self) -> Counts {
        Counts {
            in_flight: self.in_flight(),
            completed: self.completed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// Whether nothing new may be sent here.
    #[inline]
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Whether others are picked before it.
    #[inline]
    pub fn is_suspect(&self) -> bool {
        self.signs.is_suspect()
    }

    /// What checks say.
    #[inline]
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Initial,
            1 => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Why it is not healthy.
    pub fn verdict(&self) -> Verdict {
        let verdict = self.verdict.lock().clone();
        if verdict.reason.is_empty() && self.health() == Health::Initial {
            let description = "it was not checked yet".to_owned();
            return Verdict { reason: "Elb.InitialHealthChecking", description };
        }
        verdict
    }

    /// Writes what checks say; whether the health changed.
    pub(crate) fn set_health(&self, health: Health, verdict: Verdict) -> bool {
        let code = match health {
            Health::Initial => 0,
            Health::Healthy => 1,
            Health::Unhealthy => 2,
        };
        *self.verdict.lock() = verdict;
        self.health.swap(code, Ordering::AcqRel) != code
    }

    /// Starts or goes on with a drain. The limit counts from when the drain was first heard of, for nothing was sent here
    /// since: whatever is in flight was given all of it, whoever repeats the drain and however often.
    pub(crate) fn drain(&self, limit: Duration, now: Instant) {
        let mut drain = self.drain.lock();
        let heard = drain.map_or(now, |known| known.heard);
        *drain = Some(Drain { heard, limit });
        self.draining.store(true, Ordering::SeqCst);
        drop(drain);
        self.close_overdue(now);
    }

    /// Nothing new comes here, but what is in flight may end of itself: the target is gone from the snapshot.
    pub(crate) fn retire(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Back in service: the drain was cancelled.
    pub(crate) fn restore(&self) {
        *self.drain.lock() = None;
        self.closing.store(false, Ordering::SeqCst);
        self.draining.store(false, Ordering::SeqCst);
    }

    /// Tells what is still in flight to close if the drain's limit is reached.
    pub(crate) fn close_overdue(&self, now: Instant) {
        let overdue = self.drain.lock().is_some_and(|drain| now.duration_since(drain.heard) >= drain.limit);
        if overdue && !self.closing.swap(true, Ordering::SeqCst) {
            self.closed.notify_waiters();
        }
    }

    /// Whether what is in flight must be closed.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Waits until what is in flight must be closed.
    pub async fn closing(&self) {
        loop {
            let closed = self.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if self.is_closing() {
                return;
            }
            closed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_admitted_while_draining_and_nothing_stays_counted() {
        let cell = Cell::default();
        assert!(cell.admit());
        cell.drain(Duration::from_secs(5), Instant::now());
        assert!(!cell.admit());
        assert_eq!(cell.in_flight(), 1);
        cell.leave();
        assert_eq!(cell.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_closes_when_the_limit_is_reached() {
        let cell = Cell::default();
        let start = Instant::now();
        cell.drain(Duration::from_secs(5), start);
        cell.drain(Duration::from_secs(5), start + Duration::from_secs(3));
        cell.close_overdue(start + Duration::from_millis(4_999));
        assert!(!cell.is_closing());
        let waiting = cell.closing();
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        cell.close_overdue(start + Duration::from_secs(5));
        waiting.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_changes_counts_from_when_the_drain_was_first_heard_of() {
        let (cell, start) = (Cell::default(), Instant::now());
        let closes = |limit, after| {
            cell.drain(Duration::from_secs(limit), start + Duration::from_secs(after));
            cell.is_closing()
        };
        assert!(!closes(5, 0) && !closes(9, 6), "a longer one counts as well");
        assert!(closes(6, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_without_patience_closes_at_once() {
        let cell = Cell::default();
        cell.drain(Duration::ZERO, Instant::now());
        cell.closing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_drain_leaves_no_trace() {
        let cell = Cell::default();
        cell.drain(Duration::ZERO, Instant::now());
        cell.restore();
        assert!(cell.admit());
        assert!(!cell.is_closing());
        cell.close_overdue(Instant::now() + Duration::from_secs(3600));
        assert!(!cell.is_closing());
    }

    #[test]
    fn a_drain_longer_than_time_never_closes() {
        let cell = Cell::default();
        cell.drain(Duration::MAX, Instant::now());
        assert!(cell.draining() && !cell.is_closing());
    }
}
