//! Reads what a TargetGroup points at, and who points at it. From the caches alone. No client.

use evenkeel_crds::v1alpha1::{ReplicaService, TargetGroup, TargetHealth, TargetState};
use evenkeel_proxy_api::report::Health;
use evenkeel_proxy_api::snapshot::Target;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use serde_json::Value;
use tokio::time::Instant;

use crate::caches::Guarded;
use crate::context::Context;
use crate::object_key::key;
use crate::reports::TargetView;

/// What there is around a TargetGroup.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Names of the load balancers that forward to it.
    pub load_balancers: Vec<String>,
    /// What its targets come from.
    pub source: Source,
    /// Its targets.
    pub targets: Vec<TargetHealth>,
    /// Requests in flight at all of them, where every target is known to a proxy.
    pub in_flight: Option<u64>,
}

/// What targets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Source {
    /// It is there, or nothing is needed.
    #[default]
    Present,
    /// There is no such object.
    Missing,
    /// The Service has no such port.
    NoSuchPort,
    /// No container of the ReplicaService's template has a port of that name.
    NoSuchContainerPort,
    /// The Service stands for a name somewhere else and has no endpoints.
    ExternalName,
    /// It is being deleted.
    Deleting,
}

/// Looks around.
pub fn dereference(object: &TargetGroup, context: &Context) -> Found {
    let key = key(object);
    let load_balancers = context.registry.read(|accepted| {
        let balancers = accepted.load_balancers.values();
        let forwarding = balancers.filter(|balancer| {
            balancer.key.namespace == key.namespace && balancer.target_groups().any(|group| group == key.name)
        });
        forwarding.map(|balancer| balancer.key.name.clone()).collect()
    });
    let views = context.plane.reports.targets(&key, Instant::now());
    let targets = context.plane.targets.of(&key);
    let in_flight = targets.iter().map(|target| Some(views.get(&target.id)?.in_flight)).sum();
    let targets = targets.iter().map(|target| health(target, views.get(&target.id))).collect();
    Found { load_balancers, source: source(object, context), targets, in_flight }
}

fn source(object: &TargetGroup, context: &Context) -> Source {
    let (spec, namespace) = (&object.spec, key(object).namespace);
    if let Some(service) = &spec.targets.replica_service {
        let found = context.caches.replica_services.get(&ObjectRef::new(&service.name).within(&namespace));
        return match found {
            None => Source::Missing,
            Some(service) if service.meta().deletion_timestamp.is_some() => Source::Deleting,
            Some(service) if !names_port(&service, &spec.port) => Source::NoSuchContainerPort,
            Some(_) => Source::Present,
        };
    }
    let Some(service) = &spec.targets.service else { return Source::Present };
    match context.caches.services.get(&ObjectRef::new(&service.name).within(&namespace)) {
        None => Source::Missing,
        Some(service) if is_external(&service) => Source::ExternalName,
        Some(service) if !has_port(&service, &spec.port) => Source::NoSuchPort,
        Some(_) => Source::Present,
    }
}

/// Whether a template has a port of that name. A number needs no name, and what cannot be read says nothing.
fn names_port(service: &Guarded<ReplicaService>, wanted: &IntOrString) -> bool {
    let (Ok(service), IntOrString::String(wanted)) = (&service.0, wanted) else { return true };
    let list = |field: &str| service.spec.template.pointer(field).and_then(Value::as_array);
    let containers = ["/spec/containers", "/spec/initContainers"].into_iter().filter_map(list).flatten();
    let mut ports = containers.filter_map(|container| container.get("ports")?.as_array()).flatten();
    ports.any(|port| port.get("name").and_then(Value::as_str) == Some(wanted))
}

fn is_external(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"))
}

fn has_port(service: &Service, wanted: &IntOrString) -> bool {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports.into_iter().flatten().any(|port| match wanted {
        IntOrString::Int(number) => port.port == *number,
        IntOrString::String(name) => port.name.as_deref() == Some(name),
    })
}

/// The state of a target. One that nobody has seen yet is initial.
fn health(target: &Target, view: Option<&TargetView>) -> TargetHealth {
    let state = match view.map(|view| view.health) {
        _ if target.drain.is_some() => TargetState::Draining,
        None | Some(Health::Initial) => TargetState::Initial,
        Some(Health::Healthy) => TargetState::Healthy,
        Some(Health::Unhealthy) => TargetState::Unhealthy,
    };
    let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let not_empty = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    TargetHealth {
        address: target.address.to_string(),
        port: target.port,
        zone: not_empty(&target.zone),
        node: not_empty(&target.node),
        state,
        reason: view.and_then(|view| told(&view.reason)),
        description: view.and_then(|view| told(&view.description)),
        since: view.map(|view| view.since.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_port_by_name_is_one_that_a_container_of_the_template_names() {
        let containers =
            json!([{"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}, {"name": "bare"}]);
        let init = json!([{"name": "sidecar", "ports": [{"name": "admin", "containerPort": 9000}]}]);
        let service = json!({
            "apiVersion": "evenkeel.dev/v1alpha1", "kind": "ReplicaService", "metadata": {"name": "api"},
            "spec": {
                "template": {"spec": {"containers": containers, "initContainers": init}},
                "scaling": {"min": 1, "max": 2},
            },
        });
        let service: Guarded<ReplicaService> = serde_json::from_value(service).unwrap();
        let named = |port: &str| names_port(&service, &IntOrString::String(port.into()));
        assert!(named("http") && named("admin"));
        assert!(!named("https"));
        assert!(names_port(&service, &IntOrString::Int(1)), "a number needs no name");
    }

    #[test]
    fn only_an_external_name_has_no_endpoints_of_its_own() {
        for (kind, external) in [("ExternalName", true), ("ClusterIP", false)] {
            let service = serde_json::from_value(json!({"metadata": {}, "spec": {"type": kind}})).unwrap();
            assert_eq!(is_external(&service), external, "{kind}");
        }
    }
}
