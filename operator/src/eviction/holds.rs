//! For how long those who ask for evictions have been held, by this leader's own clock: what is noted on a pod is the time
//! of another machine, or of one whose clock was set since. A new leader counts anew.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::labels::EVICTION;

/// Since when this leader has known that the eviction of a pod is asked for, by the pods' UIDs.
#[derive(Debug, Default)]
pub struct Holds(Mutex<HashMap<String, Instant>>);

impl Holds {
    /// For how long it has been known that the eviction of this pod is asked for; none when it is not.
    pub fn known_for(&self, pod: &Pod, now: Instant) -> Option<Duration> {
        pod.annotations().get(EVICTION)?;
        let since = *self.0.lock().entry(pod.uid()?).or_insert(now);
        Some(now.duration_since(since))
    }

    /// Forgets pods that are gone.
    pub fn keep<'a>(&self, pods: impl Iterator<Item = &'a Pod>) {
        let mut holds = self.0.lock();
        if holds.is_empty() {
            return;
        }
        let mut before = std::mem::take(&mut *holds);
        holds.extend(pods.filter_map(|pod| before.remove_entry(pod.metadata.uid.as_ref()?)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn pod(uid: &str, asked: Option<&str>) -> Pod {
        let annotations = asked.map(|asked| json!({ EVICTION: asked }));
        from_value(json!({"metadata": {"uid": uid, "annotations": annotations}})).unwrap()
    }

    #[test]
    fn who_asks_is_held_from_when_this_leader_noticed_whatever_is_noted() {
        let (holds, start) = (Holds::default(), Instant::now());
        for (uid, asked, seconds, expected) in [
            ("1", None, 0, None),
            ("1", Some("2001-01-01T00:00:00Z"), 10, Some(0)),
            ("2", Some("2101-01-01T00:00:00Z"), 20, Some(0)),
            ("1", Some("2001-01-01T00:00:00Z"), 70, Some(60)),
            ("2", Some("by hand"), 70, Some(50)),
        ] {
            let pod = pod(uid, asked);
            let known_for = holds.known_for(&pod, start + Duration::from_secs(seconds));
            assert_eq!(known_for, expected.map(Duration::from_secs), "{uid} after {seconds} s");
        }
    }

    #[test]
    fn pods_that_are_gone_are_forgotten() {
        let (holds, start) = (Holds::default(), Instant::now());
        let (stays, gone) = (pod("stays", Some("x")), pod("gone", Some("x")));
        holds.known_for(&stays, start);
        holds.known_for(&gone, start);
        holds.keep([&stays, &pod("other", None)].into_iter());
        assert_eq!(holds.0.lock().keys().collect::<Vec<_>>(), ["stays"]);
    }
}
