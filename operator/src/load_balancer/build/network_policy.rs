//! Who may connect to the proxies: anyone to the listeners (they check `allowedSources` themselves, and know the
//! client's address where the Service keeps it), and the cluster's pods to the admin endpoint.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::labels::{self, LOAD_BALANCER};
use crate::load_balancer::validate::{ADMIN_PORT, Valid};

/// The NetworkPolicy of the proxies. They may connect anywhere: targets can be outside of the cluster.
pub fn network_policy(valid: &Valid, owner: &OwnerReference) -> Value {
    let key = &valid.balancer.key;
    let ports: BTreeSet<u16> = valid.balancer.listeners.values().map(|listener| listener.port).collect();
    let listeners: Vec<Value> = ports.iter().map(|port| json!({ "port": port, "protocol": "TCP" })).collect();
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": labels::proxy(&key.name),
            "namespace": key.namespace,
            "labels": labels::of(LOAD_BALANCER, &key.name),
            "ownerReferences": [owner],
        },
        "spec": {
            "podSelector": { "matchLabels": labels::selector(LOAD_BALANCER, &key.name) },
            "policyTypes": ["Ingress"],
            "ingress": [
                { "ports": listeners },
                {
                    "from": [{ "namespaceSelector": {} }],
                    "ports": [{ "port": ADMIN_PORT, "protocol": "TCP" }],
                },
            ],
        },
    })
}
