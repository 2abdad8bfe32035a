//! When new targets are first asked: a few hundred at once, as nearly always, and of more the rest in turn. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many wait for nobody, if there were none for a while.
const AT_ONCE: u32 = 250;
/// The others come after one another: 2,500 a second, about as many as 10,000 targets are checked later on.
const APART: Duration = Duration::from_micros(400);

/// Gives out turns.
#[derive(Debug)]
pub(super) struct Turns {
    /// When those given out would be over if none could have come at once.
    over: Instant,
}

impl Turns {
    /// None was given out yet.
    pub(super) fn beginning(now: Instant) -> Self {
        Self { over: now }
    }

    /// Takes a turn: how long it is to be waited for.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        self.over = self.over.max(now) + APART;
        self.over.duration_since(now).saturating_sub(APART * AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hundreds_come_at_once_and_thousands_in_turn() {
        let start = Instant::now();
        let mut turns = Turns::beginning(start);
        let waits: Vec<Duration> = (0..10_000).map(|_| turns.wait(start)).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 250);
        assert_eq!(waits[250], APART);
        assert_eq!(waits[9_999], APART * 9_750);
    }

    #[test]
    fn those_that_come_later_wait_for_what_is_left_of_those_before() {
        let start = Instant::now();
        let mut turns = Turns::beginning(start);
        for _ in 0..1_250 {
            turns.wait(start);
        }
        let soon = start + Duration::from_millis(300);
        assert_eq!(turns.wait(soon), Duration::from_millis(100) + APART);
        let later = start + Duration::from_secs(60);
        assert_eq!(turns.wait(later), Duration::ZERO);
    }
}
