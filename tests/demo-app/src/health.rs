//! A health that can be set, for good or for a while.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::StatusCode;

/// What `/healthz` answers.
#[derive(Default)]
pub(crate) struct Health(Mutex<Option<Illness>>);

#[derive(Clone, Copy)]
struct Illness {
    status: StatusCode,
    until: Option<Instant>,
}

impl Health {
    /// Answer `status` from now on, or only for so long.
    pub(crate) fn set(&self, status: StatusCode, duration: Option<Duration>, now: Instant) {
        let illness = Illness { status, until: duration.map(|duration| now + duration) };
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(illness);
    }

    /// The status to answer.
    pub(crate) fn status(&self, now: Instant) -> StatusCode {
        match *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(Illness { status, until }) if until.is_none_or(|until| now < until) => status,
            _ => StatusCode::OK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_illness_ends_when_its_time_is_over() {
        let (health, now) = (Health::default(), Instant::now());
        assert_eq!(health.status(now), StatusCode::OK);
        health.set(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(8)), now);
        assert_eq!(health.status(now + Duration::from_secs(7)), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.status(now + Duration::from_secs(8)), StatusCode::OK);
    }

    #[test]
    fn an_illness_without_an_end_stays_until_it_is_cured() {
        let (health, now) = (Health::default(), Instant::now());
        health.set(StatusCode::SERVICE_UNAVAILABLE, None, now);
        assert_eq!(health.status(now + Duration::from_secs(86400)), StatusCode::SERVICE_UNAVAILABLE);
        health.set(StatusCode::OK, None, now);
        assert_eq!(health.status(now), StatusCode::OK);
    }
}
