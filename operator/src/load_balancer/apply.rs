//! Applies what was built. Client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_crds::v1alpha1::LoadBalancer;
use evenkeel_proxy_api::report::ResourceKind;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::core::Status;

use super::build;
use super::build::Port;
use super::dereference::Found;
use super::validate::Valid;
use crate::apply::Applied;
use crate::conditions::reason;
use crate::context::Context;
use crate::error::Error;
use crate::labels;
use crate::reconciled::Reconciled;

/// Nobody tells us when another Service gives a node port back.
const NODE_PORT_RETRY: Duration = Duration::from_secs(30);

/// What became of the objects.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The proxies.
    pub deployment: Option<Arc<Deployment>>,
    /// The Service.
    pub service: Option<Arc<Service>>,
    /// Objects of ours that somebody else has under the same name.
    pub foreign: Vec<String>,
    /// What the API server said of objects that it refused.
    pub refused: Vec<String>,
    /// Listeners that do not get the node port they ask for.
    pub withheld: BTreeMap<String, Withheld>,
}

/// Why a listener does not get the node port that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

impl Outcome {
    /// Nothing was applied; what is there goes on.
    pub fn kept(found: &Found) -> Self {
        Self { deployment: found.deployment.clone(), service: found.service.clone(), ..Self::default() }
    }

    /// Whether to try again without being asked.
    pub fn again(&self) -> Reconciled {
        if self.withheld.is_empty() { Reconciled::Done } else { Reconciled::Later(NODE_PORT_RETRY) }
    }

    /// Takes in what became of an object.
    fn take<K>(&mut self, applied: Applied<K>) -> Option<Arc<K>> {
        match applied {
            Applied::Done(object) => return Some(object),
            Applied::Foreign(message) => self.foreign.push(message),
            Applied::Refused(status) => self.refused.push(status.message),
        }
        None
    }
}

/// Applies everything. The Service comes before the proxies are told: a port goes before its listener does.
pub async fn apply(
    object: &LoadBalancer,
    valid: &Valid,
    found: &Found,
    context: &Context,
) -> Result<Outcome, Error> {
    let owner = object.controller_owner_ref(&()).unwrap_or_default();
    let mut outcome = Outcome { withheld: taken(valid, found), ..Outcome::default() };
    let service = service(valid, found, context, &owner, &mut outcome).await;
    register(valid, context);
    service?;

    let (key, name) = (&valid.balancer.key, labels::proxy(&valid.balancer.key.name));
    let (key, caches, applier) = (&key.sibling(name), &context.caches, &context.applier);
    let account = build::service_account(valid, &owner);
    outcome.take(applier.apply(&owner, key, &caches.service_accounts, &account).await?);
    let policy = build::network_policy(valid, &owner);
    outcome.take(applier.apply(&owner, key, &caches.network_policies, &policy).await?);
    let budget = build::disruption_budget(valid, &owner);
    outcome.take(applier.apply(&owner, key, &caches.disruption_budgets, &budget).await?);
    let deployment = build::deployment(valid, &context.proxies, &owner);
    let deployment = applier.apply(&owner, key, &caches.deployments, &deployment).await?;
    outcome.deployment = outcome.take(deployment);
    Ok(outcome)
}

/// Tells snapshots and scaling of a valid balancer.
pub fn register(valid: &Valid, context: &Context) {
    let balancer = &valid.balancer;
    context.registry.write(|accepted| {
        let same = accepted.load_balancers.get(&balancer.key).is_some_and(|present| **present == *balancer);
        if !same {
            accepted.load_balancers.insert(balancer.key.clone(), Arc::new(balancer.clone()));
        }
        !same
    });
}

/// Applies the Service with the ports that proxies listen on. A node port that cannot be had costs its listener alone.
async fn service(
    valid: &Valid,
    found: &Found,
    context: &Context,
    owner: &OwnerReference,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let (key, bound) = (&valid.balancer.key, bound(valid, found));
    let (applier, store) = (&context.applier, &context.caches.services);
    loop {
        let withheld = outcome.withheld.keys().cloned().collect();
        let ports = build::ports(valid, &bound, &withheld, found.service.as_deref());
        if ports.is_empty() {
            return applier.remove(owner, key, store).await;
        }
        let wanted = build::service(valid, &ports, owner);
        let result = applier.apply(owner, key, store, &wanted).await?;
        if let Applied::Refused(status) = &result
            && let Some((listener, why)) = node_port_refused(status, &ports)
        {
            outcome.withheld.insert(listener, why);
            continue;
        }
        outcome.service = outcome.take(result);
        return Ok(());
    }
}

