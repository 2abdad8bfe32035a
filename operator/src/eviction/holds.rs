//! For how long those who ask for evictions have been held.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use crate::labels::EVICTION;
use crate::noticed::Noticed;

/// Since when this leader has known what is noted on a pod, by the pods' UIDs. What is noted anew is asked for anew.
#[derive(Debug, Default)]
pub struct Holds(Noticed<String, String>);

impl Holds {
    /// For how long it has been known that the eviction of this pod is asked for; none when it is not.
    pub fn known_for(&self, pod: &Pod, now: Instant) -> Option<Duration> {
        let noted = pod.annotations().get(EVICTION)?;
        Some(self.0.known_for(pod.uid()?, noted.clone(), now))
    }

    /// Forgets pods that are gone: all but these.
    pub fn keep(&self, pods: &[Arc<Pod>]) {
        let kept: HashSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.0.keep(|uid| kept.contains(uid.as_str()));
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
            ("2", Some("2101-01-01T00:00:00Z"), 70, Some(50)),
            ("2", Some("by hand, anew"), 80, Some(0)),
            ("2", None, 90, None),
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
        holds.keep(&[Arc::new(stays.clone()), Arc::new(pod("other", None))]);
        let later = start + Duration::from_secs(9);
        let known_for = |pod| holds.known_for(pod, later).map(|known_for| known_for.as_secs());
        assert_eq!((known_for(&stays), known_for(&gone)), (Some(9), Some(0)));
    }
}
