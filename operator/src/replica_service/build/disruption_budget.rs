//! How many replicas may be evicted at once.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{Selector, SelectorExt};
use serde_json::{Value, json};

use crate::labels::{self, REPLICA_SERVICE};
use crate::replica_service::validate::Valid;

/// The PodDisruptionBudget of the replicas. Not "as many as wanted": that would keep nodes from being drained for ever.
pub fn disruption_budget(valid: &Valid, owner: &OwnerReference) -> Value {
    let key = &valid.service.key;
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": labels::of(REPLICA_SERVICE, &key.name),
            "ownerReferences": [owner],
        },
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": { "matchLabels": labels::selector(REPLICA_SERVICE, &key.name) },
        },
    })
}

/// Whether another budget selects the replicas as well: with two of them every eviction fails.
pub fn competes(valid: &Valid, other: &PodDisruptionBudget) -> bool {
    let mut pods = valid.labels.clone();
    pods.extend(labels::of(REPLICA_SERVICE, &valid.service.key.name));
    let selector = other.spec.as_ref().and_then(|spec| spec.selector.clone());
    // A budget without a selector selects nothing, one with an empty selector everything.
    selector
        .and_then(|selector| Selector::try_from(selector).ok())
        .is_some_and(|selector| selector.matches(&pods))
}
