//! How long to wait before the next attempt: twice as long each time, and never the same for two proxies.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// A new leader serves this much later than it could, at most.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits that grow.
#[derive(Debug)]
pub struct Backoff {
    limit: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    /// With the shortest wait first.
    pub fn new(rng: fastrand::Rng) -> Self {
        Self { limit: FIRST, rng }
    }

    /// The next wait: between half the limit and the limit, which doubles up to 1 s.
    pub fn wait(&mut self) -> Duration {
        let wait = self.limit.mul_f64(0.5 + self.rng.f64() / 2.0);
        self.limit = (self.limit * 2).min(LONGEST);
        wait
    }

    /// All went well: the next wait is short again.
    pub fn reset(&mut self) {
        self.limit = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_are_jittered() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(3));
        for limit in [100, 200, 400, 800, 1_000, 1_000, 1_000] {
            let wait = backoff.wait().as_millis();
            assert!((limit / 2..=limit).contains(&wait), "{wait} of {limit}");
        }
        backoff.reset();
        assert!(backoff.wait().as_millis() <= 100);
    }

    #[test]
    fn two_proxies_do_not_wait_alike() {
        let waits = |seed| {
            let mut backoff = Backoff::new(fastrand::Rng::with_seed(seed));
            (0..5).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        assert_ne!(waits(1), waits(2));
    }
}
