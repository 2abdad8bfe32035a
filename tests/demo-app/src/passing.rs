//! Something that can be set, for good or for a while.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A value that passes.
pub(crate) struct Passing<T>(Mutex<Option<Spell<T>>>);

#[derive(Clone, Copy)]
struct Spell<T> {
    value: T,
    until: Option<Instant>,
}

impl<T> Default for Passing<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Copy> Passing<T> {
    /// It is `value` from now on, or only for so long.
    pub(crate) fn set(&self, value: T, duration: Option<Duration>, now: Instant) {
        let spell = Spell { value, until: duration.map(|duration| now + duration) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(spell);
    }

    /// What it is now; nothing when it was never set, or has passed.
    pub(crate) fn get(&self, now: Instant) -> Option<T> {
        let spell = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spell.filter(|spell| spell.until.is_none_or(|until| now < until)).map(|spell| spell.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_for_a_while_passes_when_its_time_is_over() {
        let (health, now) = (Passing::default(), Instant::now());
        assert_eq!(health.get(now), None);
        health.set(503, Some(Duration::from_secs(8)), now);
        assert_eq!(health.get(now + Duration::from_secs(7)), Some(503));
        assert_eq!(health.get(now + Duration::from_secs(8)), None);
    }

    #[test]
    fn what_is_set_without_an_end_stays_until_something_else_is_set() {
        let (health, now) = (Passing::default(), Instant::now());
        health.set(503, None, now);
        assert_eq!(health.get(now + Duration::from_secs(86400)), Some(503));
        health.set(200, None, now);
        assert_eq!(health.get(now), Some(200));
    }
}
