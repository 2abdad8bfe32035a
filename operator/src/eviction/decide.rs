//! Whether a replica may be evicted now. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::drain::{DELETION_COST, LEAVES_FIRST};
use crate::targets::{DRAINING, containers_ready};
use crate::world::has_ended;

/// Beyond what a drain may take, whoever asks is held for so long, until another replica serves. Where none ever does,
/// for instance in a rollout that has stopped, nodes must still be emptied.
const PATIENCE: Duration = Duration::from_secs(600);

/// What an eviction is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It goes through.
    Allow,
    /// It goes through, although something may be in flight: it was held for too long.
    GiveUp,
    /// Another replica has to serve first. The wish is noted on the pod.
    Note,
    /// Another replica has to serve first.
    Replace,
    /// What is in flight finishes.
    Drain,
    /// The operator is about to remove it.
    Remove,
}

/// What the eviction of a replica is answered, where a drain may take `drain`. `known_for` is absent where nothing is noted
/// on the pod.
pub fn answer(pod: &Pod, drain: Duration, known_for: Option<Duration>) -> Answer {
    let annotations = pod.annotations();
    let draining = annotations.contains_key(DRAINING);
    let idle = !draining && !containers_ready(pod);
    if pod.metadata.deletion_timestamp.is_some() || has_ended(pod) || idle {
        return Answer::Allow;
    }
    let Some(known_for) = known_for else { return Answer::Note };
    if known_for >= drain + PATIENCE {
        Answer::GiveUp
    } else if !draining {
        Answer::Replace
    } else if annotations.get(DELETION_COST).is_some_and(|cost| cost == LEAVES_FIRST) {
        Answer::Remove
    } else {
        Answer::Drain
    }
}

impl Answer {
    /// Why whoever asks has to wait; none where it has not.
    pub fn wait(self) -> Option<&'static str> {
        match self {
            Self::Allow | Self::GiveUp => None,
            Self::Note | Self::Replace => {
                Some("another replica is started first, and this one drains once that one serves; try again")
            }
            Self::Drain => Some("it gets nothing new and finishes what is in flight; try again"),
            Self::Remove => {
                Some("nothing is in flight there any more, and it is about to be removed; try again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn who_asks_waits_until_the_replica_was_drained() {
        let (draining, marked) =
            (json!({DRAINING: "x"}), json!({DRAINING: "x", DELETION_COST: LEAVES_FIRST}));
        for (case, annotations, ready, known_for, expected) in [
            ("the first time", json!({}), true, None, Answer::Note),
            ("the second time", json!({}), true, Some(5), Answer::Replace),
            ("it drains", draining.clone(), true, Some(10), Answer::Drain),
            ("it drains for another reason", draining.clone(), true, None, Answer::Note),
            ("it drains and its containers are not ready", draining, false, Some(10), Answer::Drain),
            ("it is drained", marked, true, Some(10), Answer::Remove),
            ("it never served", json!({}), false, None, Answer::Allow),
            ("the time of a drain is over", json!({}), true, Some(300), Answer::Replace),
            ("there was time enough", json!({}), true, Some(900), Answer::GiveUp),
        ] {
            let pod = json!({
                "metadata": {"annotations": annotations},
                "status": {"conditions": [
                    {"type": "ContainersReady", "status": if ready { "True" } else { "False" }},
                ]},
            });
            let known_for = known_for.map(Duration::from_secs);
            let found = answer(&from_value(pod).unwrap(), Duration::from_secs(300), known_for);
            assert_eq!(found, expected, "{case}");
            let goes = matches!(expected, Answer::Allow | Answer::GiveUp);
            assert_eq!(found.wait().is_none(), goes, "{case}");
        }
    }

    #[test]
    fn a_pod_that_goes_anyway_may_go() {
        let mut pod = Pod::default();
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        assert_eq!(answer(&pod, Duration::ZERO, Some(Duration::ZERO)), Answer::Allow);
        let pod = from_value(json!({"metadata": {}, "status": {"phase": "Failed"}})).unwrap();
        assert_eq!(answer(&pod, Duration::ZERO, Some(Duration::ZERO)), Answer::Allow);
    }
}
