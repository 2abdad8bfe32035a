//! What is in use drains before it goes: nothing new is sent there, and what is in flight finishes, within the
//! deregistration delay. That counts from when this leader noticed, by its own clock: what a deletion is dated is the API
//! server's time, which may be another. A new leader counts anew, and waits longer only where nobody knows how much is in
//! flight; proxies count by themselves and close what is left in time.

use std::time::Duration;

use kube::Resource;
use tokio::time::Instant;

use crate::noticed::Noticed;
use crate::object_key::{ObjectKey, key};
use crate::reconciled::Reconciled;

/// From when the deletion was noticed until proxies can have heard of it and have reported since: earlier reports of nothing
/// in flight say nothing.
const SETTLE: Duration = Duration::from_secs(5);
/// From one look to the next while something is in flight.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When this leader noticed that objects are being deleted, with their UIDs.
#[derive(Debug, Default)]
pub struct Deletions(Noticed<(String, ObjectKey), Option<String>>);

impl Deletions {
    /// For how long it is known that this object is being deleted; none when it is not.
    pub fn known_for<K: Resource<DynamicType = ()>>(&self, object: &K, now: Instant) -> Option<Duration> {
        object.meta().deletion_timestamp.as_ref()?;
        Some(self.0.known_for(key(object).of_kind::<K>(), object.meta().uid.clone(), now))
    }

    /// Nothing is known of an object that is gone.
    pub fn forget<K: Resource<DynamicType = ()>>(&self, key: &ObjectKey) {
        let gone = key.of_kind::<K>();
        self.0.keep(|known| *known != gone);
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
        let (past, future) = (Some("2001-01-01T00:00:00Z"), Some("2101-01-01T00:00:00Z"));
        for (name, uid, date, seconds, expected) in [
            ("stays", "1", None, 0, None),
            ("past", "2", past, 10, Some(0)),
            ("future", "3", future, 20, Some(0)),
            ("past", "2", past, 70, Some(60)),
            ("future", "3", future, 70, Some(50)),
            ("past", "its namesake's", past, 80, Some(0)),
        ] {
            let meta = json!({"namespace": "default", "name": name, "uid": uid, "deletionTimestamp": date});
            let object: Pod = from_value(json!({ "metadata": meta })).unwrap();
            let known_for = deletions.known_for(&object, start + Duration::from_secs(seconds));
            assert_eq!(known_for, expected.map(Duration::from_secs), "{name} {uid} after {seconds} s");
        }
        deletions.forget::<Pod>(&ObjectKey::new("default", "future"));
        let meta = json!({"namespace": "default", "name": "future", "uid": "3", "deletionTimestamp": future});
        let object: Pod = from_value(json!({ "metadata": meta })).unwrap();
        let known_for = deletions.known_for(&object, start + Duration::from_secs(90));
        assert_eq!(known_for, Some(Duration::ZERO), "forgotten");
    }
}
