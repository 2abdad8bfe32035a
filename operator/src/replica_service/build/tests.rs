use serde_json::{Value, json};

use super::*;
use crate::golden;
use crate::replica_service::dereference::Found;
use crate::replica_service::rollout::Record;
use crate::replica_service::validate::{Valid, validate};
use crate::tests::owner;

/// A service with that template.
pub fn valid(template: &Value) -> Valid {
    let object = serde_json::from_value(json!({
        "apiVersion": "evenkeel.dev/v1alpha1",
        "kind": "ReplicaService",
        "metadata": {
            "name": "api", "namespace": "default", "uid": "u", "generation": 2,
        },
        "spec": {
            "template": template,
            "scaling": { "min": 2, "max": 10 },
            "network": { "allowFrom": [{ "namespaceSelector": { "matchLabels": { "team": "ops" } } }] },
        },
    }))
    .unwrap();
    validate(&object).unwrap()
}

/// Its Deployment, restarted once.
fn built(valid: &Valid, found: &Found) -> Value {
    let time = "2026-01-01T00:00:00Z";
    let record = Record {
        template: "0123456789abcdef".into(),
        asked_at: time.parse().unwrap(),
        restarted_at: Some(time.into()),
        good: Some("api-1".into()),
        failed: None,
    };
    let template = template(valid, Some(time));
    deployment(valid, found, &owner("ReplicaService", "api"), &record, template)
}

fn asked_for() -> Value {
    json!({
        "metadata": { "labels": { "app": "api" }, "annotations": { "example.com/a": "b" } },
        "spec": {
            "fieldOfANewerCluster": { "stays": true },
            "containers": [
                { "name": "web", "image": "web:1", "ports": [{ "containerPort": 8080, "name": "http" }] },
                { "name": "logs", "image": "logs:1", "lifecycle": { "preStop": { "sleep": { "seconds": 1 } } } },
            ],
        },
    })
}

fn found(balancers: &[&str], former: &[&str]) -> Found {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Found { balancers: names(balancers), former_balancers: names(former), ..Found::default() }
}

#[test]
fn each_object_is_as_it_was() {
    let (valid, owner) = (valid(&asked_for()), owner("ReplicaService", "api"));
    golden::check("replica_service/deployment", &built(&valid, &found(&["shop"], &[])));
    golden::check("replica_service/disruption_budget", &disruption_budget(&valid, &owner));
    golden::check(
        "replica_service/network_policy",
        &network_policy(&valid, &found(&["shop"], &["old"]), &owner),
    );
}

#[test]
fn the_number_of_replicas_is_left_to_its_own_manager() {
    let built = built(&valid(&asked_for()), &found(&[], &[]));
    assert_eq!(built.pointer("/spec/replicas"), None);
    assert_eq!(with_replicas(built, 4).pointer("/spec/replicas"), Some(&json!(4)));
}

#[test]
fn a_container_that_says_nothing_goes_on_for_a_moment() {
    let grace = |spec: Value| {
        let built = built(&valid(&json!({ "spec": spec })), &found(&[], &[]));
        built.pointer("/spec/template/spec/terminationGracePeriodSeconds").cloned()
    };
    let silent = json!([{ "name": "web" }]);
    let own = json!([{ "name": "web", "lifecycle": { "preStop": { "exec": { "command": ["x"] } } } }]);
    assert_eq!(grace(json!({ "containers": silent })), Some(json!(35)));
    assert_eq!(grace(json!({ "containers": silent, "terminationGracePeriodSeconds": 10 })), Some(json!(35)));
    assert_eq!(grace(json!({ "containers": silent, "terminationGracePeriodSeconds": 90 })), Some(json!(90)));
    assert_eq!(grace(json!({ "containers": own, "terminationGracePeriodSeconds": 10 })), Some(json!(10)));
    assert_eq!(grace(json!({ "containers": own })), None);
}

#[test]
fn the_readiness_gate_is_added_to_those_of_the_template() {
    let gates = |gates: Value| {
        let template = json!({ "spec": { "containers": [{ "name": "web" }], "readinessGates": gates } });
        let built = built(&valid(&template), &found(&[], &[]));
        built.pointer("/spec/template/spec/readinessGates").cloned().unwrap()
    };
    let (ours, other) =
        (json!({ "conditionType": "evenkeel.dev/load-balanced" }), json!({ "conditionType": "x" }));
    assert_eq!(gates(Value::Null), json!([ours]));
    assert_eq!(gates(json!([other])), json!([other, ours]));
    assert_eq!(gates(json!([ours, other])), json!([ours, other]));
    assert_eq!(gates(json!("x")), json!("x"), "the API server says what is wrong with it");
}

#[test]
fn what_a_drain_may_take_is_no_lack_of_progress() {
    let delay = Some(std::time::Duration::from_secs(300));
    for (found, expected) in
        [(found(&[], &[]), 600), (Found { deregistration_delay: delay, ..Found::default() }, 900)]
    {
        let built = built(&valid(&asked_for()), &found);
        assert_eq!(built.pointer("/spec/progressDeadlineSeconds"), Some(&json!(expected)));
    }
}

#[test]
fn replicas_that_nobody_may_reach_are_reached_by_nobody() {
    let mut valid = valid(&asked_for());
    valid.allow_from.clear();
    let policy = network_policy(&valid, &found(&[], &[]), &owner("ReplicaService", "api"));
    assert_eq!(policy.pointer("/spec/ingress"), Some(&json!([])));
}

#[test]
fn a_budget_that_selects_the_replicas_competes() {
    for (selector, expected) in [
        (json!({ "matchLabels": { "app": "api" } }), true),
        (
            json!({ "matchExpressions": [{ "key": "evenkeel.dev/replica-service", "operator": "Exists" }] }),
            true,
        ),
        (json!({}), true),
        (json!({ "matchLabels": { "app": "other" } }), false),
        (Value::Null, false),
    ] {
        let budget = serde_json::from_value(json!({ "spec": { "selector": selector } })).unwrap();
        assert_eq!(competes(&valid(&asked_for()), &budget), expected, "{selector}");
    }
}
