//! What a target's checks add up to: pure.

use evenkeel_proxy_api::report::Health;
use evenkeel_proxy_api::snapshot::HealthCheck;

use crate::cells::Verdict;

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or one that broke.
    Unreachable(String),
    /// No answer in time.
    Timeout,
    /// An answer with a status that does not pass.
    Status(u16),
    /// Bytes that are no answer.
    Malformed,
}

impl Failure {
    /// In the words of Elastic Load Balancing, and in a sentence.
    pub fn verdict(&self, check: &HealthCheck) -> Verdict {
        let (reason, description) = match self {
            Self::Unreachable(why) => ("Target.FailedHealthChecks", format!("the connection failed: {why}")),
            Self::Timeout => ("Target.Timeout", format!("no answer within {} ms", check.timeout.as_millis())),
            Self::Status(status) => (
                "Target.ResponseCodeMismatch",
                format!("GET {} answered {status}, which is not among those that pass", check.path),
            ),
            Self::Malformed => ("Target.FailedHealthChecks", "the answer is not HTTP/1".to_owned()),
        };
        Verdict { reason, description }
    }
}

/// The state of one target's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    health: Health,
    /// Whether it ever passed. One that never did needs one pass, however often it failed: it may just be starting.
    proven: bool,
    /// Successive results that contradict the health.
    against: u16,
}

impl State {
    /// Where a target stands whose health is known to be this, or not known yet.
    pub fn new(health: Health) -> Self {
        Self { health, proven: health != Health::Initial, against: 0 }
    }

    /// What the checks so far say.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether it has yet to pass for the first time.
    pub fn is_new(&self) -> bool {
        !self.proven
    }

    /// Takes one more result into account.
    pub fn observe(&mut self, passed: bool, check: &HealthCheck) {
        let agrees = match self.health {
            Health::Initial => false,
            Health::Healthy => passed,
            Health::Unhealthy => !passed,
        };
        self.against = if agrees { 0 } else { self.against.saturating_add(1) };
        let needed = match (passed, self.proven) {
            (true, false) => 1,
            (true, true) => check.healthy_threshold,
            (false, _) => check.unhealthy_threshold,
        };
        if self.against >= needed {
            self.health = if passed { Health::Healthy } else { Health::Unhealthy };
            self.against = 0;
        }
        self.proven |= passed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The health after each result; `+` passes, `-` fails.
    fn course(start: Health, results: &str) -> String {
        let check = HealthCheck { healthy_threshold: 3, unhealthy_threshold: 2, ..HealthCheck::default() };
        let mut state = State::new(start);
        let after = results.chars().map(|result| {
            state.observe(result == '+', &check);
            match state.health() {
                Health::Initial => 'i',
                Health::Healthy => 'h',
                Health::Unhealthy => 'u',
            }
        });
        after.collect()
    }

    #[test]
    fn health_follows_the_thresholds() {
        for (start, results, expected) in [
            (Health::Initial, "+", "h"),
            (Health::Initial, "-+", "ih"),
            (Health::Initial, "--", "iu"),
            (Health::Initial, "---+", "iuuh"),
            (Health::Initial, "+--+++", "hhuuuh"),
            (Health::Healthy, "-+-+--", "hhhhhu"),
            (Health::Unhealthy, "++-+++", "uuuuuh"),
            (Health::Unhealthy, "+++", "uuh"),
        ] {
            assert_eq!(course(start, results), expected, "{start:?} {results}");
        }
    }

    #[test]
    fn failures_are_told_in_the_words_of_elastic_load_balancing() {
        let check = HealthCheck::default();
        for (failure, reason, description) in [
            (Failure::Timeout, "Target.Timeout", "no answer within 2000 ms"),
            (
                Failure::Status(500),
                "Target.ResponseCodeMismatch",
                "GET / answered 500, which is not among those that pass",
            ),
            (
                Failure::Unreachable("refused".into()),
                "Target.FailedHealthChecks",
                "the connection failed: refused",
            ),
            (Failure::Malformed, "Target.FailedHealthChecks", "the answer is not HTTP/1"),
        ] {
            assert_eq!(failure.verdict(&check), Verdict { reason, description: description.into() });
        }
    }
}
