//! How many proxies may be evicted at once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::labels::{self, LOAD_BALANCER};
use crate::load_balancer::validate::Valid;

/// The PodDisruptionBudget of the proxies.
pub fn disruption_budget(valid: &Valid, owner: &OwnerReference) -> Value {
    let key = &valid.balancer.key;
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": labels::proxy(&key.name),
            "namespace": key.namespace,
            "labels": labels::of(LOAD_BALANCER, &key.name),
            "ownerReferences": [owner],
        },
        "spec": {
            "maxUnavailable": 1,
            // A proxy that is not ready protects nothing: it must not keep a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": { "matchLabels": labels::selector(LOAD_BALANCER, &key.name) },
        },
    })
}
