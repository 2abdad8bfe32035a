use std::sync::Arc;

use evenkeel_proxy_api::report::Rejection;
use serde_json::json;

use super::*;
use crate::last_accepted::Refused;
use crate::load_balancer::apply::Withheld;
use crate::load_balancer::build::tests::valid;
use crate::load_balancer::dereference::ProxyState;
use crate::validation::Problems;

fn object() -> LoadBalancer {
    serde_json::from_value(json!({
        "apiVersion": "evenkeel.dev/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": { "name": "shop", "namespace": "default", "uid": "u", "generation": 3 },
        "spec": { "replicas": 2, "service": { "type": "NodePort" }, "listeners": [] },
    }))
    .unwrap()
}

fn taken(message: &str) -> Withheld {
    Withheld { reason: reason::NODE_PORT_TAKEN, message: message.into() }
}

/// Two proxies that acknowledged generation 3, target groups that fit, a Service with an address.
fn fine() -> (Found, Outcome) {
    let group = |protocol| Group::Valid { protocol, deleting: false };
    let proxy = ProxyState { generation: Some(3), rejections: Vec::new() };
    let found = Found {
        groups: [
            ("api".to_owned(), group(TargetProtocol::Http)),
            ("db".to_owned(), group(TargetProtocol::Tcp)),
        ]
        .into(),
        proxies: vec![proxy.clone(), proxy],
        ..Found::default()
    };
    let service = json!({
        "metadata": { "name": "shop", "namespace": "default" },
        "spec": {
            "clusterIPs": ["10.96.0.7"],
            "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }, { "name": "db", "port": 5432, "nodePort": 31000 }],
        },
    });
    let outcome = Outcome {
        deployment: Some(Arc::new(
            serde_json::from_value(json!({ "status": { "readyReplicas": 2 } })).unwrap(),
        )),
        service: Some(Arc::new(serde_json::from_value(service).unwrap())),
        ..Outcome::default()
    };
    (found, outcome)
}

fn made(found: &Found, outcome: &Outcome) -> LoadBalancerStatus {
    let (object, checked) = (object(), Ok(valid()));
    let inputs = Inputs { object: &object, checked: &checked, found, outcome };
    status(&inputs, &LoadBalancerStatus::default(), Timestamp::UNIX_EPOCH)
}

fn reasons(conditions: &[evenkeel_crds::v1alpha1::StatusCondition]) -> Vec<(&str, &str, &str)> {
    let conditions = conditions.iter();
    conditions
        .map(|condition| (condition.type_.as_str(), condition.status.as_str(), condition.reason.as_str()))
        .collect()
}

