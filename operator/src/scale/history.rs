//! What was proposed and done before.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The longest window that the API allows.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

/// Proposals and changes of one service, as long as they matter.
#[derive(Clone, Debug)]
pub struct History {
    proposals: VecDeque<(Instant, i32)>,
    changes: VecDeque<(Instant, i32)>,
}

impl History {
    /// A history in which `current` was proposed now: after a start, or after somebody set the number, nothing scales in
    /// before the window has passed, as with the HorizontalPodAutoscaler.
    pub fn seeded(current: i32, now: Instant) -> Self {
        Self { proposals: VecDeque::from([(now, current)]), changes: VecDeque::new() }
    }

    /// Remembers a proposal. Of successive equal ones the first and the last are enough.
    pub fn propose(&mut self, replicas: i32, now: Instant) {
        let equal = |at: usize| self.proposals.get(at).is_some_and(|(_, last)| *last == replicas);
        let len = self.proposals.len();
        if len >= 2 && equal(len - 1) && equal(len - 2) {
            self.proposals.pop_back();
        }
        self.proposals.push_back((now, replicas));
        // One proposal from before the window says what held when it began.
        while self.proposals.get(1).is_some_and(|(at, _)| now.duration_since(*at) > LONGEST_WINDOW) {
            self.proposals.pop_front();
        }
    }

    /// Remembers that the number changed by `delta`.
    pub fn change(&mut self, delta: i32, now: Instant) {
        self.changes.push_back((now, delta));
        while self.changes.front().is_some_and(|(at, _)| now.duration_since(*at) > LONGEST_WINDOW) {
            self.changes.pop_front();
        }
    }

    /// Proposals within `window` before `now`.
    pub(super) fn proposals(&self, window: Duration, now: Instant) -> impl Iterator<Item = i32> {
        let recent = move |at: Instant| now.duration_since(at) < window;
        self.proposals.iter().filter(move |(at, _)| recent(*at)).map(|(_, replicas)| *replicas)
    }

    /// How many were added within `period` before `now`.
    pub(super) fn added(&self, period: Duration, now: Instant) -> i32 {
        let recent = |at: Instant| now.duration_since(at) < period;
        self.changes.iter().filter(|(at, delta)| recent(*at) && *delta > 0).map(|(_, delta)| delta).sum()
    }
}
