//! The readiness gate of a replica: until it opens, Kubernetes does not count the replica as ready. Pure.
//!
//! It is a latch: it opens once the load balancers let the replica serve, and only a drain shuts it again. Were it to
//! follow health, one failed dependency would empty every Service.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::labels::LOAD_BALANCED;
use crate::object_key::ObjectKey;
use crate::reports::Votes;
use crate::targets::condition;

/// A load balancer none of whose proxies was live for so long has no say.
pub const SILENCE: Duration = Duration::from_secs(60);
/// A gate that was shut and does not show in the pod's readiness for so long is not waited for: its node may be gone.
const SHOWS_WITHIN: Duration = Duration::from_secs(10);

/// Where a replica's gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The pod has none: its template is older than gates.
    Absent,
    /// It was never open.
    Waiting,
    /// Kubernetes counts the replica as ready while its containers are.
    Open,
    /// A drain shut it.
    Shut {
        /// Whoever removes pods has seen it: this one goes first.
        shows: bool,
    },
}

/// What Kubernetes shows of the ready replicas of one template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Ready pods, as they are.
    pub pods: i32,
    /// Ready pods, as their ReplicaSet says.
    pub counted: i32,
}

impl Gate {
    /// The gate of a pod, among those of its template.
    pub fn of(pod: &Pod, template: Readiness, now: Timestamp) -> Self {
        let mut gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
        if !gates.any(|gate| gate.condition_type == LOAD_BALANCED) {
            return Self::Absent;
        }
        let Some(gate) = condition(pod, LOAD_BALANCED) else { return Self::Waiting };
        if gate.status == "True" {
            return Self::Open;
        }
        let unready = condition(pod, "Ready").is_none_or(|ready| ready.status != "True");
        let since = gate.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let shows = (unready && template.counted <= template.pods) || passed >= SHOWS_WITHIN;
        Self::Shut { shows }
    }

    /// Whether the replica is kept from being ready.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Waiting | Self::Shut { .. })
    }
}

/// What the proxies of one way to a replica say: a target group of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// What the live ones say.
    pub votes: Votes,
    /// None has been live for [`SILENCE`].
    pub silent: bool,
}

/// Whether a replica whose containers are ready serves: on every way most of the live proxies let it pass, or nobody has
/// a say.
pub fn passes(ways: &[Way]) -> bool {
    ways.iter().all(|Way { votes, silent }| *silent || votes.healthy * 2 > votes.live)
}

/// Since when no proxy of a load balancer is live.
#[derive(Debug, Default)]
pub struct Silence(HashMap<ObjectKey, Instant>);

impl Silence {
    /// Takes note of which load balancers have a live proxy now.
    pub fn note<'a>(
        &mut self,
        balancers: impl Iterator<Item = &'a ObjectKey>,
        is_live: impl Fn(&ObjectKey) -> bool,
        now: Instant,
    ) {
        let silent: HashSet<&ObjectKey> = balancers.filter(|balancer| !is_live(balancer)).collect();
        self.0.retain(|balancer, _| silent.contains(balancer));
        for balancer in silent {
            self.0.entry(balancer.clone()).or_insert(now);
        }
    }

    /// Whether that has lasted for [`SILENCE`].
    pub fn lasts(&self, balancer: &ObjectKey, now: Instant) -> bool {
        self.0.get(balancer).is_some_and(|since| now.duration_since(*since) >= SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:00:20Z";

    fn pod(gates: &Value, conditions: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {},
            "spec": {"containers": [], "readinessGates": gates},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_gate_is_read_from_its_pod() {
        let shut = |time: &str, ready: &str| {
            json!([
                {"type": LOAD_BALANCED, "status": "False", "lastTransitionTime": time},
                {"type": "Ready", "status": ready},
            ])
        };
        let (a_moment_ago, long_ago) = ("2026-01-01T00:00:19Z", "2026-01-01T00:00:10Z");
        let ours = json!([{"conditionType": "example.com/other"}, {"conditionType": LOAD_BALANCED}]);
        let others = json!([{"conditionType": "example.com/other"}]);
        let open = json!([{"type": LOAD_BALANCED, "status": "True"}]);
        let table = [
            ("a template older than gates", &others, open.clone(), 1, Gate::Absent),
            ("nobody opened it yet", &ours, json!([]), 1, Gate::Waiting),
            ("open", &ours, open, 1, Gate::Open),
            ("shut", &ours, shut(a_moment_ago, "False"), 1, Gate::Shut { shows: true }),
            ("its kubelet is on the way", &ours, shut(a_moment_ago, "True"), 1, Gate::Shut { shows: false }),
            ("its ReplicaSet is behind", &ours, shut(a_moment_ago, "False"), 2, Gate::Shut { shows: false }),
            ("its kubelet is gone", &ours, shut(long_ago, "True"), 2, Gate::Shut { shows: true }),
        ];
        for (case, gates, conditions, counted, expected) in table {
            let template = Readiness { pods: 1, counted };
            assert_eq!(
                Gate::of(&pod(gates, &conditions), template, NOW.parse().unwrap()),
                expected,
                "{case}"
            );
        }
    }

    #[test]
    fn a_replica_passes_once_most_of_the_live_proxies_on_every_way_let_it_pass() {
        let way = |healthy, live| Way { votes: Votes { live, healthy }, silent: false };
        let silent = Way { silent: true, ..way(0, 0) };
        for (case, ways, expected) in [
            ("nobody forwards to it", vec![], true),
            ("the only proxy lets it pass", vec![way(1, 1)], true),
            ("two of three", vec![way(2, 3)], true),
            ("one of two is no majority", vec![way(1, 2)], false),
            ("one way is missing", vec![way(2, 2), way(0, 1)], false),
            ("no proxy is live, for a moment", vec![way(0, 0)], false),
            ("no proxy is live, for long", vec![silent], true),
            ("one balancer is silent, the other one counts", vec![silent, way(0, 2)], false),
        ] {
            assert_eq!(passes(&ways), expected, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_balancer_has_no_say_after_a_minute_without_a_live_proxy() {
        let shop = ObjectKey::new("default", "shop");
        let mut silence = Silence::default();
        let mut passes = |seconds: u64, live: bool, start: Instant| {
            let now = start + Duration::from_secs(seconds);
            silence.note([&shop].into_iter(), |_| live, now);
            silence.lasts(&shop, now)
        };
        let start = Instant::now();
        assert!(!passes(0, false, start));
        assert!(!passes(59, false, start));
        assert!(passes(60, false, start));
        assert!(!passes(61, true, start), "it is back");
        assert!(!passes(62, false, start), "and counts anew");
        assert!(passes(122, false, start));
    }
}
