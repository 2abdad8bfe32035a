//! Which of a Deployment's templates is the current one, and which one a pod is of. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// On a Deployment and on its ReplicaSets: the one with the same number has the Deployment's template.
pub const REVISION: &str = "deployment.kubernetes.io/revision";

/// Whether a new template replaces an old one, however slowly.
pub fn is_rolling_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return true };
    let (all, new) = (status.replicas.unwrap_or_default(), status.updated_replicas.unwrap_or_default());
    !is_observed(deployment) || new < all
}

/// The ReplicaSet that has the Deployment's template; none while the Deployment controller has not looked at the last
/// change, or the ReplicaSet is not seen yet.
pub fn current<'a>(deployment: &Deployment, replica_sets: &'a [Arc<ReplicaSet>]) -> Option<&'a ReplicaSet> {
    let revision = deployment.annotations().get(REVISION).filter(|_| is_observed(deployment))?;
    let mut sets = replica_sets.iter();
    sets.find(|set| set.annotations().get(REVISION) == Some(revision)).map(|set| &**set)
}

/// UID of that ReplicaSet.
pub fn current_replica_set<'a>(
    deployment: &Deployment,
    replica_sets: &'a [Arc<ReplicaSet>],
) -> Option<&'a str> {
    current(deployment, replica_sets)?.metadata.uid.as_deref()
}

/// Whether the Deployment controller has looked at the last change.
pub fn is_observed(deployment: &Deployment) -> bool {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    observed >= deployment.metadata.generation
}

/// UID of the ReplicaSet that removes a pod when it has too many. Somebody's copy of a replica, with its labels, has
/// none: another one would go in its place that nobody drained.
pub fn replica_set_of(pod: &Pod) -> Option<&str> {
    let mut owners = pod.owner_references().iter();
    let owner = owners.find(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet")?;
    Some(&owner.uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_current_replica_set_is_known_once_the_last_change_was_looked_at() {
        let deployment = |generation: i64, revision: &str| -> Deployment {
            serde_json::from_value(json!({
                "metadata": {"generation": generation, "annotations": {REVISION: revision}},
                "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2},
            }))
            .unwrap()
        };
        let sets: Vec<Arc<ReplicaSet>> = [("old", "1"), ("new", "2")]
            .map(|(uid, revision)| json!({"metadata": {"uid": uid, "annotations": {REVISION: revision}}}))
            .map(|set| Arc::new(serde_json::from_value(set).unwrap()))
            .into();
        assert_eq!(current_replica_set(&deployment(2, "2"), &sets), Some("new"));
        assert_eq!(current_replica_set(&deployment(2, "1"), &sets), Some("old"));
        assert_eq!(current_replica_set(&deployment(2, "3"), &sets), None, "it is not seen yet");
        assert_eq!(current_replica_set(&deployment(3, "2"), &sets), None, "a change was not looked at");
        assert!(is_rolling_out(&deployment(3, "2")) && !is_rolling_out(&deployment(2, "2")));
    }
}
