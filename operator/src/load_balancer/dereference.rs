//! Reads what a LoadBalancer points at, and how far it has come. From the caches alone. No client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evenkeel_crds::v1alpha1::{Action, LoadBalancer};
use evenkeel_proxy_api::report::Rejection;
use evenkeel_proxy_api::snapshot::TargetProtocol;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use crate::context::Context;
use crate::labels;
use crate::object_key::{ObjectKey, key};

/// What there is around a LoadBalancer.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The target groups that it forwards to, by name.
    pub groups: BTreeMap<String, Group>,
    /// Node ports that other load balancers asked for first.
    pub node_ports: BTreeMap<u16, ObjectKey>,
    /// Its proxies.
    pub deployment: Option<Arc<Deployment>>,
    /// Its Service.
    pub service: Option<Arc<Service>>,
    /// What each connected proxy said last.
    pub proxies: Vec<ProxyState>,
}

/// What there is of a target group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// It is in force.
    Valid {
        /// What its targets speak.
        protocol: TargetProtocol,
        /// It is being deleted.
        deleting: bool,
    },
    /// It exists, but never was valid.
    Invalid,
    /// It does not exist.
    Missing,
}

/// What a connected proxy said last.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProxyState {
    /// The generation of the LoadBalancer that it acknowledged.
    pub generation: Option<i64>,
    /// What it could not take over.
    pub rejections: Vec<Rejection>,
}

/// Looks around.
pub fn dereference(object: &LoadBalancer, context: &Context) -> Found {
    let key = key(object);
    let caches = &context.caches;
    let deployment = ObjectRef::new(&labels::proxy(&key.name)).within(&key.namespace);
    Found {
        groups: group_names(object)
            .into_iter()
            .map(|name| (name.to_owned(), group(&key, name, context)))
            .collect(),
        node_ports: node_ports(
            object,
            caches.load_balancers.state().iter().filter_map(|other| other.0.as_ref().ok()),
        ),
        deployment: caches.deployments.get(&deployment),
        service: caches.services.get(&ObjectRef::new(&key.name).within(&key.namespace)),
        proxies: proxies(&key, context),
    }
}

fn group_names(object: &LoadBalancer) -> BTreeSet<&str> {
    let listeners = object.spec.listeners.iter();
    let actions = listeners.flat_map(|listener| {
        listener.rules.iter().map(|rule| &rule.action).chain([&listener.default_action])
    });
    let forwards = actions.filter_map(|action: &Action| action.forward.as_ref());
    forwards.flat_map(|forward| &forward.target_groups).map(|group| group.name.as_str()).collect()
}

fn group(balancer: &ObjectKey, name: &str, context: &Context) -> Group {
    let key = balancer.sibling(name);
    let valid = context.registry.read(|accepted| {
        let group = accepted.target_groups.get(&key)?;
        Some(Group::Valid { protocol: group.protocol, deleting: group.deleting })
    });
    let exists = || context.caches.target_groups.get(&ObjectRef::new(name).within(&key.namespace)).is_some();
    valid.unwrap_or_else(|| if exists() { Group::Invalid } else { Group::Missing })
}

fn proxies(balancer: &ObjectKey, context: &Context) -> Vec<ProxyState> {
    let connected = context.plane.push.proxies(balancer).into_iter().filter(|proxy| proxy.connected);
    connected.map(|proxy| ProxyState { generation: proxy.generation, rejections: proxy.rejections }).collect()
}

/// Node ports of `object` that one of the others asked for first: the older object has it.
fn node_ports<'a>(
    object: &LoadBalancer,
    others: impl Iterator<Item = &'a LoadBalancer>,
) -> BTreeMap<u16, ObjectKey> {
    let age = |object: &LoadBalancer| {
        (object.creation_timestamp().map(|time| time.0), object.namespace(), object.name_any())
    };
    let (own, since) = (asked_for(object), age(object));
    others
        .filter(|other| other.meta().uid != object.meta().uid && age(other) < since)
        .flat_map(|other| asked_for(other).into_iter().map(move |port| (port, key(other))))
        .filter(|(port, _)| own.contains(port))
        .collect()
}

fn asked_for(object: &LoadBalancer) -> BTreeSet<u16> {
    object.spec.listeners.iter().filter_map(|listener| listener.node_port).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn balancer(name: &str, created: &str, node_port: u16) -> LoadBalancer {
        serde_json::from_value(json!({
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "LoadBalancer",
            "metadata": { "name": name, "namespace": "n", "uid": name, "creationTimestamp": created },
            "spec": { "listeners": [{
                "name": "http", "port": 80, "nodePort": node_port,
                "defaultAction": { "forward": { "targetGroups": [{ "name": "api" }] } },
                "rules": [{ "priority": 1, "conditions": [], "action": { "forward": { "targetGroups": [
                    { "name": "next" }, { "name": "api" },
                ] } } }],
            }] },
        }))
        .unwrap()
    }

    #[test]
    fn the_older_of_two_balancers_has_the_node_port() {
        let older = balancer("older", "2026-01-01T00:00:00Z", 30080);
        let younger = balancer("younger", "2026-01-02T00:00:00Z", 30080);
        let other = balancer("other", "2025-01-02T00:00:00Z", 30081);
        let all = [&older, &younger, &other];
        let taken = node_ports(&younger, all.into_iter());
        assert_eq!(taken, [(30080, ObjectKey::new("n", "older"))].into());
        assert_eq!(node_ports(&older, all.into_iter()), BTreeMap::new());
    }

    #[test]
    fn of_two_balancers_made_in_the_same_second_the_name_decides() {
        let a = balancer("a", "2026-01-01T00:00:00Z", 30080);
        let b = balancer("b", "2026-01-01T00:00:00Z", 30080);
        assert!(node_ports(&a, [&a, &b].into_iter()).is_empty());
        assert_eq!(node_ports(&b, [&a, &b].into_iter()).len(), 1);
    }

    #[test]
    fn every_group_is_looked_up_once() {
        let object = balancer("a", "2026-01-01T00:00:00Z", 30080);
        assert_eq!(group_names(&object), ["api", "next"].into());
    }
}
