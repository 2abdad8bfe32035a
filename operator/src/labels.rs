//! Labels, annotations, finalizers and names of what the operator makes.

use std::collections::BTreeMap;

/// Field manager of everything but replica counts.
pub const MANAGER: &str = "evenkeel";
/// Field manager of `spec.replicas` of ReplicaServices' Deployments.
pub const SCALE_MANAGER: &str = "evenkeel-scale";
/// Selects what the operator manages.
pub const MANAGED: &str = "app.kubernetes.io/managed-by=evenkeel";
/// On every object that the operator makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// On the pods of proxies: the name of their LoadBalancer.
pub const LOAD_BALANCER: &str = "evenkeel.dev/load-balancer";
/// On the pods of replicas: the name of their ReplicaService.
pub const REPLICA_SERVICE: &str = "evenkeel.dev/replica-service";
/// On a ReplicaService: when it was last asked to replace all replicas.
pub const RESTARTED_AT: &str = "evenkeel.dev/restartedAt";
/// On the Deployment of a ReplicaService: which template was asked for, and which one was good.
pub const ROLLOUT: &str = "evenkeel.dev/rollout";
/// On a replica's pod: when its eviction was first asked for.
pub const EVICTION: &str = "evenkeel.dev/eviction";
/// On an object that is invalid: the version of it that is in force.
pub const LAST_ACCEPTED: &str = "evenkeel.dev/last-accepted";
/// Readiness gate of replicas: whether the load balancers let them serve.
pub const LOAD_BALANCED: &str = "evenkeel.dev/load-balanced";
/// Finalizer of what drains before it goes.
pub const DRAIN: &str = "evenkeel.dev/drain";
/// Finalizer of a LoadBalancer that must not be deleted.
pub const DELETION_PROTECTION: &str = "evenkeel.dev/deletion-protection";

/// The labels of an object that belongs to the object that the label `kind` names.
pub fn of(kind: &str, name: &str) -> BTreeMap<String, String> {
    [(MANAGED_BY, "evenkeel"), (kind, name)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Selects the pods of the object that the label `kind` names.
pub fn selector(kind: &str, name: &str) -> BTreeMap<String, String> {
    [(kind.to_owned(), name.to_owned())].into()
}

/// Name of what belongs to the proxies of a LoadBalancer, except the Service, which is named as the balancer.
pub fn proxy(load_balancer: &str) -> String {
    format!("{load_balancer}-proxy")
}
