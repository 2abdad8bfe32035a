//! What is in use drains before it goes: nothing new is sent there, and what is in flight finishes, within the
//! deregistration delay.

use std::time::Duration;

use jiff::Timestamp;

use crate::controller::Reconciled;

/// From the deletion until proxies can have heard of it and have reported since: earlier reports of nothing in flight
/// say nothing.
const SETTLE: Duration = Duration::from_secs(5);
/// From one look to the next while something is in flight.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How far an object that is being deleted has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Something may be in flight.
    Draining,
    /// It can go.
    Gone,
}

impl Leaving {
    /// When to look again.
    pub fn again(self) -> Reconciled {
        match self {
            Self::Draining => Reconciled::Later(LOOK_AGAIN),
            Self::Gone => Reconciled::Done,
        }
    }
}

/// How far an object has come that was deleted at `since`. `in_flight` is absent where nobody uses it, and holds
/// nothing where it is in use but nobody knows how much is in flight.
pub fn leaving(since: Timestamp, now: Timestamp, delay: Duration, in_flight: Option<Option<u64>>) -> Leaving {
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    match in_flight {
        None => Leaving::Gone,
        Some(_) if passed >= delay.max(SETTLE) => Leaving::Gone,
        Some(Some(0)) if passed >= SETTLE => Leaving::Gone,
        Some(_) => Leaving::Draining,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_goes_when_nothing_is_in_flight_or_its_time_is_over() {
        use Leaving::{Draining, Gone};
        for (in_flight, after, expected) in [
            (None, 0, Gone),
            (Some(Some(0)), 0, Draining),
            (Some(Some(0)), 5, Gone),
            (Some(Some(1)), 5, Draining),
            (Some(None), 5, Draining),
            (Some(Some(1)), 59, Draining),
            (Some(Some(1)), 60, Gone),
            (Some(None), 60, Gone),
        ] {
            let since = Timestamp::from_second(1000).unwrap();
            let now = Timestamp::from_second(1000 + after).unwrap();
            let found = leaving(since, now, Duration::from_secs(60), in_flight);
            assert_eq!(found, expected, "{in_flight:?} after {after} s");
        }
    }
}
