//! Pure: a LoadBalancer becomes a valid one, or says what is wrong with it. No client.

mod limits;
mod rule;

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_crds::v1alpha1::{ExternalTrafficPolicy, Listener, ListenerProtocol, LoadBalancer, ServiceType};
use evenkeel_proxy_api::snapshot;
use kube::ResourceExt;

use crate::object_key::ObjectKey;
use crate::registry::ValidLoadBalancer;
use crate::validation::{Problems, seconds};

/// The port of the proxies' own endpoint: no listener can have it.
pub const ADMIN_PORT: u16 = 9902;
/// At most so many rules in one load balancer.
const MAX_RULES: usize = 1000;

/// A LoadBalancer that holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// What the proxies must know.
    pub balancer: ValidLoadBalancer,
    /// How many proxies.
    pub replicas: u16,
    /// How long a stopping proxy lets requests finish.
    pub drain_timeout: Duration,
    /// Whether proxies print a line for each request.
    pub access_log: bool,
    /// The Service in front of the proxies.
    pub service: Exposure,
    /// Deletion is refused.
    pub deletion_protection: bool,
}

/// How the proxies are exposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Kind of Service.
    pub kind: ServiceType,
    /// Annotations of the Service.
    pub annotations: BTreeMap<String, String>,
    /// Which nodes answer; absent for ClusterIP.
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Node ports that were asked for, by listener.
    pub node_ports: BTreeMap<String, u16>,
}

/// Checks everything that can be said without looking at other objects.
pub fn validate(object: &LoadBalancer) -> Result<Valid, Problems> {
    let mut problems = Problems::default();
    let spec = &object.spec;
    problems.range("spec.replicas", spec.replicas, 1..=100);
    problems.range("spec.listeners (how many)", spec.listeners.len(), 1..=50);
    problems.unique("spec.listeners.name", spec.listeners.iter().map(|listener| &listener.name));
    problems.unique("spec.listeners.port", spec.listeners.iter().map(|listener| listener.port));
    problems
        .unique("spec.listeners.nodePort", spec.listeners.iter().filter_map(|listener| listener.node_port));
    let rules = spec.listeners.iter().map(|listener| listener.rules.len()).sum::<usize>();
    problems.require(
        rules <= MAX_RULES,
        "spec.listeners.rules",
        format!("{rules} rules are more than {MAX_RULES}"),
    );
    let drain_timeout =
        problems.duration("spec.drainTimeout", spec.drain_timeout, seconds(0)..=seconds(3600));
    let service = exposure(&mut problems, object);
    let listeners = spec
        .listeners
        .iter()
        .map(|listener| (listener.name.clone(), self::listener(&mut problems, listener)))
        .collect();
    let balancer = ValidLoadBalancer {
        key: ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any()),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        listeners,
    };
    problems.check(Valid {
        balancer,
        replicas: spec.replicas,
        drain_timeout,
        access_log: spec.access_log,
        service,
        deletion_protection: spec.deletion_protection,
    })
}

fn exposure(problems: &mut Problems, object: &LoadBalancer) -> Exposure {
    let service = &object.spec.service;
    let policy = match (service.type_, service.external_traffic_policy) {
        (ServiceType::ClusterIP, Some(_)) => {
            problems.add(
                "spec.service.externalTrafficPolicy",
                "not for type ClusterIP; leave it out, or use type NodePort or LoadBalancer",
            );
            None
        }
        (ServiceType::ClusterIP, None) => None,
        (ServiceType::LoadBalancer, policy) => Some(policy.unwrap_or(ExternalTrafficPolicy::Local)),
        (ServiceType::NodePort, policy) => Some(policy.unwrap_or(ExternalTrafficPolicy::Cluster)),
    };
    let listeners = object.spec.listeners.iter();
    let node_ports: BTreeMap<String, u16> =
        listeners.filter_map(|listener| Some((listener.name.clone(), listener.node_port?))).collect();
    problems.require(
        node_ports.is_empty() || service.type_ != ServiceType::ClusterIP,
        "spec.listeners.nodePort",
        "not for type ClusterIP; leave it out, or set spec.service.type to NodePort",
    );
    Exposure {
        kind: service.type_,
        annotations: service.annotations.clone(),
        external_traffic_policy: policy,
        node_ports,
    }
}

fn listener(problems: &mut Problems, listener: &Listener) -> snapshot::Listener {
    let field = format!("spec.listeners[{}]", listener.name);
    problems.require(
        is_port_name(&listener.name),
        format!("{field}.name"),
        "use at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit",
    );
    problems.range(format!("{field}.port"), listener.port, 1..=u16::MAX);
    problems.require(
        listener.port != ADMIN_PORT,
        format!("{field}.port"),
        format!("{ADMIN_PORT} is the proxies' own; use another"),
    );
    let idle_timeout =
        problems.duration(format!("{field}.idleTimeout"), listener.idle_timeout, seconds(1)..=seconds(4000));
    let protocol = match listener.protocol {
        ListenerProtocol::HTTP => snapshot::ListenerProtocol::Http,
        ListenerProtocol::TCP => snapshot::ListenerProtocol::Tcp,
    };
    if protocol == snapshot::ListenerProtocol::Tcp {
        only_tcp(problems, &field, listener);
    }
    problems.unique(&format!("{field}.rules.priority"), listener.rules.iter().map(|rule| rule.priority));
    let rules = listener.rules.iter().enumerate();
    let mut rules: Vec<_> = rules
        .filter_map(|(index, rule)| rule::rule(problems, &format!("{field}.rules[{index}]"), rule))
        .collect();
    rules.sort_by_key(|rule| rule.priority);
    let action = rule::action(problems, &format!("{field}.defaultAction"), &listener.default_action);
    snapshot::Listener {
        port: listener.port,
        protocol,
        allowed_sources: allowed_sources(listener),
        idle_timeout,
        limits: limits::of_listener(problems, &format!("{field}.limits"), listener),
        rules,
        // Without an action there is a problem, and this is never used.
        default_action: action.unwrap_or(snapshot::Action::Forward { target_groups: Vec::new() }),
    }
}

fn only_tcp(problems: &mut Problems, field: &str, listener: &Listener) {
    problems.require(
        listener.rules.is_empty(),
        format!("{field}.rules"),
        "a TCP listener has no rules; use protocol HTTP, or defaultAction alone",
    );
    problems.require(
        listener.default_action.forward.is_some(),
        format!("{field}.defaultAction"),
        "a TCP listener can only forward",
    );
}

/// Everyone is said by an empty list.
fn allowed_sources(listener: &Listener) -> Vec<ipnet::IpNet> {
    let everyone = |v4: bool| {
        let mut networks = listener.allowed_sources.iter();
        networks.any(|network| network.prefix_len() == 0 && network.addr().is_ipv4() == v4)
    };
    if everyone(true) && everyone(false) { Vec::new() } else { listener.allowed_sources.clone() }
}

fn is_port_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests;
