//! Who the proxies are. They have no permissions: their token only proves to the operator which balancer they serve.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use crate::labels::{self, LOAD_BALANCER};
use crate::load_balancer::validate::Valid;

/// The ServiceAccount of the proxies.
pub fn service_account(valid: &Valid, owner: &OwnerReference) -> Value {
    let key = &valid.balancer.key;
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": labels::proxy(&key.name),
            "namespace": key.namespace,
            "labels": labels::of(LOAD_BALANCER, &key.name),
            "ownerReferences": [owner],
        },
        "automountServiceAccountToken": false,
    })
}
