//! What is left out of objects before they are kept: what nobody here reads.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Node, NodeSpec, Pod, Service};
use kube::{Resource, ResourceExt};

use super::ZONE;
use crate::nodes::concerns;
use crate::revision::REVISION;

pub(super) fn meta<K: Resource>(object: &mut K) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.annotations = None;
}

/// Of the spec: where it runs and may stay, its ports and CPU requests; of its containers: whether they run. Annotations stay: drains
/// are noted there.
pub(super) fn pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(spec) = &mut pod.spec {
        spec.volumes = None;
        spec.affinity = None;
        spec.tolerations.iter_mut().for_each(|tolerations| tolerations.retain(concerns));
        spec.topology_spread_constraints = None;
        spec.security_context = None;
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            *container = k8s_openapi::api::core::v1::Container {
                name: std::mem::take(&mut container.name),
                ports: container.ports.take(),
                resources: container.resources.take(),
                restart_policy: container.restart_policy.take(),
                ..Default::default()
            };
        }
    }
    if let Some(status) = &mut pod.status {
        for container in status.container_statuses.iter_mut().flatten() {
            let (name, state) = (std::mem::take(&mut container.name), container.state.take());
            *container = ContainerStatus { name, state, ..ContainerStatus::default() };
        }
        status.init_container_statuses = None;
        status.ephemeral_container_statuses = None;
    }
}

pub(super) fn service(service: &mut Service) {
    meta(service);
    service.status = None;
}

pub(super) fn node(node: &mut Node) {
    meta(node);
    node.status = None;
    node.spec = node.spec.take().map(|spec| NodeSpec {
        unschedulable: spec.unschedulable,
        taints: spec.taints,
        ..NodeSpec::default()
    });
    node.metadata.labels = node.metadata.labels.take().map(|mut labels| {
        labels.retain(|name, _| name == ZONE);
        labels
    });
}

fn revised<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    object.annotations_mut().retain(|name, _| name == REVISION);
}

pub(super) fn replica_set(set: &mut ReplicaSet) {
    revised(set);
    if let Some(spec) = &mut set.spec {
        spec.template = None;
    }
}

pub(super) fn deployment(deployment: &mut Deployment) {
    revised(deployment);
    if let Some(spec) = &mut deployment.spec {
        spec.template = k8s_openapi::api::core::v1::PodTemplateSpec::default();
    }
}
