//! What is in use drains before it goes: nothing new is sent there, and what is in flight finishes, within the
//! deregistration delay. That counts from when this leader noticed, by its own clock: what a deletion is dated is the API
//! server's time, which may be another.

use std::collections::HashMap;
use std::time::Duration;

use kube::Resource;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::controller::Reconciled;

/// From when the deletion was noticed until proxies can have heard of it and have reported since: earlier reports of nothing in flight
/// say nothing.
const SETTLE: Duration = Duration::from_secs(5);
/// From one look to the next while something is in flight.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Longer than anything drains.
const FORGOTTEN: Duration = Duration::from_hours(2);

/// When this leader noticed that objects are being deleted, by their UIDs.
#[derive(Debug, Default)]
pub struct Deletions(Mutex<HashMap<String, Instant>>);

impl Deletions {
    /// For how long it is known that this object is being deleted; none when it is not.
    pub fn known_for(&self, object: &impl Resource, now: Instant) -> Option<Duration> {
        let meta = object.meta();
        meta.deletion_timestamp.as_ref()?;
        let mut noticed = self.0.lock();
        noticed.retain(|_, since| now.duration_since(*since) < FORGOTTEN);
        let since = noticed.entry(meta.uid.clone().unwrap_or_default()).or_insert(now);
        Some(now.duration_since(*since))
    }
}

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

/// How far an object has come whose deletion has been known for so long. `in_flight` is absent where nobody uses it, and
/// holds nothing where it is in use but nobody knows how much is in flight.
pub fn leaving(known_for: Duration, delay: Duration, in_flight: Option<Option<u64>>) -> Leaving {
    match in_flight {
        None => Leaving::Gone,
        Some(_) if known_for >= delay.max(SETTLE) => Leaving::Gone,
        Some(Some(0)) if known_for >= SETTLE => Leaving::Gone,
        Some(_) => Leaving::Draining,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{from_value, json};

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
            let found = leaving(Duration::from_secs(after), Duration::from_secs(60), in_flight);
            assert_eq!(found, expected, "{in_flight:?} after {after} s");
        }
    }

    #[test]
    fn a_deletion_counts_from_when_it_was_noticed_whatever_its_date() {
        let (deletions, start) = (Deletions::default(), Instant::now());
        let object = |uid: &str, date: Option<&str>| -> Pod {
            from_value(json!({"metadata": {"uid": uid, "deletionTimestamp": date}})).unwrap()
        };
        let at = |seconds| start + Duration::from_secs(seconds);
        let (past, future) = (Some("2001-01-01T00:00:00Z"), Some("2101-01-01T00:00:00Z"));
        for (uid, date, seconds, expected) in [
            ("stays", None, 0, None),
            ("past", past, 10, Some(0)),
            ("future", future, 20, Some(0)),
            ("past", past, 70, Some(60)),
            ("future", future, 70, Some(50)),
            ("past", past, 10 + 2 * 3600, Some(0)),
        ] {
            let known_for = deletions.known_for(&object(uid, date), at(seconds));
            assert_eq!(known_for, expected.map(Duration::from_secs), "{uid} after {seconds} s");
        }
    }
}
