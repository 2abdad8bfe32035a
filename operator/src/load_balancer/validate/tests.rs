use serde_json::{Value, json};

use super::*;

fn balancer(spec: Value) -> LoadBalancer {
    serde_json::from_value(json!({
        "apiVersion": "evenkeel.dev/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": { "name": "shop", "namespace": "default", "uid": "u", "generation": 3 },
        "spec": spec,
    }))
    .unwrap()
}

fn http(more: Value) -> Value {
    let mut listener = json!({
        "name": "http",
        "port": 80,
        "defaultAction": { "forward": { "targetGroups": [{ "name": "api" }] } },
    });
    listener.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    listener
}

fn with_listener(more: Value) -> Value {
    json!({ "listeners": [http(more)] })
}

fn with_rule(rule: Value) -> Value {
    with_listener(json!({ "rules": [rule] }))
}

fn with_action(action: Value) -> Value {
    with_listener(json!({ "defaultAction": action }))
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_contradiction_is_named_with_its_field() {
    let path = json!({ "path": { "values": ["/a"] } });
    let go = json!({ "fixedResponse": { "statusCode": 200 } });
    let cases = [
        (json!({ "listeners": [] }), "spec.listeners (how many): 0 is not from 1 to 50"),
        (json!({ "replicas": 0, "listeners": [http(json!({}))] }), "spec.replicas: 0 is not from 1 to 100"),
        (
            json!({ "listeners": [http(json!({})), http(json!({ "name": "other" }))] }),
            "spec.listeners.port: 80 appears twice",
        ),
        (
            json!({ "listeners": [http(json!({})), http(json!({ "port": 81 }))] }),
            "spec.listeners.name: http appears",
        ),
        (
            json!({ "drainTimeout": "2h", "listeners": [http(json!({}))] }),
            "spec.drainTimeout: 7200s is not from 0s to 3600s",
        ),
        (
            json!({ "drainTimeout": "-1s", "listeners": [http(json!({}))] }),
            "spec.drainTimeout: -1s is not from",
        ),
        (
            json!({ "service": { "type": "ClusterIP", "externalTrafficPolicy": "Local" }, "listeners": [http(json!({}))] }),
            "spec.service.externalTrafficPolicy: not for type ClusterIP",
        ),
        (
            json!({ "service": { "type": "ClusterIP" }, "listeners": [http(json!({ "nodePort": 30080 }))] }),
            "spec.listeners.nodePort: not for type ClusterIP",
        ),
        (with_listener(json!({ "port": 9902 })), "spec.listeners[http].port: 9902 is the proxies' own"),
        (with_listener(json!({ "port": 0 })), "spec.listeners[http].port: 0 is not from 1"),
        (with_listener(json!({ "name": "-x" })), "spec.listeners[-x].name: use at most 63"),
        (with_listener(json!({ "idleTimeout": "0s" })), "spec.listeners[http].idleTimeout: 0"),
        (
            with_listener(json!({ "limits": { "connections": 0 } })),
            "spec.listeners[http].limits.connections: 0 is not from 1 to 1000000",
        ),
        (
            with_listener(json!({ "limits": { "connectionsPerSource": 0 } })),
            "limits.connectionsPerSource: 0 is not from 1",
        ),
        (
            with_listener(json!({ "limits": { "headBytes": 1000 } })),
            "limits.headBytes: 1000 is not from 1024 to 65536",
        ),
        (
            with_listener(json!({ "limits": { "headerCount": 257 } })),
            "limits.headerCount: 257 is not from 1 to 256",
        ),
        (
            with_listener(json!({ "limits": { "requestsPerConnection": 0 } })),
            "limits.requestsPerConnection: 0 is not from 1",
        ),
        (
            with_listener(json!({ "protocol": "TCP", "limits": { "bodyBytes": 1 } })),
            "limits.bodyBytes: a TCP listener has no requests",
        ),
        (
            with_rule(
                json!({ "priority": 1, "conditions": [path], "action": go, "limits": { "bodyBytes": 1_099_511_627_777_u64 } }),
            ),
            "rules[0].limits.bodyBytes: 1099511627777 is not from 0 to 1099511627776",
        ),
        (
            with_listener(
                json!({ "protocol": "TCP", "rules": [{ "priority": 1, "conditions": [path], "action": go }] }),
            ),
            "spec.listeners[http].rules: a TCP listener has no rules",
        ),
        (
            with_listener(json!({ "protocol": "TCP", "defaultAction": go })),
            "spec.listeners[http].defaultAction: a TCP listener can only forward",
        ),
        (
            with_rule(json!({ "priority": 0, "conditions": [path], "action": go })),
            "rules[0].priority: 0 is not from",
        ),
        (
            with_rule(json!({ "priority": 1, "conditions": [], "action": go })),
            "rules[0].conditions: give at least one",
        ),
        (
            with_rule(json!({ "priority": 1, "conditions": [{}], "action": go })),
            "rules[0].conditions[0]: give at least one value",
        ),
        (
            with_rule(json!({ "priority": 1, "action": go, "conditions": [
                { "path": { "values": ["/a"] }, "host": { "values": ["b"] } }
            ] })),
            "exactly one of path, host, header",
        ),
        (
            with_rule(json!({ "priority": 1, "action": go, "conditions": [
                { "path": { "values": ["/1", "/2", "/3", "/4", "/5", "/6"] } }
            ] })),
            "6 values are more than 5",
        ),
        (
            with_rule(json!({ "priority": 1, "action": go, "conditions": [{ "path": { "values": [""] } }] })),
            "rules[0].conditions[0].path.values[0]: \"\" has not from 1 to 128 characters",
        ),
        (
            with_listener(json!({ "rules": [
                { "priority": 7, "conditions": [path], "action": go },
                { "priority": 19, "action": go, "conditions": [
                    path, { "query": { "pairs": [{ "key": "a", "value": "b" }, { "key": "c", "value": "" }] } },
                ] },
            ] })),
            "spec.listeners[http].rules[1].conditions[1].query.pairs[1].value: \"\" has not from 1 to 128",
        ),
        (
            with_rule(json!({ "priority": 1, "action": go, "conditions": [
                { "header": { "name": "no header", "values": ["x"] } }
            ] })),
            "is no header's name",
        ),
        (with_action(json!({})), "spec.listeners[http].defaultAction: give exactly one of"),
        (with_action(json!({ "forward": { "targetGroups": [] } })), "forward.targetGroups (how many): 0"),
        (
            with_action(json!({ "forward": { "targetGroups": [{ "name": "a", "weight": 1000 }] } })),
            "targetGroups[a].weight: 1000 is not from 0 to 999",
        ),
        (
            with_action(json!({ "forward": { "targetGroups": [{ "name": "a" }, { "name": "a" }] } })),
            "targetGroups: a appears twice",
        ),
        (
            with_action(json!({ "redirect": { "statusCode": 307, "port": "443" } })),
            "statusCode: use 301 or 302",
        ),
        (with_action(json!({ "redirect": { "statusCode": 301 } })), "this redirects to itself"),
        (with_action(json!({ "redirect": { "statusCode": 301, "path": "x" } })), "path: begin with a slash"),
        (with_action(json!({ "redirect": { "statusCode": 301, "port": "0" } })), "port: use a number"),
        (with_action(json!({ "fixedResponse": { "statusCode": 302 } })), "statusCode: use 2XX, 4XX or 5XX"),
        (
            with_action(json!({ "fixedResponse": { "statusCode": 200, "messageBody": "x".repeat(1025) } })),
            "1025 characters are more than 1024",
        ),
    ];
    for (spec, sentence) in cases {
        let problems = validate(&balancer(spec.clone())).expect_err(&format!("{spec} was accepted"));
        assert!(problems.message().contains(sentence), "{spec}\n{}\nlacks\n{sentence}", problems.message());
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = validate(&balancer(json!({ "replicas": 0, "listeners": [] }))).unwrap_err();
    assert_eq!(problems.message().matches("; ").count(), 1, "{}", problems.message());
}

#[test]
fn rules_are_ordered_and_everyone_is_an_empty_list() {
    let rule = |priority: u32| {
        json!({
            "priority": priority,
            "conditions": [{ "method": { "values": ["GET"] } }],
            "action": { "redirect": { "statusCode": 301, "protocol": "HTTPS", "port": "443" } },
        })
    };
    let valid = validate(&balancer(with_listener(json!({ "rules": [rule(20), rule(10)] })))).unwrap();
    let listener = &valid.balancer.listeners["http"];
    assert_eq!(listener.rules.iter().map(|rule| rule.priority).collect::<Vec<_>>(), [10, 20]);
    assert_eq!(listener.allowed_sources, []);
    assert_eq!(valid.balancer.target_groups().collect::<Vec<_>>(), ["api"]);
    assert_eq!(valid.balancer.generation, 3);
}

#[test]
fn some_sources_are_kept_as_they_are() {
    let spec = with_listener(json!({ "allowedSources": ["0.0.0.0/0"] }));
    let valid = validate(&balancer(spec)).unwrap();
    assert_eq!(valid.balancer.listeners["http"].allowed_sources.len(), 1, "no IPv6 without saying so");
}

#[test]
fn the_traffic_policy_follows_the_type() {
    for (kind, policy) in [
        ("LoadBalancer", Some(ExternalTrafficPolicy::Local)),
        ("NodePort", Some(ExternalTrafficPolicy::Cluster)),
        ("ClusterIP", None),
    ] {
        let spec = json!({ "service": { "type": kind }, "listeners": [http(json!({}))] });
        assert_eq!(validate(&balancer(spec)).unwrap().service.external_traffic_policy, policy, "{kind}");
    }
}