/// Listeners that every connected proxy has acknowledged.
pub fn bound(valid: &Valid, found: &Found) -> BTreeSet<String> {
    let acknowledged = !found.proxies.is_empty()
        && found.proxies.iter().all(|proxy| proxy.generation >= Some(valid.balancer.generation));
    let rejected = |name: &str| {
        let mut rejections = found.proxies.iter().flat_map(|proxy| &proxy.rejections);
        rejections.any(|rejection| rejection.kind == ResourceKind::Listener && rejection.name == name)
    };
    let listeners = valid.balancer.listeners.keys().filter(|name| acknowledged && !rejected(name));
    listeners.cloned().collect()
}

/// Listeners whose node port another balancer asked for first.
fn taken(valid: &Valid, found: &Found) -> BTreeMap<String, Withheld> {
    let asked = valid.service.node_ports.iter();
    asked
        .filter_map(|(listener, port)| {
            let other = found.node_ports.get(port)?;
            let message = format!("LoadBalancer {other} asked for node port {port} first; choose another");
            Some((listener.clone(), Withheld { reason: reason::NODE_PORT_TAKEN, message }))
        })
        .collect()
}

/// The listener whose node port the API server refuses, and why. Whether another object has it is told from whether the
/// cluster has it at all by the sentence alone: the machine-readable reason of both is `FieldValueInvalid`.
fn node_port_refused(status: &Status, ports: &BTreeMap<String, Port>) -> Option<(String, Withheld)> {
    let causes = &status.details.as_ref()?.causes;
    causes.iter().find_map(|cause| {
        let index = cause.field.strip_prefix("spec.ports[")?.strip_suffix("].nodePort")?;
        let listener = ports.keys().nth(index.parse().ok()?)?.clone();
        let outside = cause.message.contains("not in the valid range");
        let reason = if outside { reason::NODE_PORT_INVALID } else { reason::NODE_PORT_TAKEN };
        Some((listener, Withheld { reason, message: status.message.clone() }))
    })
}

#[cfg(test)]
mod tests {
    use evenkeel_proxy_api::report::Rejection;

    use super::*;
    use crate::load_balancer::build::tests::valid;
    use crate::load_balancer::dereference::ProxyState;

    fn proxy(generation: i64, rejected: &[&str]) -> ProxyState {
        let rejections = rejected.iter().map(|name| Rejection {
            kind: ResourceKind::Listener,
            name: (*name).to_owned(),
            reason: "address in use".into(),
        });
        ProxyState { generation: Some(generation), rejections: rejections.collect() }
    }

    #[test]
    fn a_listener_is_bound_when_every_connected_proxy_acknowledged_it() {
        let (none, all) = (vec![], vec!["db", "http"]);
        for (proxies, expected) in [
            (vec![], none.clone()),
            (vec![proxy(3, &[])], all.clone()),
            (vec![proxy(3, &[]), proxy(4, &[])], all),
            (vec![proxy(3, &[]), proxy(2, &[])], none.clone()),
            (vec![proxy(3, &[]), ProxyState::default()], none),
            (vec![proxy(3, &[]), proxy(3, &["http"])], vec!["db"]),
        ] {
            let found = Found { proxies: proxies.clone(), ..Found::default() };
            let bound: Vec<_> = bound(&valid(), &found).into_iter().collect();
            assert_eq!(bound, expected, "{proxies:?}");
        }
    }

    #[test]
    fn a_refused_node_port_is_traced_to_its_listener() {
        let ports =
            ["a", "b"].map(|name| (name.to_owned(), Port { port: 80, node_port: Some(30080) })).into();
        let (taken, outside) = (
            "Invalid value: 30080: provided port is already allocated",
            "Invalid value: 1025: provided port is not in the valid range. The range of valid ports is 30000-32767",
        );
        for (field, message, expected) in [
            ("spec.ports[1].nodePort", taken, Some(("b", reason::NODE_PORT_TAKEN))),
            ("spec.ports[0].nodePort", outside, Some(("a", reason::NODE_PORT_INVALID))),
            ("spec.ports[7].nodePort", taken, None),
            ("spec.ports[0].name", taken, None),
        ] {
            let cause = serde_json::json!({ "message": message, "field": field });
            let status: Status =
                serde_json::from_value(serde_json::json!({ "details": { "causes": [cause] } })).unwrap();
            let found = node_port_refused(&status, &ports);
            let found = found.as_ref().map(|(listener, why)| (listener.as_str(), why.reason));
            assert_eq!(found, expected, "{field}: {message}");
        }
    }
}