#[test]
fn a_balancer_that_serves_says_so() {
    let (found, outcome) = fine();
    let status = made(&found, &outcome);
    assert_eq!(
        reasons(&status.conditions),
        [
            ("Accepted", "True", "Accepted"),
            ("ResolvedRefs", "True", "ResolvedRefs"),
            ("Programmed", "True", "Programmed"),
            ("Ready", "True", "Ready"),
        ]
    );
    assert_eq!(status.addresses, ["10.96.0.7"]);
    assert_eq!(status.dns_name.as_deref(), Some("shop.default.svc"));
    assert_eq!((status.proxies.desired, status.proxies.ready, status.proxies.up_to_date), (2, 2, 2));
    let node_ports: Vec<_> = status.listeners.iter().map(|listener| listener.node_port).collect();
    assert_eq!(node_ports, [Some(31000), Some(30080)]);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_trouble_has_its_condition_and_reason() {
    type Change = fn(&mut Found, &mut Outcome);
    let cases: Vec<(&str, Change, &str, &str, &str)> = vec![
        (
            "a group is missing",
            |found, _| {
                found.groups.insert("api".into(), Group::Missing);
            },
            "ResolvedRefs",
            reason::TARGET_GROUP_NOT_FOUND,
            "listener http: TargetGroup api does not exist",
        ),
        (
            "a group was never valid",
            |found, _| {
                found.groups.insert("api".into(), Group::Invalid);
            },
            "ResolvedRefs",
            reason::TARGET_GROUP_INVALID,
            "see its conditions",
        ),
        (
            "a TCP listener forwards to an HTTP group",
            |found, _| {
                found
                    .groups
                    .insert("db".into(), Group::Valid { protocol: TargetProtocol::Http, deleting: false });
            },
            "ResolvedRefs",
            reason::PROTOCOL_MISMATCH,
            "TargetGroup db has protocol HTTP, the listener TCP",
        ),
        (
            "a group is being deleted",
            |found, _| {
                found
                    .groups
                    .insert("api".into(), Group::Valid { protocol: TargetProtocol::Http, deleting: true });
            },
            "ResolvedRefs",
            reason::TARGET_GROUP_DELETING,
            "answered 503",
        ),
        (
            "a proxy is behind",
            |found, _| found.proxies[0].generation = Some(2),
            "Programmed",
            reason::PENDING,
            "1 of 2 proxies acknowledged generation 3",
        ),
        (
            "a proxy is missing",
            |found, _| found.proxies.truncate(1),
            "Programmed",
            reason::PENDING,
            "1 of 2 proxies",
        ),
        (
            "a proxy cannot bind",
            |found, _| {
                let reason = "address in use".to_owned();
                found.proxies[0].rejections =
                    vec![Rejection { kind: ResourceKind::Listener, name: "http".into(), reason }];
            },
            "Programmed",
            reason::REJECTED,
            "listener http: address in use",
        ),
        (
            "somebody has our name",
            |_, outcome| outcome.foreign.push("a Service named shop exists".into()),
            "Accepted",
            reason::NAME_CONFLICT,
            "a Service named shop exists",
        ),
        (
            "the node port is taken",
            |_, outcome| {
                outcome.withheld.insert("http".into(), taken("30080 is taken"));
            },
            "Accepted",
            reason::NODE_PORT_TAKEN,
            "listener http: 30080 is taken",
        ),
        (
            "no proxy is ready",
            |_, outcome| outcome.deployment = None,
            "Ready",
            reason::NO_PROXY_READY,
            "no proxy",
        ),
        (
            "no listener is bound",
            |_, outcome| outcome.service = None,
            "Ready",
            reason::PENDING,
            "no listener",
        ),
    ];
    for (story, change, kind, reason, message) in cases {
        let (mut found, mut outcome) = fine();
        change(&mut found, &mut outcome);
        let status = made(&found, &outcome);
        let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", reason), "{story}");
        assert!(condition.message.contains(message), "{story}: {}", condition.message);
    }
}

#[test]
fn a_trouble_of_one_listener_is_not_said_of_the_other() {
    let (mut found, mut outcome) = fine();
    found.groups.insert("db".into(), Group::Missing);
    outcome.withheld.insert("http".into(), taken("taken"));
    let status = made(&found, &outcome);
    assert_eq!(status.listeners[0].name, "db");
    assert_eq!(
        reasons(&status.listeners[0].conditions)[..2],
        [("Accepted", "True", "Accepted"), ("ResolvedRefs", "False", "TargetGroupNotFound")]
    );
    assert_eq!(
        reasons(&status.listeners[1].conditions)[..2],
        [("Accepted", "False", "NodePortTaken"), ("ResolvedRefs", "True", "ResolvedRefs")]
    );
}

#[test]
fn an_invalid_spec_keeps_what_was_said_of_the_listeners_that_serve() {
    let (found, outcome) = fine();
    let before = made(&found, &outcome);
    let mut problems = Problems::default();
    problems.add("spec.replicas", "0 is not from 1 to 100");
    let (object, checked) =
        (object(), Err(Refused { problems, earlier: Some(Box::new(valid())), kept: true }));
    let inputs = Inputs { object: &object, checked: &checked, found: &found, outcome: &outcome };
    let status = status(&inputs, &before, Timestamp::UNIX_EPOCH);
    assert_eq!(status.listeners, before.listeners);
    assert_eq!(reasons(&status.conditions)[0], ("Accepted", "False", "Invalid"));
    assert!(status.conditions[0].message.starts_with("spec.replicas: 0 is not from 1 to 100"));
    assert_eq!(reasons(&status.conditions)[3], ("Ready", "True", "Ready"), "it goes on serving");
    assert!(status.conditions[2].message.ends_with("proxies have the one before"));
}

#[test]
fn of_an_invalid_spec_without_a_known_one_before_nothing_is_promised() {
    let (found, outcome) = fine();
    let mut problems = Problems::default();
    problems.add("spec.replicas", "0 is not from 1 to 100");
    let (object, checked) = (object(), Err(Refused::from(problems)));
    let inputs = Inputs { object: &object, checked: &checked, found: &found, outcome: &outcome };
    let status = status(&inputs, &LoadBalancerStatus::default(), Timestamp::UNIX_EPOCH);
    let messages: Vec<_> =
        status.conditions.iter().map(|condition| condition.message.as_str()).take(3).collect();
    assert_eq!(
        messages,
        [
            "spec.replicas: 0 is not from 1 to 100 (no version of it that was accepted is known, so nothing of it is in force until it is mended)",
            "the spec is not accepted",
            "the spec is not accepted, and none before it is known",
        ]
    );
}

#[test]
fn a_protected_balancer_says_why_it_stays() {
    let mut object = object();
    object.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    let ((found, outcome), checked) = (fine(), Ok(valid()));
    let inputs = Inputs { object: &object, checked: &checked, found: &found, outcome: &outcome };
    let status = status(&inputs, &LoadBalancerStatus::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(reasons(&status.conditions)[4], ("DeletionBlocked", "True", "DeletionProtected"));
}

#[test]
fn a_cloud_s_address_or_name_is_what_clients_use() {
    let service = |ingress: serde_json::Value| -> Service {
        serde_json::from_value(json!({ "status": { "loadBalancer": { "ingress": ingress } } })).unwrap()
    };
    let kind = ServiceType::LoadBalancer;
    assert_eq!(addresses(kind, Some(&service(json!([{ "ip": "1.2.3.4" }])))), (vec!["1.2.3.4".into()], None));
    assert_eq!(
        addresses(kind, Some(&service(json!([{ "hostname": "lb.example.com" }])))),
        (vec![], Some("lb.example.com".into()))
    );
    assert_eq!(addresses(kind, Some(&service(json!([])))), (vec![], None));
}
