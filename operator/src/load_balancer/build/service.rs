//! The Service through which clients reach the proxies.
//!
//! A port is there only while proxies listen on it: bind, acknowledge, then the port; and the port goes first.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_crds::v1alpha1::{ExternalTrafficPolicy, ServiceType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::labels::{self, LOAD_BALANCER};
use crate::load_balancer::validate::Valid;

/// A port of the Service: number, and the node port where one was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Of the Service and of the proxies alike.
    pub port: u16,
    /// Asked for.
    pub node_port: Option<u16>,
}

/// The ports to serve, by listener: those that `bound` names, and those that clients use already. A listener in
/// `withheld` gets none.
pub fn ports(
    valid: &Valid,
    bound: &BTreeSet<String>,
    withheld: &BTreeSet<String>,
    live: Option<&Service>,
) -> BTreeMap<String, Port> {
    let live = live_ports(live);
    let listeners = valid.balancer.listeners.iter().filter(|(name, _)| !withheld.contains(*name));
    listeners
        .filter_map(|(name, listener)| {
            let port = if bound.contains(name) { listener.port } else { *live.get(name)? };
            Some((name.clone(), Port { port, node_port: valid.service.node_ports.get(name).copied() }))
        })
        .collect()
}

/// The ports of a Service by name, where it sends them to the same port of the pods.
fn live_ports(live: Option<&Service>) -> BTreeMap<String, u16> {
    let ports = live.and_then(|service| service.spec.as_ref()).and_then(|spec| spec.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter(|port| port.target_port.as_ref().is_none_or(|target| *target == IntOrString::Int(port.port)))
        .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.port).ok()?)))
        .collect()
}

/// The Service with these ports, of which there must be at least one.
pub fn service(valid: &Valid, ports: &BTreeMap<String, Port>, owner: &OwnerReference) -> Value {
    let key = &valid.balancer.key;
    let kind = match valid.service.kind {
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::NodePort => "NodePort",
        ServiceType::ClusterIP => "ClusterIP",
    };
    let mut spec = json!({
        "type": kind,
        "selector": labels::selector(LOAD_BALANCER, &key.name),
        "ports": ports.iter().map(port).collect::<Vec<_>>(),
    });
    if let (Some(policy), Some(spec)) = (valid.service.external_traffic_policy, spec.as_object_mut()) {
        let policy = match policy {
            ExternalTrafficPolicy::Local => "Local",
            ExternalTrafficPolicy::Cluster => "Cluster",
        };
        spec.insert("externalTrafficPolicy".into(), policy.into());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": labels::of(LOAD_BALANCER, &key.name),
            "annotations": valid.service.annotations,
            "ownerReferences": [owner],
        },
        "spec": spec,
    })
}

fn port((name, Port { port, node_port }): (&String, &Port)) -> Value {
    let mut value = json!({ "name": name, "port": port, "targetPort": port, "protocol": "TCP" });
    if let (Some(node_port), Some(value)) = (node_port, value.as_object_mut()) {
        value.insert("nodePort".into(), (*node_port).into());
    }
    value
}
