use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::fake::{self, Asked, Log};
use crate::world::Writers;

use crate::drain::{DELETION_COST, LEAVES_FIRST};
use crate::labels::LOAD_BALANCED;
use crate::push::publisher::tests as published;
use crate::registry::{Port, TargetSource, ValidReplicaService, ValidTargetGroup};
use crate::targets::DRAINING;
use crate::world::may_run;
use k8s_openapi::api::core::v1::Pod;

struct Fixture {
    drain: Drain,
    writers: Writers,
    log: Log,
    told: mpsc::Receiver<(Arc<ValidReplicaService>, News)>,
}

/// ReplicaService `api`, of which `desired` are wanted, with a Deployment of `replicas` and these pods.
fn fixture(desired: i32, replicas: i32, pods: &[(&str, Value)]) -> Fixture {
    let (client, log) = fake::client(|asked: &Asked| {
        let (kind, version) = match asked.what.as_str() {
            what if what.contains("deployments") => ("Deployment", "apps/v1"),
            what if what.ends_with("/status") => ("Pod", "v1"),
            _ => ("PartialObjectMetadata", "meta.k8s.io/v1"),
        };
        (200, json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}))
    });
    let (world, mut writers) = listed();
    let deployment = json!({
        "metadata": {
            "name": "api", "namespace": "default", "uid": "deployment-uid", "generation": 1,
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ReplicaService", "name": "api", "uid": "uid"}],
        },
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {"replicas": replicas, "updatedReplicas": replicas, "observedGeneration": 1},
    });
    writers.deployments.apply_watcher_event(&Event::Apply(serde_json::from_value(deployment).unwrap()));
    writers.replica_sets.apply_watcher_event(&Event::Apply(replica_set(replicas, replicas)));
    for (name, annotations) in pods {
        writers.replicas.apply_watcher_event(&Event::Apply(pod(name, annotations, "1")));
    }
    let registry = Registry::default();
    registry.write(|accepted| {
        let service = valid(desired);
        accepted.replica_services.insert(service.key.clone(), Arc::new(service)).is_none()
    });
    let publisher = Publisher::new(1, Arc::default(), Arc::default(), Arc::default());
    let (news, told) = mpsc::channel(16);
    let drain = Drain {
        client,
        world: Arc::new(world),
        registry: Arc::new(registry),
        publisher: Arc::new(publisher),
        news,
        metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()),
        die_after: None,
    };
    Fixture { drain, writers, log, told }
}

/// Nothing was there when the watches began.
fn listed() -> (World, Writers) {
    let (world, mut writers) = World::new();
    let Writers { replicas, proxies, slices, services, nodes, deployments, replica_sets } = &mut writers;
    replicas.apply_watcher_event(&Event::InitDone);
    proxies.apply_watcher_event(&Event::InitDone);
    slices.apply_watcher_event(&Event::InitDone);
    services.apply_watcher_event(&Event::InitDone);
    nodes.apply_watcher_event(&Event::InitDone);
    deployments.apply_watcher_event(&Event::InitDone);
    replica_sets.apply_watcher_event(&Event::InitDone);
    (world, writers)
}

fn replica_set(replicas: i32, ready: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {
            "name": "api-1", "namespace": "default", "uid": "rs",
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "deployment-uid"}
            ],
        },
        "spec": {"replicas": replicas, "selector": {}},
        "status": {"replicas": replicas, "readyReplicas": ready},
    }))
    .unwrap()
}

/// A pod with an open gate.
fn pod(name: &str, annotations: &Value, version: &str) -> Pod {
    let gate = json!({"type": LOAD_BALANCED, "status": "True"});
    pod_with(name, annotations, version, &[gate, json!({"type": "Ready", "status": "True"})])
}

fn pod_with(name: &str, annotations: &Value, version: &str, conditions: &[Value]) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": version,
            "labels": {"evenkeel.dev/replica-service": "api"}, "annotations": annotations,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-1", "uid": "rs", "controller": true}
            ],
        },
        "spec": {"nodeName": "n", "containers": [], "readinessGates": [{"conditionType": LOAD_BALANCED}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions},
    }))
    .unwrap()
}

