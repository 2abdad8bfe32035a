use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::autoscaler::{Autoscaler, Decisions, Metrics};
use crate::events::Events;
use crate::fake::{self, Asked, Log};
use crate::object_key::ObjectKey;
use crate::push::Publisher;
use crate::registry::{Registry, ValidPolicy};
use crate::world::World;

struct Fixture {
    service: Service,
    writer: Writer,
    decisions: Arc<Decisions>,
    log: Log,
}

/// An API server at which the scale is `replicas`.
fn fixture(replicas: i32) -> Fixture {
    let (client, log) = fake::client(move |asked: &Asked| {
        let scale = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "api", "namespace": "default", "resourceVersion": "7"}, "spec": {"replicas": replicas},
        });
        let object = json!({
            "apiVersion": "evenkeel.dev/v1alpha1", "kind": "ReplicaService", "metadata": {"name": "api"},
            "spec": {"template": {}, "scaling": {"min": 2, "max": 10}},
        });
        let body = if asked.what.ends_with("/scale") { scale } else { object };
        (200, body)
    });
    let decisions = Arc::<Decisions>::default();
    let autoscaler = Autoscaler {
        events: Arc::new(Events::uncounted(client.clone())),
        client,
        world: Arc::new(World::new().0),
        registry: Arc::new(Registry::default()),
        publisher: Arc::new(Publisher::new(1, Arc::default(), Arc::default(), Arc::default())),
        decisions: decisions.clone(),
        metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()),
    };
    Fixture { service: Service::default(), writer: Writer::new(&autoscaler), decisions, log }
}

fn valid(desired: Option<i32>) -> ValidReplicaService {
    ValidReplicaService {
        min: 2,
        policies: vec![ValidPolicy { name: "cpu".into(), cpu_target_percent: 50 }],
        scale_in_stabilization: Duration::from_secs(300),
        ..ValidReplicaService::of(ObjectKey::new("default", "api"), desired)
    }
}

fn seen(sample: i64, shares: &[f64]) -> Seen {
    Seen {
        replicas: shares.iter().map(|share| Replica::Measured(*share)).collect(),
        newest: Timestamp::from_second(sample).ok(),
        blind: None,
        hold: None,
        draining: 0,
    }
}

impl Fixture {
    async fn tick(&mut self, valid: &ValidReplicaService, seen: Seen) {
        let moment = Moment { writer: &self.writer, now: Instant::now(), time: Timestamp::UNIX_EPOCH };
        self.service.tick(valid, seen, moment).await;
    }

    fn patches(&self) -> Vec<(String, Value)> {
        let log = self.log.lock();
        let patches =
            log.iter().filter(|asked| asked.what.starts_with("PATCH") && asked.what.contains("api"));
        let named = |asked: &Asked| {
            (asked.what.rsplit('/').next().unwrap_or_default().to_owned(), asked.body.clone())
        };
        patches.filter(|asked| asked.what.contains("replicaservices")).map(named).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_nobody_gave_is_min_at_once() {
    let mut fixture = fixture(0);
    fixture.tick(&valid(None), seen(1, &[])).await;
    assert_eq!(fixture.patches(), [("api".into(), json!({"spec": {"scaling": {"desired": 2}}}))]);
    fixture.tick(&valid(None), seen(1, &[])).await;
    assert_eq!(fixture.patches().len(), 1, "it is not written again while it was not accepted yet");
}

#[tokio::test(start_paused = true)]
async fn load_is_answered_through_the_scale_subresource_once_for_each_sample() {
    let mut fixture = fixture(2);
    fixture.tick(&valid(Some(2)), seen(1, &[1.0, 1.0])).await;
    let patch = json!({"metadata": {"resourceVersion": "7"}, "spec": {"replicas": 4}});
    assert_eq!(fixture.patches(), [("scale".into(), patch)]);
    let view = fixture.decisions.get(&valid(None).key).unwrap();
    assert_eq!((view.desired, view.reason), (4, "CPUUtilizationAboveTarget"));
    assert_eq!(view.last_scaling.map(|last| (last.from, last.to)), Some((2, 4)));
    fixture.tick(&valid(Some(4)), seen(1, &[1.0, 1.0])).await;
    assert_eq!(fixture.patches().len(), 1, "the same sample");
}

#[tokio::test(start_paused = true)]
async fn a_number_that_somebody_set_is_clamped_and_then_kept_for_the_window() {
    let mut fixture = fixture(12);
    fixture.tick(&valid(Some(12)), seen(1, &[0.0; 10])).await;
    let patches = fixture.patches();
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0].1["spec"]["replicas"], 10);
    fixture.tick(&valid(Some(10)), seen(2, &[0.0; 10])).await;
    assert_eq!(fixture.decisions.get(&valid(None).key).unwrap().able_to_scale.reason, "ScaleInStabilized");
    assert_eq!(fixture.patches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_changed_meanwhile_is_not_overwritten() {
    let mut fixture = fixture(5);
    fixture.tick(&valid(Some(2)), seen(1, &[1.0, 1.0])).await;
    assert_eq!(fixture.patches(), []);
    let view = fixture.decisions.get(&valid(None).key).unwrap();
    assert_eq!((view.able_to_scale.holds, view.able_to_scale.reason), (false, "FailedUpdateScale"));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_being_deleted_does_not_scale() {
    let mut fixture = fixture(2);
    let deleting = ValidReplicaService { deleting: true, ..valid(Some(2)) };
    fixture.tick(&deleting, seen(1, &[1.0, 1.0])).await;
    assert!(fixture.log.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn policies_that_were_paused_scale_in_only_after_the_window() {
    let mut fixture = fixture(8);
    let paused = ValidReplicaService { paused: true, ..valid(Some(8)) };
    for second in 0..400 {
        let idle = Seen { blind: Some(Blind::Paused), ..seen(second, &[0.0; 8]) };
        fixture.tick(&paused, idle).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let resumed = ValidReplicaService { generation: 2, ..valid(Some(8)) };
    fixture.tick(&resumed, seen(400, &[0.0; 8])).await;
    assert_eq!(fixture.patches(), [], "the window begins when the policies work again");
    tokio::time::advance(Duration::from_secs(301)).await;
    fixture.tick(&resumed, seen(701, &[0.0; 8])).await;
    assert_eq!(fixture.patches().last().unwrap().1["spec"]["replicas"], 2);
}
