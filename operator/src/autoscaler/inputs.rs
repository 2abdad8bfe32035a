//! What is seen of a ReplicaService at one moment.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use super::Autoscaler;
use crate::drain::forwards;
use crate::pod_metrics::{Known, Sample, cores};
use crate::registry::{Accepted, ValidReplicaService};
use crate::revision::is_rolling_out;
use crate::scale::{Blind, Finding, Replica};
use crate::targets::{DRAINING, condition};
use crate::world::has_ended;

/// A sample whose window ended so long ago, or ends so far in the future, says nothing of now.
const STALE: SignedDuration = SignedDuration::from_secs(90);

/// What is seen of a ReplicaService at one moment.
pub(super) struct Seen {
    /// What is known of each replica.
    pub(super) replicas: Vec<Replica>,
    /// When the newest sample of any of them ended.
    pub(super) newest: Option<Timestamp>,
    /// Why there can be no proposals.
    pub(super) blind: Option<Blind>,
    /// Why it would not be safe to scale in.
    pub(super) hold: Option<Finding>,
    /// Replicas that drain.
    pub(super) draining: i32,
}

impl Autoscaler {
    pub(super) fn look(
        &self,
        service: &ValidReplicaService,
        accepted: &Accepted,
        known: &Known,
        (now, time): (Instant, Timestamp),
    ) -> Seen {
        let pods = self.world.replicas_of(&service.key);
        let running = || pods.iter().filter(|pod| !has_ended(pod));
        let replica = |pod: &Pod| {
            known
                .samples
                .get(&pod.name_any())
                .map_or(Replica::Unknown, |sample| measure(pod, sample, service.warmup, time))
        };
        let samples = running().filter_map(|pod| known.samples.get(&pod.name_any()));
        let newest = samples.map(|sample| sample.to).max();
        Seen {
            replicas: running().map(|pod| replica(pod)).collect(),
            newest,
            blind: blind(service, known, newest, time),
            hold: self.hold(service, accepted, now),
            draining: running().filter(|pod| pod.annotations().contains_key(DRAINING)).count() as i32,
        }
    }

    /// Nothing scales in while a rollout goes on, or while a proxy does not say how its targets are.
    fn hold(&self, service: &ValidReplicaService, accepted: &Accepted, now: Instant) -> Option<Finding> {
        let Some(deployment) = self.world.deployment_of(&service.key) else {
            return Some(Finding::no("DeploymentMissing", "there is no Deployment yet"));
        };
        if is_rolling_out(&deployment) {
            return Some(Finding::yes(
                "RolloutInProgress",
                "nothing scales in while a new template is rolled out",
            ));
        }
        for (balancer, ..) in forwards(&service.key, accepted) {
            for proxy in self.world.proxies_of(&balancer) {
                let ready = condition(&proxy, "Ready").is_some_and(|ready| ready.status == "True");
                let uid = proxy.metadata.uid.as_deref().unwrap_or_default();
                if ready && !self.publisher.reports().is_live(&balancer, uid, now) {
                    let message = format!(
                        "proxy {} of LoadBalancer {} has not reported for 3 s: nothing scales in",
                        proxy.name_any(),
                        balancer.name
                    );
                    return Some(Finding::no("ProxyReportMissing", message));
                }
            }
        }
        None
    }
}

fn blind(
    service: &ValidReplicaService,
    known: &Known,
    newest: Option<Timestamp>,
    now: Timestamp,
) -> Option<Blind> {
    if service.paused {
        Some(Blind::Paused)
    } else if service.policies.is_empty() {
        Some(Blind::NoPolicies)
    } else if !service.containers_without_cpu_request.is_empty() {
        Some(Blind::MissingCpuRequest(service.containers_without_cpu_request.clone()))
    } else if let Some(failure) = &known.failure {
        Some(Blind::NoMetrics(failure.clone()))
    } else if !known.asked {
        Some(Blind::NoMetrics("the resource metrics API was not asked yet".into()))
    } else {
        let stale = newest.filter(|newest| !is_of_now(*newest, now));
        stale.map(|newest| {
            Blind::NoMetrics(format!(
                "the newest metrics that the resource metrics API has of its replicas are of {newest}, \
                 which says nothing of now; look at the logs of metrics-server, and at the clocks of the nodes"
            ))
        })
    }
}

