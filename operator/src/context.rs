//! What the controllers share during a term of leadership.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;

use crate::apply::Applier;
use crate::caches::Caches;
use crate::deletion::Deletions;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::object_key::ObjectKey;
use crate::plane::Plane;
use crate::push::ProxyView;
use crate::registry::Registry;
use crate::replica_service::templates::Templates;
use crate::status::Statuses;
use crate::world::may_run;

/// What the controllers share during a term of leadership.
pub struct Context {
    /// How to reach the API server.
    pub client: Client,
    /// What the cluster holds.
    pub caches: Caches,
    /// What was accepted.
    pub registry: Arc<Registry>,
    /// What goes on beside the controllers: what proxies acknowledged and see, targets, decisions.
    pub plane: Plane,
    /// Applies children.
    pub applier: Applier,
    /// Templates of replicas that were put back in place.
    pub templates: Templates,
    /// Since when objects are being deleted.
    pub deletions: Deletions,
    /// Writes statuses.
    pub statuses: Statuses,
    /// Publishes events.
    pub events: Arc<Events>,
    /// Counters.
    pub metrics: Metrics,
    /// How proxies are started.
    pub proxies: ProxySettings,
}

/// How proxies are started, the same for all load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Their image.
    pub image: String,
    /// Namespace of the operator that they dial.
    pub operator_namespace: String,
}

impl Context {
    /// Whether a proxy of a load balancer may still follow an earlier generation than the accepted one.
    pub fn is_behind(&self, load_balancer: &ObjectKey) -> bool {
        let accepted = self
            .registry
            .read(|accepted| accepted.load_balancers.get(load_balancer).map(|balancer| balancer.generation));
        let Some(accepted) = accepted else { return false };
        let pods = self.plane.world.proxies_of(load_balancer);
        is_one_behind(accepted, &pods, &self.plane.push.proxies(load_balancer))
    }
}

/// A proxy that said nothing in this term, or nothing yet, may follow any generation.
fn is_one_behind(accepted: i64, pods: &[Arc<Pod>], proxies: &[ProxyView]) -> bool {
    let follows = |pod: &Pod| {
        let said = proxies.iter().find(|proxy| pod.metadata.uid.as_deref() == Some(&proxy.pod_uid));
        said.is_some_and(|said| said.generation >= Some(accepted))
    };
    pods.iter().any(|pod| may_run(pod) && !follows(pod))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proxy_that_runs_follows_a_generation_only_once_it_says_so() {
        let pod = |uid: &str, phase: &str| -> Arc<Pod> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"uid": uid}, "status": {"phase": phase}}))
                    .unwrap(),
            )
        };
        let said = |uid: &str, generation| ProxyView {
            pod_uid: uid.into(),
            pod_name: uid.into(),
            connected: true,
            applied: None,
            generation,
            rejections: Vec::new(),
        };
        let pods = [pod("a", "Running"), pod("b", "Running"), pod("c", "Pending")];
        for (case, proxies, behind) in [
            ("a new leader, and nobody has connected yet", vec![], true),
            ("one has not", vec![said("a", Some(2))], true),
            ("one has not acknowledged", vec![said("a", Some(2)), said("b", None)], true),
            ("one is behind", vec![said("a", Some(2)), said("b", Some(1))], true),
            ("all who run follow", vec![said("a", Some(2)), said("b", Some(3))], false),
        ] {
            assert_eq!(is_one_behind(2, &pods, &proxies), behind, "{case}");
        }
        assert!(!is_one_behind(2, &[], &[]), "there is no proxy");
    }
}
