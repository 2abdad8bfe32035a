use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::registry::ValidTargetGroup;
use crate::world::Writers;
use evenkeel_proxy_api::snapshot::{Algorithm, HealthCheck, TargetProtocol};

const DELAY: Duration = Duration::from_secs(300);

fn group(source: TargetSource) -> ValidTargetGroup {
    ValidTargetGroup {
        key: ObjectKey::new("default", "api"),
        generation: 1,
        protocol: TargetProtocol::Http,
        algorithm: Algorithm::RoundRobin,
        health_check: HealthCheck::default(),
        deregistration_delay: DELAY,
        source,
        deleting: false,
    }
}

fn replicas(port: Port) -> ValidTargetGroup {
    group(TargetSource::ReplicaService { name: "api".into(), port })
}

/// A pod of ReplicaService `api` that is ready, changed by `change`.
fn pod(name: &str, change: Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "labels": {"evenkeel.dev/replica-service": "api"}, "annotations": {},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-1", "uid": "rs", "controller": true}],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {
            "phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}],
        },
    });
    merge(&mut pod, change);
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn world() -> (World, Writers) {
    let (world, mut writers) = World::new();
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "a"}},
    });
    writers.nodes.apply_watcher_event(&Event::Apply(serde_json::from_value(node).unwrap()));
    (world, writers)
}

fn targets_of(pods: Vec<Pod>, group: &ValidTargetGroup) -> Vec<Target> {
    let (world, mut writers) = world();
    for pod in pods {
        writers.replicas.apply_watcher_event(&Event::Apply(pod));
    }
    targets(group, &world)
}

#[test]
fn a_pod_is_a_target_while_its_containers_are_ready_and_drains_when_it_is_told_to() {
    let draining = |time: &str| json!({"metadata": {"annotations": {"evenkeel.dev/draining": time}}});
    let deleted = json!({"metadata": {
        "deletionTimestamp": "2026-01-01T00:01:30Z", "deletionGracePeriodSeconds": 30,
    }});
    let unready = json!({"status": {"conditions": [{"type": "ContainersReady", "status": "False"}]}});
    let serving = Some(None);
    let drains = Some(Some(DELAY));
    let table = [
        ("ready, whatever its gates say", json!({}), serving),
        ("not ready", unready.clone(), None),
        ("no address", json!({"status": {"podIP": null}}), None),
        ("ended", json!({"status": {"phase": "Failed"}}), None),
        ("told to drain", draining("2026-01-01T00:01:00Z"), drains),
        ("deleted", deleted, drains),
        ("told to drain a year ago", draining("2025-01-01T00:00:00Z"), drains),
        ("told to drain in a year", draining("2027-01-01T00:00:00Z"), drains),
        ("nobody can say since when", draining("soon"), drains),
    ];
    for (case, change, expected) in table {
        let found = targets_of(vec![pod("a", change)], &replicas(Port::Number(80)));
        assert_eq!(found.first().map(|target| target.drain), expected, "{case}");
    }
    let both = targets_of(
        vec![pod("a", unready), pod("b", draining("2026-01-01T00:01:00Z"))],
        &replicas(Port::Number(80)),
    );
    assert_eq!(both.len(), 1);
}

#[test]
fn a_target_is_named_after_its_pod_and_knows_its_zone() {
    let found =
        targets_of(vec![pod("b", json!({})), pod("a", json!({}))], &replicas(Port::Name("http".into())));
    let expected = Target {
        id: "uid-a".into(),
        address: "10.0.0.1".parse().unwrap(),
        port: 8080,
        zone: "a".into(),
        node: "node-1".into(),
        weight: 1,
        drain: None,
    };
    assert_eq!(found[0], expected);
    assert_eq!(found[1].id, "uid-b");
    assert_eq!(
        targets_of(vec![pod("a", json!({}))], &replicas(Port::Name("grpc".into()))),
        [],
        "no such port"
    );
}

#[test]
fn all_targets_of_a_group_that_is_being_deleted_drain() {
    let group = ValidTargetGroup { deleting: true, ..replicas(Port::Number(80)) };
    assert_eq!(targets_of(vec![pod("a", json!({}))], &group)[0].drain, Some(DELAY));
}

#[test]
fn the_endpoints_of_a_service_are_targets_at_the_port_they_have() {
    let (world, mut writers) = world();
    let service = json!({"metadata": {"name": "legacy", "namespace": "default"}, "spec": {"ports": [
        {"name": "web", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81},
    ]}});
    let slice = json!({
        "metadata": {"name": "legacy-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "legacy"}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080}, {"name": "admin", "port": 9000}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"uid": "uid-1"}, "zone": "b"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.4"], "conditions": {"ready": false, "serving": false, "terminating": true}},
            {"addresses": ["10.0.0.5"]},
        ],
    });
    writers.services.apply_watcher_event(&Event::Apply(serde_json::from_value(service).unwrap()));
    writers.slices.apply_watcher_event(&Event::Apply(serde_json::from_value(slice).unwrap()));
    let of = |port| targets(&group(TargetSource::Service { name: "legacy".into(), port }), &world);
    let found: Vec<(String, Option<Duration>)> =
        of(Port::Number(80)).into_iter().map(|target| (target.id, target.drain)).collect();
    let expected = [("10.0.0.3:8080", Some(DELAY)), ("10.0.0.5:8080", None), ("uid-1", None)]
        .map(|(id, drain)| (id.to_owned(), drain));
    assert_eq!(found, expected);
    assert_eq!(of(Port::Name("admin".into()))[0].port, 9000);
    assert_eq!(of(Port::Number(8080)), [], "a number is that of the Service");
}

#[test]
fn a_dual_stack_endpoint_keeps_its_address_in_whatever_order_its_slices_come() {
    let slice = |family: &str, address: &str| {
        json!({
            "metadata": {
                "name": format!("legacy-{family}"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": "legacy"},
            },
            "addressType": family, "ports": [{"port": 8080}],
            "endpoints": [{"addresses": [address], "targetRef": {"uid": "uid-1"}}],
        })
    };
    let service =
        json!({"metadata": {"name": "legacy", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}});
    // The store has no order of its own: often enough the IPv6 slice would come first.
    for _ in 0..20 {
        let (world, mut writers) = world();
        writers.services.apply_watcher_event(&Event::Apply(serde_json::from_value(service.clone()).unwrap()));
        for slice in [slice("IPv6", "fd00::1"), slice("IPv4", "10.0.0.1")] {
            writers.slices.apply_watcher_event(&Event::Apply(serde_json::from_value(slice).unwrap()));
        }
        let source = TargetSource::Service { name: "legacy".into(), port: Port::Number(80) };
        let found = targets(&group(source), &world);
        assert_eq!(found.iter().map(|target| target.address.to_string()).collect::<Vec<_>>(), ["10.0.0.1"]);
    }
}

#[test]
fn targets_that_stay_as_they_are_are_no_change() {
    let known = Targets::default();
    let mut heard = Box::pin(known.changes());
    let key = ObjectKey::new("default", "api");
    let ready = || {
        BTreeMap::from([(key.clone(), targets_of(vec![pod("a", json!({}))], &replicas(Port::Number(80))))])
    };
    let mut heard_now = || futures::FutureExt::now_or_never(futures::StreamExt::next(&mut heard)).flatten();
    known.replace(ready(), |_| true);
    assert_eq!(heard_now(), Some(key.clone()));
    known.replace(ready(), |_| true);
    assert_eq!(heard_now(), None);
    known.replace(BTreeMap::new(), |_| false);
    assert!(known.of(&key).is_empty());
}
