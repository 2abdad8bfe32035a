use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::context::ProxySettings;
use crate::golden;
use crate::load_balancer::validate::{Valid, validate};
use crate::tests::owner;

/// A balancer of generation 3 with an HTTP and a TCP listener, on node ports.
pub(crate) fn valid() -> Valid {
    let object = serde_json::from_value(json!({
        "apiVersion": "evenkeel.dev/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": { "name": "shop", "namespace": "default", "uid": "u", "generation": 3 },
        "spec": {
            "replicas": 3,
            "service": { "type": "NodePort", "annotations": { "example.com/scheme": "internal" } },
            "listeners": [
                {
                    "name": "http", "port": 80, "nodePort": 30080,
                    "defaultAction": { "forward": { "targetGroups": [{ "name": "api" }] } },
                },
                {
                    "name": "db", "port": 5432, "protocol": "TCP",
                    "defaultAction": { "forward": { "targetGroups": [{ "name": "db" }] } },
                },
            ],
        },
    }))
    .unwrap();
    validate(&object).unwrap()
}

fn settings() -> ProxySettings {
    ProxySettings { image: "evenkeel-proxy:1".into(), operator_namespace: "evenkeel-system".into() }
}

fn names(names: &[&str]) -> std::collections::BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn each_object_is_as_it_was() {
    let (valid, owner) = (valid(), owner("LoadBalancer", "shop"));
    golden::check("load_balancer/deployment", &deployment(&valid, &settings(), &owner));
    golden::check("load_balancer/service_account", &service_account(&valid, &owner));
    golden::check("load_balancer/disruption_budget", &disruption_budget(&valid, &owner));
    golden::check("load_balancer/network_policy", &network_policy(&valid, &owner));
    let ports = ports(&valid, &names(&["db", "http"]), &names(&[]), None);
    golden::check("load_balancer/service", &service(&valid, &ports, &owner));
}

#[test]
fn listeners_do_not_change_the_pods() {
    let owner = owner("LoadBalancer", "shop");
    let before = deployment(&valid(), &settings(), &owner);
    let mut changed = valid();
    changed.balancer.listeners.remove("db");
    changed.balancer.generation += 1;
    assert_eq!(deployment(&changed, &settings(), &owner), before);
}

#[test]
fn the_grace_period_covers_waiting_and_draining() {
    let mut valid = valid();
    valid.drain_timeout = std::time::Duration::from_secs(100);
    let built = deployment(&valid, &settings(), &owner("LoadBalancer", "shop"));
    assert_eq!(built.pointer("/spec/template/spec/terminationGracePeriodSeconds"), Some(&json!(140)));
}

#[test]
fn requests_are_logged_only_where_that_is_asked_for() {
    let logs = |access_log| {
        let built = deployment(&Valid { access_log, ..valid() }, &settings(), &owner("LoadBalancer", "shop"));
        built["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .is_some_and(|args| args.contains(&json!("--access-log=-")))
    };
    assert_eq!([false, true].map(logs), [false, true]);
}

/// A live Service with these ports.
fn live(ports: &[(&str, u16)]) -> k8s_openapi::api::core::v1::Service {
    let ports: Vec<_> =
        ports.iter().map(|(name, port)| json!({ "name": name, "port": port, "targetPort": port })).collect();
    serde_json::from_value(json!({ "spec": { "ports": ports } })).unwrap()
}

#[test]
fn a_port_comes_after_its_listener_and_goes_before_it() {
    let port = |port, node_port| Port { port, node_port };
    let http = ("http".to_owned(), port(80, Some(30080)));
    let db = ("db".to_owned(), port(5432, None));
    for (story, bound, withheld, live, expected) in [
        ("nothing is bound yet", vec![], vec![], vec![], vec![]),
        ("one is bound", vec!["http"], vec![], vec![], vec![http.clone()]),
        ("a new leader knows of no proxy", vec![], vec![], vec![("http", 80)], vec![http.clone()]),
        ("one was added", vec![], vec![], vec![("http", 80)], vec![http.clone()]),
        ("one was removed", vec![], vec![], vec![("http", 80), ("old", 81)], vec![http.clone()]),
        (
            "one waits for its new port",
            vec![],
            vec![],
            vec![("db", 99)],
            vec![("db".to_owned(), port(99, None))],
        ),
        ("one has its new port", vec!["db"], vec![], vec![("db", 99)], vec![db.clone()]),
        ("a node port is taken", vec!["db", "http"], vec!["http"], vec![("http", 80)], vec![db]),
    ] {
        let found = ports(&valid(), &names(&bound), &names(&withheld), Some(&self::live(&live)));
        assert_eq!(found, BTreeMap::from_iter(expected), "{story}");
    }
}
