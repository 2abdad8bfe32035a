//! When to ask for samples: shortly before the next ones are due, then often until they are there. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What metrics-server does by default; corrected by what is seen.
const FIRST_GUESS: Duration = Duration::from_secs(15);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// So long before samples are due it is asked for them.
const EARLY: Duration = Duration::from_secs(1);
/// From one question to the next while they are due.
const OFTEN: Duration = Duration::from_millis(500);
/// They are late by so much: asked for less often.
const OVERDUE: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_secs(2);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// The rhythm of one namespace's samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    period: Duration,
    arrived: Option<Instant>,
    /// How often it was asked for the samples that are due.
    asked: u32,
    next: Instant,
}

impl Schedule {
    /// A rhythm that is not known yet: asked at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { period: FIRST_GUESS, arrived: None, asked: 0, next: now }
    }

    /// When to ask.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// It was asked: there were new samples, or not.
    pub(super) fn asked(&mut self, fresh: bool, now: Instant) {
        self.asked += 1;
        if fresh {
            if let Some(before) = self.arrived {
                let gap = now.duration_since(before);
                // There at the first question: they came before it, by how much is not known.
                let gap = if self.asked == 1 { gap.mul_f64(0.8) } else { gap };
                self.period = gap.clamp(SHORTEST, LONGEST);
            }
            let known = self.arrived.replace(now).is_some();
            self.asked = 0;
            self.next = now + if known { self.period.saturating_sub(EARLY).max(OFTEN) } else { OFTEN };
            return;
        }
        let overdue =
            self.arrived.is_some_and(|arrived| now > arrived + self.period.max(FIRST_GUESS) + OVERDUE);
        self.next = now + if overdue || self.arrived.is_none() { SELDOM } else { OFTEN };
    }

    /// It was asked in vain.
    pub(super) fn failed(&mut self, now: Instant) {
        self.next = now + RETRY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a source with samples every `period` for `seconds`; returns the questions and the longest delay from a sample
    /// to its discovery, both in the last third of the time.
    fn simulate(period: f64, seconds: f64) -> (usize, f64) {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let (mut seen, mut questions, mut worst) = (0_i64, 0, 0.0_f64);
        loop {
            let at = schedule.next();
            let time = at.duration_since(start).as_secs_f64();
            if time > seconds {
                return (questions, worst);
            }
            let newest = (time / period) as i64 + 1;
            let late = time > seconds * 2.0 / 3.0;
            if late {
                questions += 1;
                if newest > seen {
                    worst = worst.max(time - (newest - 1) as f64 * period);
                }
            }
            schedule.asked(newest > seen, at);
            seen = newest;
        }
    }

    #[test]
    fn new_samples_are_seen_within_a_second_without_asking_all_the_time() {
        for period in [5.0, 10.0, 15.0, 30.0, 60.0] {
            let (questions, worst) = simulate(period, 30.0 * period);
            assert!(worst <= 1.0, "every {period} s: seen after {worst} s");
            assert!(questions <= 50, "every {period} s: {questions} questions for 10 samples");
        }
    }

    #[test]
    fn a_source_that_fails_is_left_in_peace_for_a_while() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.failed(now);
        assert_eq!(schedule.next(), now + RETRY);
    }
}
