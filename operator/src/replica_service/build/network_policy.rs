//! Who may connect to the replicas: the private subnet and the security group of the AWS original.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::labels::{self, LOAD_BALANCER, REPLICA_SERVICE};
use crate::replica_service::dereference::Found;
use crate::replica_service::validate::Valid;

/// The NetworkPolicy of the replicas: ingress from the proxies of the balancers that forward here, or did a moment ago,
/// and from `allowFrom`. Kubelets probe from the node itself, which network plugins let through.
pub fn network_policy(valid: &Valid, found: &Found, owner: &OwnerReference) -> Value {
    let key = &valid.service.key;
    let balancers: Vec<&String> = found.balancers.union(&found.former_balancers).collect();
    let mut peers = Vec::new();
    if !balancers.is_empty() {
        let expression = json!({ "key": LOAD_BALANCER, "operator": "In", "values": balancers });
        peers.push(json!({ "podSelector": { "matchExpressions": [expression] } }));
    }
    peers.extend(valid.allow_from.iter().map(|peer| json!(peer)));
    // A rule without peers would let everyone in; no rule lets nobody in.
    let ingress = if peers.is_empty() { json!([]) } else { json!([{ "from": peers }]) };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": labels::of(REPLICA_SERVICE, &key.name),
            "ownerReferences": [owner],
        },
        "spec": {
            "podSelector": { "matchLabels": labels::selector(REPLICA_SERVICE, &key.name) },
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    })
}