fn valid(desired: i32) -> ValidReplicaService {
    ValidReplicaService::of(ObjectKey::new("default", "api"), Some(desired))
}

/// The annotations of a pod that was drained and is to go first.
fn marked() -> Value {
    json!({DRAINING: "2026-01-01T00:00:00Z", DELETION_COST: LEAVES_FIRST})
}

impl Fixture {
    /// Balancer `shop` forwards to the replicas, by one proxy, which says nothing.
    fn forward_by_a_silent_proxy(&mut self) {
        let published = published::accepted(1, Vec::new());
        let source = TargetSource::ReplicaService { name: "api".into(), port: Port::Number(80) };
        let (registry, publisher, world) = (&self.drain.registry, &self.drain.publisher, &self.drain.world);
        registry.write(|accepted| {
            accepted.load_balancers = published.load_balancers;
            accepted.target_groups = published.target_groups;
            let group = accepted.target_groups.values_mut().map(Arc::make_mut);
            group.for_each(|group| group.source = source.clone());
            true
        });
        let proxy = json!({
            "metadata": {
                "name": "shop-proxy-1-x", "namespace": "default", "uid": "uid-proxy",
                "labels": {"evenkeel.dev/load-balancer": "shop"},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-proxy-1", "uid": "rs", "controller": true,
                }],
            },
            "status": {"phase": "Running"},
        });
        self.writers.proxies.apply_watcher_event(&Event::Apply(serde_json::from_value(proxy).unwrap()));
        world.pulse().beat(None);
        publisher.publish(&registry.read(Clone::clone), world, &world.pulse().take());
    }

    /// What is written after so long.
    async fn asked_after(&self, memory: &mut Memory, passes: Duration) -> Vec<String> {
        tokio::time::advance(passes).await;
        self.drain.step(memory).await;
        asked(&self.log)
    }

    fn is_unheard(&self, memory: &mut Memory) -> bool {
        let accepted = self.drain.registry.read(Clone::clone);
        self.drain.bring_up_to_date(memory, &accepted, Instant::now());
        let service = &accepted.replica_services[&ObjectKey::new("default", "api")];
        self.drain.look(service, &accepted, memory).unwrap().unheard
    }

    /// The reasons of the events since somebody asked last.
    fn told(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.told.try_recv().ok()).map(|(_, news)| news.reason()).collect()
    }
}

fn asked(log: &Log) -> Vec<String> {
    log.lock().drain(..).map(|asked| asked.what).collect()
}

#[tokio::test]
async fn a_replica_to_which_nobody_forwards_drains_in_steps_that_each_show_before_the_next() {
    let mut fixture = fixture(1, 2, &[("a", json!({})), ("b", json!({}))]);
    let mut memory = Memory::default();
    assert!(fixture.drain.step(&mut memory).await);
    let body = fixture.log.lock()[0].body.clone();
    assert_eq!(body["metadata"]["uid"], "uid-a");
    assert!(body["metadata"]["annotations"][DRAINING].is_string());
    assert_eq!(asked(&fixture.log), ["PATCH /api/v1/namespaces/default/pods/a"]);

    fixture.drain.step(&mut memory).await;
    assert_eq!(asked(&fixture.log), [""; 0], "the annotation is not seen yet");

    let draining = json!({DRAINING: "2026-01-01T00:00:00Z"});
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(pod("a", &draining, "2")));
    fixture.drain.step(&mut memory).await;
    assert_eq!(fixture.log.lock()[0].body["metadata"]["annotations"][DELETION_COST], LEAVES_FIRST);
    assert_eq!(asked(&fixture.log), ["PATCH /api/v1/namespaces/default/pods/a"]);

    fixture.writers.replicas.apply_watcher_event(&Event::Apply(pod("a", &marked(), "3")));
    assert_eq!(fixture.told(), ["DrainBegun", "Drained"]);
    fixture.drain.step(&mut memory).await;
    let [gate, ready] = [0, 1].map(|index| fixture.log.lock()[0].body["status"]["conditions"][index].clone());
    assert_eq!(
        (&ready["type"], &ready["status"]),
        (&json!("Ready"), &json!("False")),
        "no kubelet is waited for"
    );
    assert_eq!((&gate["type"], &gate["status"]), (&json!(LOAD_BALANCED), &json!("False")));
    assert_eq!(asked(&fixture.log), ["PATCH /api/v1/namespaces/default/pods/a/status"]);

    fixture.writers.replicas.apply_watcher_event(&Event::Delete(pod("a", &marked(), "4")));
    fixture.drain.step(&mut memory).await;
    assert_eq!(fixture.told(), ["ReplicaRemoved"]);
}

