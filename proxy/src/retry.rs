//! When a request may be sent again, and how often.
//!
//! A retry must never double what a request does, and never double an outage's load. The first is decided by
//! [`may_resend`], the second by a [`Budget`] as in Envoy (20 % of the requests, but at least 3) and Linkerd (20 %, but at
//! least 10/s). A request that goes to another target because there was no connection needs no budget as long as there is
//! one for which nothing speaks against it: no target has done any work for it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;

/// A request's body beyond this many bytes is not kept for a retry. It is the size of Pingora's own retry buffer.
pub const MAX_KEPT_BODY: usize = 64 * 1024;

/// Attempts in all, the first included.
pub const MAX_ATTEMPTS: u32 = 4;

/// No connection after so long is a failure. Within a cluster a connection takes less than a millisecond, unless the
/// target's queue is full or a packet is lost: then the kernel tries again after one second, and that attempt must still
/// count.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where another target is left the request goes there after so long: nothing of it was sent, so that costs nothing. Less
/// would be too little where the proxy itself does not get its share of the processor for a while.
pub const CONNECT_HURRY: Duration = Duration::from_millis(500);

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection: the target saw nothing of the request.
    Connect,
    /// There was one, and it broke.
    Exchange {
        /// A part of the answer has arrived.
        answer_begun: bool,
    },
}

/// Of the request's body: what the failed attempts left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None was read from the client yet, or there is none.
    Untouched,
    /// Some or all was read, and all that was read is kept.
    Kept,
    /// Some was read and is gone.
    Gone,
}

/// Whether a request may be sent once more without doing twice what it does.
pub fn may_resend(failure: Failure, method: &Method, body: Body) -> bool {
    match (failure, body) {
        (_, Body::Gone) => false,
        (Failure::Connect, Body::Untouched) => true,
        (Failure::Connect, Body::Kept) => method.is_idempotent(),
        // Its work may have been done already: only what can be done twice (RFC 9110, 9.2.2).
        (Failure::Exchange { answer_begun }, _) => !answer_begun && method.is_idempotent(),
    }
}

/// Retries allowed: 20 % of the requests, and 3 each second besides. Unspent ones are kept up to [`CAPACITY`].
#[derive(Debug)]
pub struct Budget {
    /// In thousandths of a retry.
    balance: AtomicI64,
    /// When the allowance per second was last paid out, in milliseconds since the proxy's start.
    paid: AtomicU64,
}

/// In thousandths of a retry.
const PER_REQUEST: i64 = 200;
/// In thousandths of a retry.
const PER_SECOND: i64 = 3_000;
/// What one retry costs.
const COST: i64 = 1_000;
/// Most that is kept, in thousandths of a retry: what ten quiet seconds bring.
const CAPACITY: i64 = 10 * PER_SECOND;

impl Default for Budget {
    fn default() -> Self {
        Self { balance: AtomicI64::new(CAPACITY), paid: AtomicU64::new(0) }
    }
}

impl Budget {
    /// Counts a request.
    pub fn deposit(&self) {
        if self.balance.load(Ordering::Relaxed) < CAPACITY {
            self.balance.fetch_add(PER_REQUEST, Ordering::Relaxed);
        }
    }

    /// Takes a retry, if there is one left. `now` is counted from the proxy's start.
    pub fn withdraw(&self, now: Duration) -> bool {
        self.pay_out(now);
        self.balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
                (balance >= COST).then(|| balance - COST)
            })
            .is_ok()
    }

    fn pay_out(&self, now: Duration) {
        let now = now.as_millis() as u64;
        let paid = self.paid.swap(now, Ordering::Relaxed);
        let due = (now.saturating_sub(paid) as i64).saturating_mul(PER_SECOND) / 1_000;
        let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
            Some(balance.saturating_add(due).min(CAPACITY))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_sent_again_only_when_that_cannot_do_its_work_twice() {
        let broke = |answer_begun| Failure::Exchange { answer_begun };
        for (failure, method, body, expected) in [
            (Failure::Connect, Method::POST, Body::Untouched, true),
            (Failure::Connect, Method::GET, Body::Untouched, true),
            (Failure::Connect, Method::POST, Body::Kept, false),
            (Failure::Connect, Method::PUT, Body::Kept, true),
            (Failure::Connect, Method::PUT, Body::Gone, false),
            (broke(false), Method::GET, Body::Untouched, true),
            (broke(false), Method::PUT, Body::Kept, true),
            (broke(false), Method::PUT, Body::Gone, false),
            (broke(false), Method::POST, Body::Untouched, false),
            (broke(true), Method::GET, Body::Untouched, false),
        ] {
            assert_eq!(may_resend(failure, &method, body), expected, "{failure:?} {method} {body:?}");
        }
    }

    #[test]
    fn a_budget_grants_a_fifth_of_the_requests_and_three_a_second() {
        let budget = Budget::default();
        let now = Duration::from_secs(100);
        while budget.withdraw(now) {}
        for _ in 0..50 {
            budget.deposit();
        }
        assert_eq!((0..100).filter(|_| budget.withdraw(now)).count(), 10);
        let later = now + Duration::from_secs(2);
        assert_eq!((0..100).filter(|_| budget.withdraw(later)).count(), 6);
    }

    #[test]
    fn a_budget_does_not_grow_without_bound() {
        let budget = Budget::default();
        for _ in 0..10_000 {
            budget.deposit();
        }
        let granted = (0..1_000).filter(|_| budget.withdraw(Duration::from_secs(3_600))).count();
        assert_eq!(granted, (CAPACITY / COST) as usize);
    }
}
