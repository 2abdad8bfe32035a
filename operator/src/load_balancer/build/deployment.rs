//! The proxies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::context::ProxySettings;
use crate::labels::{self, LOAD_BALANCER};
use crate::load_balancer::validate::{ADMIN_PORT, Valid};

/// How long a proxy that is told to stop keeps accepting: until no node sends to it any more.
const TERMINATION_WAIT_SECONDS: u64 = 30;
/// What a proxy gets on top of waiting and draining.
const SLACK_SECONDS: u64 = 10;

/// The Deployment of the proxies.
pub fn deployment(valid: &Valid, settings: &ProxySettings, owner: &OwnerReference) -> Value {
    let key = &valid.balancer.key;
    let labels = labels::of(LOAD_BALANCER, &key.name);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": labels::proxy(&key.name),
            "namespace": key.namespace,
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": valid.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 600,
            "selector": { "matchLabels": labels::selector(LOAD_BALANCER, &key.name) },
            // A proxy goes only when another one serves.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
            "template": { "metadata": { "labels": labels }, "spec": pod(valid, settings) },
        },
    })
}

fn pod(valid: &Valid, settings: &ProxySettings) -> Value {
    let name = &valid.balancer.key.name;
    json!({
        "serviceAccountName": labels::proxy(name),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds":
            TERMINATION_WAIT_SECONDS + valid.drain_timeout.as_secs() + SLACK_SECONDS,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": { "type": "RuntimeDefault" },
            // Low ports without any capability. A safe sysctl: allowed by default, and by Pod Security's baseline.
            "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }],
        },
        "topologySpreadConstraints": [
            spread("topology.kubernetes.io/zone", name),
            spread("kubernetes.io/hostname", name),
        ],
        "containers": [container(valid, settings)],
        "volumes": [
            {
                "name": "ca",
                // Published a moment after the first load balancer of a namespace: the pod waits for it.
                "configMap": { "name": "evenkeel-ca", "items": [{ "key": "ca.crt", "path": "ca.crt" }] },
            },
            {
                "name": "token",
                "projected": { "sources": [{ "serviceAccountToken": {
                    "audience": "evenkeel-operator", "expirationSeconds": 3600, "path": "token",
                } }] },
            },
        ],
    })
}

fn container(valid: &Valid, settings: &ProxySettings) -> Value {
    let operator = format!("https://evenkeel-operator-push.{}.svc:8443", settings.operator_namespace);
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": "admin" },
            "periodSeconds": period,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        })
    };
    let mut args = vec![
        format!("--operator={operator}"),
        "--ca-file=/var/run/evenkeel/ca/ca.crt".into(),
        "--token-file=/var/run/evenkeel/token/token".into(),
        format!("--admin=0.0.0.0:{ADMIN_PORT}"),
        format!("--termination-wait={TERMINATION_WAIT_SECONDS}s"),
        format!("--drain-timeout={}ms", valid.drain_timeout.as_millis()),
        "--log-format=json".into(),
    ];
    if valid.access_log {
        args.push("--access-log=-".into());
    }
    json!({
        "name": "proxy",
        "image": settings.image,
        "args": args,
        "ports": [{ "name": "admin", "containerPort": ADMIN_PORT }],
        "readinessProbe": probe("/readyz", 2, 2),
        "livenessProbe": probe("/healthz", 10, 3),
        "resources": { "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "512Mi" } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "volumeMounts": [
            { "name": "ca", "mountPath": "/var/run/evenkeel/ca", "readOnly": true },
            { "name": "token", "mountPath": "/var/run/evenkeel/token", "readOnly": true },
        ],
    })
}

/// Evenly where possible, but rather together than not at all. The revision's hash keeps a rollout's old pods from
/// counting.
fn spread(topology: &str, name: &str) -> Value {
    json!({
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": labels::selector(LOAD_BALANCER, name) },
        "matchLabelKeys": ["pod-template-hash"],
    })
}