#[tokio::test]
async fn a_replica_whose_gate_is_shut_is_removed_once_its_replica_set_does_not_count_it() {
    let mut fixture = fixture(1, 2, &[("b", json!({}))]);
    let closed = [
        json!({"type": LOAD_BALANCED, "status": "False", "lastTransitionTime": Timestamp::now().to_string()}),
        json!({"type": "Ready", "status": "False"}),
    ];
    let closed = pod_with("a", &marked(), "4", &closed);
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(closed));
    let mut memory = Memory::default();
    fixture.drain.step(&mut memory).await;
    assert_eq!(asked(&fixture.log), [""; 0], "it still counts as ready");

    fixture.writers.replica_sets.apply_watcher_event(&Event::Apply(replica_set(2, 1)));
    fixture.drain.step(&mut memory).await;
    let scale = fixture.log.lock()[0].clone();
    assert_eq!(scale.what, "PATCH /apis/apps/v1/namespaces/default/deployments/api");
    assert_eq!(scale.body["spec"], json!({"replicas": 1}));
    assert_eq!(scale.body["metadata"]["uid"], "deployment-uid");
    assert!(scale.query.contains("fieldManager=evenkeel-scale"), "{}", scale.query);

    fixture.log.lock().clear();
    fixture.drain.step(&mut memory).await;
    assert_eq!(asked(&fixture.log), [""; 0], "the Deployment does not show it yet");
}

#[tokio::test]
async fn a_pod_that_no_scale_removes_is_no_victim() {
    let mut fixture = fixture(1, 2, &[("b", json!({})), ("c", json!({}))]);
    let mut copy = pod("a-copy", &json!({}), "1");
    copy.metadata.owner_references = None;
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(copy));
    fixture.drain.step(&mut Memory::default()).await;
    assert_eq!(asked(&fixture.log), ["PATCH /api/v1/namespaces/default/pods/b"]);
}

#[tokio::test]
async fn a_new_leader_takes_back_what_was_about_to_go_when_it_is_wanted_again() {
    let fixture = fixture(3, 2, &[("a", marked()), ("b", json!({}))]);
    fixture.drain.step(&mut Memory::default()).await;
    let log = fixture.log.lock();
    assert_eq!(log[0].body["metadata"]["annotations"], json!({DRAINING: null, DELETION_COST: null}));
    assert_eq!(log[1].body["spec"]["replicas"], 3);
}

#[tokio::test]
async fn a_gate_opens_with_the_uid_of_its_pod_and_is_written_once() {
    let mut fixture = fixture(2, 2, &[("a", json!({}))]);
    let ready = json!({"type": "ContainersReady", "status": "True"});
    let starting = pod_with("b", &json!({}), "1", std::slice::from_ref(&ready));
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(starting));
    let mut memory = Memory::default();
    fixture.drain.step(&mut memory).await;
    let body = fixture.log.lock()[0].body.clone();
    assert_eq!(body["metadata"]["uid"], "uid-b");
    assert_eq!(body["status"]["conditions"][0]["status"], "True");
    assert_eq!(asked(&fixture.log), ["PATCH /api/v1/namespaces/default/pods/b/status"]);

    fixture.drain.step(&mut memory).await;
    let open = pod_with("b", &json!({}), "2", &[ready, json!({"type": LOAD_BALANCED, "status": "True"})]);
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(open));
    fixture.drain.step(&mut memory).await;
    assert_eq!(asked(&fixture.log), [""; 0]);
}