fn is_of_now(sampled: Timestamp, now: Timestamp) -> bool {
    now.duration_since(sampled).abs() < STALE
}

/// A sample counts when its window began after the replica was ready and warm. What its readiness gate says is no matter:
/// it serves before the gate opens, and a drain that is cancelled makes it no new replica.
fn measure(pod: &Pod, sample: &Sample, warmup: Duration, now: Timestamp) -> Replica {
    let ready = condition(pod, "ContainersReady").filter(|ready| ready.status == "True");
    let since = ready.and_then(|ready| ready.last_transition_time.as_ref());
    let warm = since.and_then(|since| since.0.checked_add(warmup).ok());
    let counts = warm.is_some_and(|warm| sample.from >= warm) && is_of_now(sample.to, now);
    match share(pod, sample) {
        Some(share) if counts => Replica::Measured(share),
        _ => Replica::Unknown,
    }
}

/// What a pod uses of its CPU request.
fn share(pod: &Pod, sample: &Sample) -> Option<f64> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut requested = 0.0;
    for container in spec.containers.iter().chain(sidecars) {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requested += cores(&requests.and_then(|requests| requests.get("cpu"))?.0)?;
    }
    let used: f64 = sample.cores.values().sum();
    (requested > 0.0).then(|| used / requested)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evenkeel_proxy_api::report::Report;
    use kube::runtime::watcher::Event;
    use serde_json::{from_value, json};

    use super::*;
    use crate::autoscaler::Metrics;
    use crate::events::Events;
    use crate::fake;
    use crate::push::Publisher;
    use crate::push::publisher::tests::{accepted, key};
    use crate::registry::{Port, TargetSource, ValidPolicy};
    use crate::world::{World, Writers};

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "api-1"},
            "spec": {
                "containers": [{"name": "app", "resources": {"requests": {"cpu": "150m"}}}],
                "initContainers": [
                    {"name": "sidecar", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                    {"name": "setup"}
                ],
            },
            "status": {"conditions": [
                {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"},
                {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:30Z"}
            ]},
        }))
        .unwrap()
    }

    fn sample(from: &str, to: &str) -> Sample {
        Sample {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            cores: [("app".to_owned(), 0.08), ("sidecar".to_owned(), 0.02)].into(),
        }
    }

    #[test]
    fn only_what_a_ready_and_warm_replica_used_counts() {
        let counts_at = |now: &str, from: &str, to: &str, warmup: u64| {
            let sample = sample(from, to);
            let warmup = Duration::from_secs(warmup);
            measure(&pod(), &sample, warmup, now.parse().unwrap()) != Replica::Unknown
        };
        let counts = |from: &str, to: &str, warmup: u64| counts_at("2026-01-01T00:00:40Z", from, to, warmup);
        assert!(counts("2026-01-01T00:00:10Z", "2026-01-01T00:00:25Z", 0));
        assert!(!counts("2026-01-01T00:00:09Z", "2026-01-01T00:00:25Z", 0), "it began before");
        assert!(!counts("2026-01-01T00:00:10Z", "2026-01-01T00:00:25Z", 5), "it was not warm");
        assert!(counts("2026-01-01T00:00:15Z", "2026-01-01T00:00:25Z", 5));
        let counts_until = |now: &str| counts_at(now, "2026-01-01T00:00:15Z", "2026-01-01T00:00:30Z", 0);
        assert!(counts_until("2026-01-01T00:01:59Z"));
        assert!(!counts_until("2026-01-01T00:02:00Z"), "it is old");
        assert!(counts_until("2025-12-31T23:59:01Z"), "a node's clock is a little ahead");
        assert!(!counts_until("2025-12-31T23:59:00Z"), "it is from the future, and would never be old");
    }

    #[test]
    fn metrics_that_are_not_of_now_are_named_as_the_reason_why_nothing_scales() {
        let policy = ValidPolicy { name: "cpu".into(), cpu_target_percent: 50 };
        let service = ValidReplicaService { policies: vec![policy], ..service() };
        let known = Known { asked: true, ..Known::default() };
        let now = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        for (case, newest, is_blind) in [
            ("there are none yet", None, false),
            ("they are of now", Some(now(-89)), false),
            ("the API goes on showing old ones", Some(now(-90)), true),
            ("they are from the future", Some(now(90)), true),
        ] {
            let why = blind(&service, &known, newest, now(0)).map(|found| format!("{found:?}"));
            assert_eq!(why.is_some_and(|why| why.contains("are of 2027-01-15T")), is_blind, "{case}");
        }
    }

    struct Fixture {
        autoscaler: Autoscaler,
        writers: Writers,
        accepted: Accepted,
    }

    /// ReplicaService `api`; balancer `shop` forwards there.
    fn fixture() -> Fixture {
        let (world, writers) = World::new();
        let mut accepted = accepted(1, Vec::new());
        let group = accepted.target_groups.get_mut(&key("api")).unwrap();
        let source = TargetSource::ReplicaService { name: "api".into(), port: Port::Number(80) };
        Arc::get_mut(group).unwrap().source = source;
        let (client, _) = fake::client(|_| (500, json!({})));
        let autoscaler = Autoscaler {
            events: Arc::new(Events::uncounted(client.clone())),
            client,
            world: Arc::new(world),
            registry: Arc::default(),
            publisher: Arc::new(Publisher::new(1, Arc::default(), Arc::default(), Arc::default())),
            decisions: Arc::default(),
            metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()),
        };
        Fixture { autoscaler, writers, accepted }
    }

    impl Fixture {
        fn deployment(&mut self, updated: i32) {
            let deployment = json!({
                "metadata": {"name": "api", "namespace": "default"}, "spec": {"selector": {}, "template": {}},
                "status": {"replicas": 3, "updatedReplicas": updated},
            });
            self.writers.deployments.apply_watcher_event(&Event::Apply(from_value(deployment).unwrap()));
        }

        fn proxy(&mut self, ready: &str) {
            let proxy = json!({
                "metadata": {
                    "name": "shop-proxy-0", "namespace": "default", "uid": "uid",
                    "labels": {"evenkeel.dev/load-balancer": "shop"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-proxy-1", "uid": "rs", "controller": true}],
                },
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
            });
            self.writers.proxies.apply_watcher_event(&Event::Apply(from_value(proxy).unwrap()));
        }

        fn report(&self) {
            let now = (Instant::now(), Timestamp::UNIX_EPOCH);
            self.autoscaler.publisher.reports().take(&key("shop"), "uid", Report::default(), now);
        }

        fn reason(&self) -> Option<&'static str> {
            let held = self.autoscaler.hold(&service(), &self.accepted, Instant::now());
            held.map(|finding| finding.reason)
        }
    }

    fn service() -> ValidReplicaService {
        ValidReplicaService::of(key("api"), Some(3))
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_scales_in_without_a_deployment_or_while_it_rolls_out() {
        let mut fixture = fixture();
        assert_eq!(fixture.reason(), Some("DeploymentMissing"));
        fixture.deployment(1);
        assert_eq!(fixture.reason(), Some("RolloutInProgress"));
        fixture.deployment(3);
        assert_eq!(fixture.reason(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_scales_in_while_a_ready_proxy_has_not_reported_for_three_seconds() {
        let mut fixture = fixture();
        fixture.deployment(3);
        fixture.proxy("False");
        assert_eq!(fixture.reason(), None, "a proxy that is not ready yet need not report");
        fixture.proxy("True");
        assert_eq!(fixture.reason(), Some("ProxyReportMissing"));
        fixture.report();
        assert_eq!(fixture.reason(), None);
        tokio::time::advance(Duration::from_millis(3100)).await;
        assert_eq!(fixture.reason(), Some("ProxyReportMissing"));
        fixture.report();
        assert_eq!(fixture.reason(), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        fixture.accepted.load_balancers.clear();
        assert_eq!(fixture.reason(), None, "a balancer that does not forward there has no say");
    }

    #[test]
    fn utilisation_is_a_share_of_all_requests_sidecars_included() {
        let sample = sample("2026-01-01T00:00:10Z", "2026-01-01T00:00:25Z");
        assert!((share(&pod(), &sample).unwrap() - 0.5).abs() < 1e-9);
        let mut pod = pod();
        pod.spec.as_mut().unwrap().containers[0].resources = None;
        assert_eq!(share(&pod, &sample), None);
    }
}
