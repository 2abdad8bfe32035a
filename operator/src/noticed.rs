//! For how long this leader has known of something, by its own clock: dates in objects are the time of other machines, or of
//! one whose clock was set since. A new leader counts anew.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What was noticed of each thing, and when. Of a thing of which something else is noticed it counts anew.
#[derive(Debug)]
pub struct Noticed<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Noticed<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: PartialEq> Noticed<K, V> {
    /// For how long this has been known of that thing.
    pub fn known_for(&self, thing: K, what: V, now: Instant) -> Duration {
        let mut noticed = self.0.lock();
        let before = noticed.get(&thing).filter(|(known, _)| *known == what).map(|(_, since)| *since);
        let since = before.unwrap_or(now);
        if before.is_none() {
            noticed.insert(thing, (what, now));
        }
        now.duration_since(since)
    }

    /// Forgets things that are gone: all but these.
    pub fn keep(&self, stays: impl Fn(&K) -> bool) {
        self.0.lock().retain(|thing, _| stays(thing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_counts_from_when_it_was_noticed_until_something_else_is_or_the_thing_is_gone() {
        let (noticed, start) = (Noticed::default(), Instant::now());
        let known_for = |thing, what, seconds| {
            noticed.known_for(thing, what, start + Duration::from_secs(seconds)).as_secs()
        };
        assert_eq!([known_for("a", 1, 0), known_for("b", 1, 10)], [0, 0]);
        assert_eq!([known_for("a", 1, 20), known_for("b", 1, 20)], [20, 10]);
        assert_eq!([known_for("a", 2, 30), known_for("a", 2, 35)], [0, 5]);
        noticed.keep(|thing| *thing != "b");
        assert_eq!([known_for("a", 2, 40), known_for("b", 1, 40)], [10, 0]);
    }
}
