use std::collections::BTreeMap;

use evenkeel_proxy_api::snapshot::{
    Action, Algorithm, HealthCheck, Limits, Listener, ListenerProtocol, TargetProtocol, WeightedTargetGroup,
};

use super::*;
use crate::registry::{TargetSource, ValidLoadBalancer, ValidTargetGroup};

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

pub(crate) fn target(id: &str, drain: Option<u64>) -> Target {
    Target {
        id: id.into(),
        address: "10.0.0.1".parse().unwrap(),
        port: 80,
        zone: String::new(),
        node: String::new(),
        weight: 1,
        drain: drain.map(Duration::from_secs),
    }
}

/// Balancer `shop` forwards to `api`, which has these targets, and to `nothing`, which nobody accepted.
pub(crate) fn accepted(generation: i64, targets: Vec<Target>) -> Accepted {
    let forward = |name: &str| WeightedTargetGroup { name: name.into(), weight: 1 };
    let listener = Listener {
        port: 80,
        protocol: ListenerProtocol::Http,
        allowed_sources: Vec::new(),
        idle_timeout: Duration::from_secs(60),
        limits: Limits::default(),
        rules: Vec::new(),
        default_action: Action::Forward { target_groups: vec![forward("api"), forward("nothing")] },
    };
    let balancer = ValidLoadBalancer {
        key: key("shop"),
        uid: "uid".into(),
        generation,
        listeners: BTreeMap::from([("http".into(), listener)]),
    };
    let group = ValidTargetGroup {
        key: key("api"),
        generation: 1,
        protocol: TargetProtocol::Http,
        algorithm: Algorithm::RoundRobin,
        health_check: HealthCheck::default(),
        deregistration_delay: Duration::from_secs(300),
        source: TargetSource::Addresses(targets),
        deleting: false,
    };
    Accepted {
        load_balancers: BTreeMap::from([(key("shop"), Arc::new(balancer))]),
        target_groups: BTreeMap::from([(key("api"), Arc::new(group))]),
        replica_services: BTreeMap::new(),
    }
}

struct Fixture {
    publisher: Publisher,
    world: World,
}

impl Fixture {
    fn new() -> Self {
        let publisher = Publisher::new(7, Arc::default(), Arc::default(), Arc::default());
        Self { publisher, world: World::new().0 }
    }

    fn publish(&self, accepted: &Accepted) -> Option<Arc<Published>> {
        self.world.pulse().beat(None);
        let beats = self.world.pulse().take();
        self.publisher.publish(accepted, &self.world, &beats);
        self.publisher.current(&key("shop"))
    }
}

#[test]
fn a_group_that_nobody_accepted_is_published_without_targets() {
    let published = Fixture::new().publish(&accepted(1, vec![target("a", None)])).unwrap();
    assert_eq!(published.snapshot.version, Version { epoch: 7, counter: 1 });
    assert_eq!(published.snapshot.target_groups["api"].targets.len(), 1);
    assert_eq!(published.snapshot.target_groups["nothing"].targets.len(), 0);
}

#[test]
fn what_is_no_change_for_proxies_gets_no_version() {
    let fixture = Fixture::new();
    let first = fixture.publish(&accepted(1, vec![target("a", None)])).unwrap();
    let second = fixture.publish(&accepted(2, vec![target("a", None)])).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let third = fixture.publish(&accepted(2, vec![target("b", None)])).unwrap();
    assert_eq!(third.snapshot.version.counter, 2);
}

#[test]
fn a_namespace_in_which_nothing_changed_keeps_its_targets_until_something_does() {
    let fixture = Fixture::new();
    let balancers = accepted(1, vec![target("a", None)]);
    let first = fixture.publish(&balancers).unwrap();
    let publish = |accepted: &Accepted, namespace| {
        fixture.world.pulse().beat(Some(namespace));
        let beats = fixture.world.pulse().take();
        fixture.publisher.publish(accepted, &fixture.world, &beats);
        fixture.publisher.current(&key("shop")).unwrap()
    };
    assert!(Arc::ptr_eq(&first, &publish(&balancers, "another")));
    let next = publish(&accepted(1, vec![target("b", None)]), "another");
    assert!(next.has("api", "b"), "what is accepted counts wherever else something changed");
}

#[test]
fn what_leads_from_an_earlier_version_here_is_the_same_however_many_lie_between() {
    let fixture = Fixture::new();
    let [first, second, third] =
        ["a", "b", "c"].map(|id| fixture.publish(&accepted(1, vec![target(id, None)])).unwrap());
    for before in [&first, &second] {
        assert_eq!(third.updates_since(before), updates(Some(&before.snapshot), &third.snapshot));
    }
}

#[test]
fn a_drain_is_known_with_the_version_it_began_in_until_it_is_cancelled() {
    let fixture = Fixture::new();
    let since = |fixture: &Fixture| {
        fixture.publisher.draining_since(&key("shop"), "api", "a").map(|version| version.counter)
    };
    for (targets, expected) in [
        (vec![target("a", None)], None),
        (vec![target("a", Some(300))], Some(2)),
        (vec![target("a", Some(300)), target("b", None)], Some(2)),
        (vec![target("a", None), target("b", None)], None),
        (vec![target("a", Some(300)), target("b", None)], Some(5)),
        (vec![target("b", None)], None),
    ] {
        fixture.publish(&accepted(1, targets.clone()));
        assert_eq!(since(&fixture), expected, "{targets:?}");
    }
}

#[tokio::test]
async fn the_streams_of_a_balancer_that_is_gone_end_and_those_of_one_to_come_wait() {
    let fixture = Fixture::new();
    let (mut gone, early) =
        (fixture.publisher.subscribe(&key("shop")), fixture.publisher.subscribe(&key("next")));
    fixture.publish(&accepted(1, Vec::new()));
    gone.mark_unchanged();
    fixture.publish(&Accepted::default());
    assert!(gone.changed().await.is_err());
    assert!(early.has_changed().is_ok());
}
