//! Pods and endpoints → targets of a target group. Pure but for the stores it reads.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_proxy_api::snapshot::Target;
use futures::Stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use parking_lot::RwLock;
use serde_json::{Value, json};

use crate::changes::Changes;
use crate::object_key::ObjectKey;
use crate::registry::{Port, TargetSource, ValidTargetGroup};
use crate::world::{SERVICE_NAME, World, has_ended};

/// On a replica's pod while it drains: when it was chosen.
pub const DRAINING: &str = "evenkeel.dev/draining";

/// The targets of each target group.
#[derive(Debug, Default)]
pub struct Targets {
    groups: RwLock<BTreeMap<ObjectKey, Arc<Vec<Target>>>>,
    changes: Changes,
}

impl Targets {
    /// The targets of a target group, ordered by id; none before they were first looked up in this term.
    pub fn of(&self, group: &ObjectKey) -> Arc<Vec<Target>> {
        self.groups.read().get(group).cloned().unwrap_or_default()
    }

    /// Target groups whose targets changed.
    pub fn changes(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        self.changes.subscribe()
    }

    /// Replaces those of the groups in `next`, and forgets groups that do not exist any more.
    pub(crate) fn replace(
        &self,
        next: BTreeMap<ObjectKey, Vec<Target>>,
        exists: impl Fn(&ObjectKey) -> bool,
    ) {
        let mut groups = self.groups.write();
        groups.retain(|key, _| exists(key));
        let mut changed = Vec::new();
        for (key, targets) in next {
            if groups.get(&key).is_none_or(|before| **before != targets) {
                groups.insert(key.clone(), Arc::new(targets));
                changed.push(key);
            }
        }
        drop(groups);
        for key in changed {
            self.changes.send(&key);
        }
    }
}

/// The targets of a group, ordered by id, each id once.
pub fn targets(group: &ValidTargetGroup, world: &World) -> Vec<Target> {
    let ValidTargetGroup { key, deregistration_delay, source, deleting, .. } = group;
    let mut targets = match source {
        TargetSource::ReplicaService { name, port } => world
            .replicas_of(&key.sibling(name))
            .iter()
            .filter_map(|pod| pod_target(pod, port, *deregistration_delay))
            .map(|target| Target { zone: world.zone(&target.node), ..target })
            .collect(),
        TargetSource::Service { name, port } => {
            let service = world.services.get(&ObjectRef::new(name).within(&key.namespace));
            let slices = world.slices.state_filter(|slice| {
                slice.metadata.namespace.as_deref() == Some(&key.namespace)
                    && slice.labels().get(SERVICE_NAME) == Some(name)
            });
            service
                .map(|service| slice_targets(&slices, &service, port, *deregistration_delay))
                .unwrap_or_default()
        }
        TargetSource::Addresses(addresses) => addresses.clone(),
    };
    if *deleting {
        for target in &mut targets {
            target.drain.get_or_insert(*deregistration_delay);
        }
    }
    // Of the two addresses of a dual-stack endpoint always the same one, in whatever order the slices come.
    let order = |target: &Target| (target.drain.is_some(), target.address, target.port);
    targets.sort_by(|a, b| a.id.cmp(&b.id).then_with(|| order(a).cmp(&order(b))));
    targets.dedup_by(|a, b| a.id == b.id);
    targets
}

/// A pod as a target: once its containers are ready, and while it drains for as long as it runs. A proxy counts the delay
/// from when it hears of the drain: when that was annotated says nothing about what the proxy sent there since.
fn pod_target(pod: &Pod, port: &Port, delay: Duration) -> Option<Target> {
    let address: IpAddr = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    if has_ended(pod) {
        return None;
    }
    let drain = is_leaving(pod).then_some(delay);
    if drain.is_none() && !containers_ready(pod) {
        return None;
    }
    Some(Target {
        id: pod.metadata.uid.clone()?,
        address,
        port: pod_port(pod, port)?,
        zone: String::new(),
        node: pod.spec.as_ref()?.node_name.clone().unwrap_or_default(),
        weight: 1,
        drain,
    })
}

/// Whether a pod was told to drain or to end, whatever the time that is written there.
fn is_leaving(pod: &Pod) -> bool {
    pod.annotations().contains_key(DRAINING) || pod.metadata.deletion_timestamp.is_some()
}

/// Whether the containers of a pod are ready, whatever its readiness gates say.
pub fn containers_ready(pod: &Pod) -> bool {
    condition(pod, "ContainersReady").is_some_and(|condition| condition.status == "True")
}

/// One of a pod's conditions.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// A condition as it is merged into those of a pod.
pub fn merged_condition(kind: &str, status: &str, reason: &str, message: &str, time: Timestamp) -> Value {
    let time = Timestamp::from_second(time.as_second()).unwrap_or(time).to_string();
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time})
}

fn pod_port(pod: &Pod, port: &Port) -> Option<u16> {
    let name = match port {
        Port::Number(number) => return Some(*number),
        Port::Name(name) => name,
    };
    let spec = pod.spec.as_ref()?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_ref() == Some(name))?;
    u16::try_from(port.container_port).ok()
}

/// The endpoints of a Service: ready ones serve, terminating ones that still serve drain.
fn slice_targets(
    slices: &[Arc<EndpointSlice>],
    service: &Service,
    port: &Port,
    delay: Duration,
) -> Vec<Target> {
    let Some(name) = service_port_name(service, port) else { return Vec::new() };
    let mut targets = Vec::new();
    for slice in slices {
        let mut ports = slice.ports.iter().flatten();
        let number =
            ports.find(|port| port.name.as_deref().unwrap_or_default() == name).and_then(|port| port.port);
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { continue };
        targets
            .extend(slice.endpoints.iter().filter_map(|endpoint| endpoint_target(endpoint, number, delay)));
    }
    targets
}

/// A Service's ports are known by name in its EndpointSlices; a single port may have none.
fn service_port_name<'a>(service: &'a Service, port: &Port) -> Option<&'a str> {
    let mut ports = service.spec.as_ref()?.ports.iter().flatten();
    let port = ports.find(|candidate| match port {
        Port::Number(number) => candidate.port == i32::from(*number),
        Port::Name(name) => candidate.name.as_ref() == Some(name),
    })?;
    Some(port.name.as_deref().unwrap_or_default())
}

fn endpoint_target(endpoint: &Endpoint, port: u16, delay: Duration) -> Option<Target> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let terminating = conditions.terminating.unwrap_or(false);
    let serving = conditions.serving.or(conditions.ready).unwrap_or(true);
    // Ready means serving and not terminating, but for Services that publish addresses that are not ready.
    let ready = conditions.ready.unwrap_or(true);
    let drains = terminating && serving;
    if !(ready || drains) {
        return None;
    }
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    Some(Target {
        id: uid.unwrap_or_else(|| std::net::SocketAddr::new(address, port).to_string()),
        address,
        port,
        zone: endpoint.zone.clone().unwrap_or_default(),
        node: endpoint.node_name.clone().unwrap_or_default(),
        weight: 1,
        drain: terminating.then_some(delay),
    })
}

#[cfg(test)]
mod tests;
