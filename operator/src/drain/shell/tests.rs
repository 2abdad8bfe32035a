use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::fake::{self, Asked, Log};
use crate::world::Writers;

struct Fixture {
    drain: Drain,
    writers: Writers,
    log: Log,
}

/// ReplicaService `api`, of which `desired` are wanted, with a Deployment of `replicas` and these pods.
fn fixture(desired: i32, replicas: i32, pods: &[(&str, Value)]) -> Fixture {
    let (client, log) = fake::client(|asked: &Asked| {
        let kind = if asked.what.contains("deployments") { "Deployment" } else { "PartialObjectMetadata" };
        let version = if kind == "Deployment" { "apps/v1" } else { "meta.k8s.io/v1" };
        (200, json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}))
    });
    let (world, mut writers) = World::new();
    let deployment = json!({
        "metadata": {
            "name": "api", "namespace": "default", "uid": "deployment-uid", "generation": 1,
            "ownerReferences": [{"apiVersion": "v1", "kind": "ReplicaService", "name": "api", "uid": "uid"}],
        },
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {"replicas": replicas, "updatedReplicas": replicas, "observedGeneration": 1},
    });
    writers.deployments.apply_watcher_event(&Event::Apply(serde_json::from_value(deployment).unwrap()));
    for (name, annotations) in pods {
        writers.replicas.apply_watcher_event(&Event::Apply(pod(name, annotations, "1")));
    }
    let registry = Registry::default();
    registry.write(|accepted| {
        let service = valid(desired);
        accepted.replica_services.insert(service.key.clone(), Arc::new(service)).is_none()
    });
    let publisher = Publisher::new(1, Arc::default(), Arc::default(), Arc::default());
    let drain = Drain {
        client,
        world: Arc::new(world),
        registry: Arc::new(registry),
        publisher: Arc::new(publisher),
    };
    Fixture { drain, writers, log }
}

fn pod(name: &str, annotations: &Value, version: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": version,
            "labels": {"evenkeel.dev/replica-service": "api"}, "annotations": annotations,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-1", "uid": "rs", "controller": true}
            ],
        },
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap()
}

fn valid(desired: i32) -> ValidReplicaService {
    ValidReplicaService {
        key: ObjectKey::new("default", "api"),
        uid: "uid".into(),
        generation: 1,
        min: 1,
        max: 10,
        desired: Some(desired),
        paused: false,
        policies: Vec::new(),
        scale_out_stabilization: Duration::ZERO,
        scale_in_stabilization: Duration::ZERO,
        warmup: Duration::ZERO,
        containers_without_cpu_request: Vec::new(),
        deleting: false,
    }
}

fn asked(log: &Log) -> Vec<String> {
    log.lock().drain(..).map(|asked| asked.what).collect()
}

#[tokio::test]
async fn a_replica_to_which_nobody_forwards_leaves_in_steps_that_each_show_before_the_next() {
    let mut fixture = fixture(1, 2, &[("a", json!({})), ("b", json!({}))]);
    let mut unseen = Unseen::new();
    assert!(fixture.drain.step(&mut unseen).await);
    let body = fixture.log.lock()[0].body.clone();
    assert_eq!(body["metadata"]["uid"], "uid-a");
    assert!(body["metadata"]["annotations"][DRAINING].is_string());
    assert_eq!(asked(&fixture.log), ["PATCH /api/v1/namespaces/default/pods/a"]);

    fixture.drain.step(&mut unseen).await;
    assert_eq!(asked(&fixture.log), [""; 0], "the annotation is not seen yet");

    let draining = json!({DRAINING: "2026-01-01T00:00:00Z"});
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(pod("a", &draining, "2")));
    fixture.drain.step(&mut unseen).await;
    assert_eq!(fixture.log.lock()[0].body["metadata"]["annotations"][DELETION_COST], LEAVES_FIRST);
    assert_eq!(asked(&fixture.log), ["PATCH /api/v1/namespaces/default/pods/a"]);

    let marked = json!({DRAINING: "2026-01-01T00:00:00Z", DELETION_COST: LEAVES_FIRST});
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(pod("a", &marked, "3")));
    fixture.drain.step(&mut unseen).await;
    let asked_last = fixture.log.lock()[0].clone();
    assert_eq!(asked_last.what, "PATCH /apis/apps/v1/namespaces/default/deployments/api");
    assert_eq!(asked_last.body["spec"], json!({"replicas": 1}));
    assert_eq!(asked_last.body["metadata"]["uid"], "deployment-uid");
    assert!(asked_last.query.contains("fieldManager=evenkeel-scale"), "{}", asked_last.query);

    fixture.log.lock().clear();
    fixture.drain.step(&mut unseen).await;
    assert_eq!(asked(&fixture.log), [""; 0], "the Deployment does not show it yet");
}

#[tokio::test]
async fn a_pod_that_no_scale_removes_is_no_victim() {
    let mut fixture = fixture(1, 2, &[("b", json!({})), ("c", json!({}))]);
    let mut copy = pod("a-copy", &json!({}), "1");
    copy.metadata.owner_references = None;
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(copy));
    fixture.drain.step(&mut Unseen::new()).await;
    assert_eq!(asked(&fixture.log), ["PATCH /api/v1/namespaces/default/pods/b"]);
}

#[tokio::test]
async fn a_new_leader_takes_back_what_was_about_to_go_when_it_is_wanted_again() {
    let marked = json!({DRAINING: "2026-01-01T00:00:00Z", DELETION_COST: LEAVES_FIRST});
    let fixture = fixture(3, 2, &[("a", marked), ("b", json!({}))]);
    fixture.drain.step(&mut Unseen::new()).await;
    let log = fixture.log.lock();
    assert_eq!(log[0].body["metadata"]["annotations"], json!({DRAINING: null, DELETION_COST: null}));
    assert_eq!(log[1].body["spec"]["replicas"], 3);
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
    assert!(!fixture.drain.step(&mut Unseen::new()).await);
    assert!(fixture.log.lock().is_empty());
}
