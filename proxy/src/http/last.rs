//! How many requests a connection may have.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

/// Tells a connection when it has had its last request.
#[derive(Debug)]
pub(super) struct Last {
    /// Requests that may still come.
    left: AtomicU32,
    /// Changes to true when the client is told to go elsewhere.
    leaving: watch::Sender<bool>,
}

impl Last {
    /// After so many requests.
    pub(super) fn new(requests: u32) -> Self {
        Self { left: AtomicU32::new(requests), leaving: watch::Sender::new(false) }
    }

    /// A request comes. Whether it is the last one, or comes after that.
    pub(super) fn count(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).unwrap_or(0);
        if left == 1 {
            self.leave();
        }
        left <= 1
    }

    /// The client is told to go elsewhere.
    pub(super) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Changes to true when the client is told to go elsewhere.
    pub(super) fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_is_told_from_those_before() {
        let last = Last::new(3);
        let leaving = last.leaving();
        assert_eq!([last.count(), last.count()], [false, false]);
        assert!(!*leaving.borrow());
        assert_eq!([last.count(), last.count()], [true, true], "and from whatever comes nevertheless");
        assert!(*leaving.borrow());
    }
}
