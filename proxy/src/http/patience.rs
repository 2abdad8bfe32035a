//! How many requests a client may take back before its connection ends.
//!
//! A request that is taken back at once costs its client two small frames, and the proxy and a target all that a request
//! costs (CVE-2023-44487). h2 itself only counts those that were taken back before anybody looked at them.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

/// With fewer requests nothing is said of a client. As Envoy has it (`premature_reset_total_stream_count`).
const ENOUGH: u32 = 500;

/// What is thought of one client.
#[derive(Debug, Default)]
pub(super) struct Patience {
    requests: AtomicU32,
    taken_back: AtomicU32,
    over: Notify,
}

impl Patience {
    /// A request is over; whether its client took it back at once.
    pub(super) fn count(&self, taken_back: bool) {
        let add = |counter: &AtomicU32, more| counter.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        let requests = add(&self.requests, 1);
        let taken_back = add(&self.taken_back, u32::from(taken_back));
        if requests >= ENOUGH && taken_back > requests / 2 {
            self.over.notify_one();
        }
    }

    /// Waits until the client has taken back too many: more than half of all.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn is_over(requests: u32, takes_back: impl Fn(u32) -> bool) -> bool {
        let patience = Patience::default();
        (0..requests).for_each(|number| patience.count(takes_back(number)));
        patience.over().now_or_never().is_some()
    }

    #[test]
    fn it_ends_with_a_client_that_takes_back_more_than_half_of_many_requests() {
        assert!(!is_over(ENOUGH - 1, |_| true), "of too few nothing is said");
        assert!(is_over(ENOUGH, |_| true));
        assert!(!is_over(10 * ENOUGH, |number| number % 2 == 1), "half of them");
        assert!(is_over(ENOUGH, |number| number % 3 > 0));
    }
}
