//! What the controllers share during a term of leadership.

use std::sync::Arc;

use kube::Client;

use crate::apply::Applier;
use crate::caches::Caches;
use crate::events::Events;
use crate::load_balancer::dereference::ProxyState;
use crate::metrics::Metrics;
use crate::plane::Plane;
use crate::registry::{ObjectKey, Registry};
use crate::status::Statuses;

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
    /// What each connected proxy of a load balancer said last.
    pub fn proxy_states(&self, load_balancer: &ObjectKey) -> Vec<ProxyState> {
        let proxies = self.plane.push.proxies(load_balancer).into_iter().filter(|proxy| proxy.connected);
        proxies
            .map(|proxy| ProxyState { generation: proxy.generation, rejections: proxy.rejections })
            .collect()
    }

    /// Whether a proxy of a load balancer may still follow an earlier generation than the accepted one.
    pub fn is_behind(&self, load_balancer: &ObjectKey) -> bool {
        let accepted = self
            .registry
            .read(|accepted| accepted.load_balancers.get(load_balancer).map(|balancer| balancer.generation));
        let Some(accepted) = accepted else { return false };
        let mut proxies = self.plane.push.proxies(load_balancer).into_iter();
        proxies.any(|proxy| proxy.generation.is_none_or(|generation| generation < accepted))
    }
}
