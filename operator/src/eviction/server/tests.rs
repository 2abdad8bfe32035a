use kube::runtime::watcher::Event;
use serde_json::{Value, from_value};

use super::*;
use crate::fake::{self, Log};
use crate::registry::ValidReplicaService;
use crate::world::Writers;

struct Fixture {
    warden: Arc<Warden>,
    writers: Writers,
    log: Log,
}

/// ReplicaService `api` and its replica `api-1-a`.
fn fixture() -> Fixture {
    let (client, log) = fake::client(|_| {
        (
            200,
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x"}}),
        )
    });
    let (world, mut writers) = World::new();
    writers.replicas.apply_watcher_event(&Event::Apply(pod("api-1-a", "api", &json!({}))));
    let registry = Registry::default();
    registry.write(|accepted| {
        let key = ObjectKey::new("default", "api");
        accepted
            .replica_services
            .insert(key.clone(), Arc::new(ValidReplicaService::of(key, Some(2))))
            .is_none()
    });
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let warden = Warden {
        client,
        world: Arc::new(world),
        registry: Arc::new(registry),
        holds: Holds::default(),
        metrics,
        stop: CancellationToken::new(),
    };
    Fixture { warden: Arc::new(warden), writers, log }
}

fn pod(name: &str, service: &str, annotations: &Value) -> Pod {
    let set = name.rsplit_once('-').map_or(name, |(set, _)| set);
    from_value(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "labels": {REPLICA_SERVICE: service}, "annotations": annotations,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": "rs", "controller": true}
            ],
        },
        "status": {"phase": "Running", "conditions": [{"type": "ContainersReady", "status": "True"}]},
    }))
    .unwrap()
}

/// As the API server asks.
fn review(pod: &str, dry_run: bool) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "policy", "version": "v1", "kind": "Eviction"},
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "subResource": "eviction",
            "requestKind": {"group": "policy", "version": "v1", "kind": "Eviction"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"}, "requestSubResource": "eviction",
            "name": pod, "namespace": "default", "operation": "CREATE",
            "userInfo": {"username": "kubernetes-admin", "groups": ["system:masters"]},
            "object": {
                "kind": "Eviction", "apiVersion": "policy/v1",
                "metadata": {"name": pod, "namespace": "default", "creationTimestamp": null}, "deleteOptions": {},
            },
            "oldObject": null, "dryRun": dry_run, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

impl Fixture {
    async fn asked(&self, pod: &str, dry_run: bool) -> Value {
        let review = from_value(review(pod, dry_run)).unwrap();
        let Json(answer) = evict(State(self.warden.clone()), Json(review)).await.unwrap();
        serde_json::to_value(answer).unwrap()
    }
}

#[tokio::test]
async fn who_asks_is_told_to_try_again_and_the_wish_is_noted_on_that_very_pod() {
    let fixture = fixture();
    let answer = fixture.asked("api-1-a", false).await;
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    let response = &answer["response"];
    assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert_eq!(response["allowed"], false);
    let status = &response["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(429), &json!("TooManyRequests")));
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("api-1-a is a replica of ReplicaService api: another replica"), "{message}");
    let log = fixture.log.lock();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].what, "PATCH /api/v1/namespaces/default/pods/api-1-a");
    assert_eq!(log[0].body["metadata"]["uid"], "uid-api-1-a");
    assert!(log[0].body["metadata"]["annotations"][EVICTION].is_string());
}

#[tokio::test]
async fn a_rehearsal_is_answered_and_changes_nothing() {
    let fixture = fixture();
    assert_eq!(fixture.asked("api-1-a", true).await["response"]["allowed"], false);
    assert!(fixture.log.lock().is_empty());
}

#[tokio::test]
async fn what_is_noted_is_not_noted_again() {
    let mut fixture = fixture();
    let noted = json!({EVICTION: Timestamp::now().to_string()});
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(pod("api-1-a", "api", &noted)));
    assert_eq!(fixture.asked("api-1-a", false).await["response"]["allowed"], false);
    assert!(fixture.log.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_held_although_the_clock_says_that_it_was_long_ago() {
    let mut fixture = fixture();
    let noted = json!({EVICTION: "2001-01-01T00:00:00Z"});
    fixture.writers.replicas.apply_watcher_event(&Event::Apply(pod("api-1-a", "api", &noted)));
    for (seconds, allowed) in [(0, false), (599, false), (1, true)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let answer = fixture.asked("api-1-a", false).await;
        assert_eq!(answer["response"]["allowed"], allowed, "after {seconds} s more");
    }
}

#[tokio::test]
async fn pods_that_nobody_drains_here_go_through() {
    let mut fixture = fixture();
    let replicas = &mut fixture.writers.replicas;
    replicas.apply_watcher_event(&Event::Apply(pod("other-1-a", "other", &json!({}))));
    replicas.apply_watcher_event(&Event::Apply(pod("thief-1-a", "api", &json!({}))));
    for (pod, why) in [
        ("web-0", "no replica"),
        ("other-1-a", "its ReplicaService was never accepted"),
        ("thief-1-a", "of another Deployment, with our label"),
    ] {
        assert_eq!(fixture.asked(pod, false).await["response"]["allowed"], true, "{why}");
    }
    assert!(fixture.log.lock().is_empty());
}

#[tokio::test]
async fn who_does_not_lead_any_more_answers_nothing() {
    let fixture = fixture();
    fixture.warden.stop.cancel();
    let review = from_value(review("api-1-a", false)).unwrap();
    let answer = evict(State(fixture.warden.clone()), Json(review)).await;
    assert_eq!(answer.err(), Some(StatusCode::SERVICE_UNAVAILABLE));
    assert!(fixture.log.lock().is_empty());
}

#[tokio::test]
async fn a_review_without_a_question_is_refused() {
    let review = from_value(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"})).unwrap();
    let answer = evict(State(fixture().warden), Json(review)).await;
    assert_eq!(answer.err(), Some(StatusCode::BAD_REQUEST));
}