#[test]
fn a_proxy_that_waits_to_be_started_again_has_nothing_in_flight() {
    let proxy = |phase: &str, states: Value| {
        let statuses: Vec<Value> = states
            .as_array()
            .unwrap()
            .iter()
            .map(|state| {
                json!({"name": "p", "image": "",
            "imageID": "", "ready": false, "restartCount": 1, "state": state})
            })
            .collect();
        let pod = json!({"metadata": {}, "status": {"phase": phase, "containerStatuses": statuses}});
        serde_json::from_value::<Pod>(pod).unwrap()
    };
    let (running, waiting) = (json!({"running": {}}), json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    for (phase, states, expected) in [
        ("Pending", json!([]), false),
        ("Pending", json!([waiting]), false),
        ("Running", json!([waiting]), false),
        ("Running", json!([waiting, running]), true),
        ("Running", json!([]), true),
    ] {
        assert_eq!(may_run(&proxy(phase, states.clone())), expected, "{phase} {states}");
    }
}

#[tokio::test]
async fn a_deployment_of_somebody_else_is_left_alone() {
    let fixture = fixture(5, 2, &[]);
    fixture.drain.registry.write(|accepted| {
        let service = ValidReplicaService { uid: "another".into(), ..valid(5) };
        accepted.replica_services.insert(service.key.clone(), Arc::new(service)).is_some()
    });
    assert!(!fixture.drain.step(&mut Memory::default()).await);
    assert!(fixture.log.lock().is_empty());
}

/// A delay of 300 s, and 15 s for a proxy that says nothing.
const PATIENCE: Duration = Duration::from_secs(315);
const NEARLY: Duration = Duration::from_millis(314_999);

#[tokio::test(start_paused = true)]
async fn a_drain_is_given_its_time_from_when_this_leader_noticed_it_whatever_somebody_wrote() {
    for written in ["", "soon", "2001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
        let mut fixture = fixture(1, 2, &[("a", json!({DRAINING: written})), ("b", json!({}))]);
        fixture.forward_by_a_silent_proxy();
        let mut memory = Memory::default();
        assert_eq!(fixture.asked_after(&mut memory, Duration::ZERO).await, [""; 0], "{written:?}");
        assert_eq!(fixture.asked_after(&mut memory, NEARLY).await, [""; 0], "{written:?}");
        let over = fixture.asked_after(&mut memory, PATIENCE.saturating_sub(NEARLY)).await;
        assert_eq!(over, ["PATCH /api/v1/namespaces/default/pods/a"], "{written:?}: its deletion cost");
        assert_eq!(fixture.told(), ["DrainOverdue"], "{written:?}");

        let next_leader = &mut Memory::default();
        assert_eq!(fixture.asked_after(next_leader, Duration::ZERO).await, [""; 0], "{written:?}");
        assert_eq!(fixture.asked_after(next_leader, PATIENCE).await.len(), 1, "{written:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_somebody_wrote_on_a_replica_that_is_needed_is_taken_back() {
    for written in ["soon", "9999-01-01T00:00:00Z"] {
        let mut fixture = fixture(2, 2, &[("a", json!({DRAINING: written})), ("b", json!({}))]);
        fixture.forward_by_a_silent_proxy();
        fixture.drain.step(&mut Memory::default()).await;
        let body = fixture.log.lock()[0].body.clone();
        assert_eq!(
            body["metadata"]["annotations"],
            json!({DRAINING: null, DELETION_COST: null}),
            "{written}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_cost_that_somebody_wrote_chooses_nobody_and_skips_no_drain() {
    for cost in ["-2147483648", "-100", "garbage", LEAVES_FIRST] {
        let costs = json!({DELETION_COST: cost});
        let mut fixture = fixture(1, 2, &[("a", json!({})), ("b", costs.clone())]);
        fixture.forward_by_a_silent_proxy();
        let mut memory = Memory::default();
        let drained = fixture.asked_after(&mut memory, Duration::ZERO).await;
        assert_eq!(drained, ["PATCH /api/v1/namespaces/default/pods/a"], "{cost}");

        let mut both = costs;
        both[DRAINING] = "2026-01-01T00:00:00Z".into();
        fixture.writers.replicas.apply_watcher_event(&Event::Apply(pod("a", &json!({}), "2")));
        fixture.writers.replicas.apply_watcher_event(&Event::Apply(pod("b", &both, "2")));
        let while_it_drains = fixture.asked_after(&mut memory, Duration::from_secs(10)).await;
        assert_eq!(while_it_drains, [""; 0], "{cost}: whatever it costs, it drains first");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_serves_two_groups_of_the_same_replicas_is_one_proxy() {
    let mut fixture = fixture(1, 2, &[("a", json!({DRAINING: ""})), ("b", json!({}))]);
    fixture.forward_by_a_silent_proxy();
    let mut accepted = fixture.drain.registry.read(Clone::clone);
    let (shop, api) = (ObjectKey::new("default", "shop"), ObjectKey::new("default", "api"));
    for group in accepted.load_balancers[&shop].target_groups() {
        let other = ValidTargetGroup { key: shop.sibling(group), ..(*accepted.target_groups[&api]).clone() };
        accepted.target_groups.insert(other.key.clone(), Arc::new(other));
    }
    let service = Arc::clone(&accepted.replica_services[&api]);
    let situation = fixture.drain.look(&service, &accepted, &mut Memory::default()).unwrap();
    let drains: Vec<_> = situation.pods.iter().filter_map(|pod| pod.drain).collect();
    assert_eq!(drains.iter().map(|drain| drain.proxies).collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn nobody_knows_which_replicas_pass_before_a_proxy_has_reported_or_none_has_for_a_minute() {
    let mut fixture = fixture(2, 2, &[("a", json!({})), ("b", json!({}))]);
    let memory = &mut Memory::default();
    assert!(!fixture.is_unheard(memory), "nobody forwards");
    fixture.forward_by_a_silent_proxy();
    assert!(fixture.is_unheard(memory), "as after a change of leader");
    tokio::time::advance(crate::drain::SILENCE).await;
    assert!(!fixture.is_unheard(memory), "it has no say any more");

    let report = evenkeel_proxy_api::report::Report::default();
    let (shop, memory) = (ObjectKey::new("default", "shop"), &mut Memory::default());
    assert!(fixture.is_unheard(memory));
    fixture.drain.publisher.reports().take(&shop, "uid-proxy", report, (Instant::now(), Timestamp::now()));
    assert!(!fixture.is_unheard(memory), "it has reported");
}

#[tokio::test(start_paused = true)]
async fn what_shows_while_a_replica_leaves_is_looked_at_at_once() {
    let Fixture { drain, mut writers, log, told: _told } =
        fixture(1, 2, &[("a", json!({})), ("b", json!({}))]);
    drain.registry.set_complete();
    let world = drain.world.clone();
    let running = tokio::spawn(run(drain));
    let next_write = async || {
        while log.lock().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        asked(&log)
    };
    assert_eq!(next_write().await, ["PATCH /api/v1/namespaces/default/pods/a"]);
    let draining = json!({DRAINING: "2026-01-01T00:00:00Z"});
    writers.replicas.apply_watcher_event(&Event::Apply(pod("a", &draining, "2")));
    world.pulse().beat(Some("default"));
    let shown = Instant::now();
    assert_eq!(next_write().await, ["PATCH /api/v1/namespaces/default/pods/a"]);
    assert!(shown.elapsed() <= PAUSE, "{:?} after it showed", shown.elapsed());
    running.abort();
}
