//! What a LoadBalancer says of itself. Pure.

use std::collections::BTreeSet;

use evenkeel_crds::v1alpha1::{ListenerStatus, LoadBalancer, LoadBalancerStatus, ProxyCounts, ServiceType};
use evenkeel_proxy_api::report::ResourceKind;
use evenkeel_proxy_api::snapshot::{self, TargetProtocol};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt};

use super::apply::Outcome;
use super::dereference::{Found, Group};
use super::validate::Valid;
use crate::conditions::{Verdict, kind, merge, no, reason, yes};
use crate::last_accepted::Checked;
use crate::snapshot::protocol_of_targets;

/// Everything that a status is made of.
pub struct Inputs<'a> {
    /// The object.
    pub object: &'a LoadBalancer,
    /// Whether its spec holds together.
    pub checked: &'a Checked<Valid>,
    /// What is around it.
    pub found: &'a Found,
    /// What became of what it owns.
    pub outcome: &'a Outcome,
}

/// The status as it is now.
pub fn status(inputs: &Inputs<'_>, old: &LoadBalancerStatus, now: Timestamp) -> LoadBalancerStatus {
    let Inputs { object, checked, found, outcome } = *inputs;
    let generation = object.metadata.generation;
    let (addresses, dns_name) = addresses(object.spec.service.type_, outcome.service.as_deref());
    let ready = outcome.deployment.as_ref().and_then(|deployment| deployment.status.as_ref()?.ready_replicas);
    let up_to_date = found.proxies.iter().filter(|proxy| proxy.generation >= generation).count();
    let proxies = ProxyCounts {
        desired: i32::from(object.spec.replicas),
        ready: ready.unwrap_or(0),
        up_to_date: i32::try_from(up_to_date).unwrap_or(i32::MAX),
    };
    let listeners = match checked {
        Ok(valid) => {
            valid.balancer.listeners.keys().map(|name| listener(name, valid, inputs, old, now)).collect()
        }
        // What served goes on serving: so does what was said of it.
        Err(_) => old.listeners.clone(),
    };
    let verdicts = [
        Some(accepted(inputs)),
        Some(resolved(inputs)),
        Some(programmed(inputs, proxies)),
        Some(ready_verdict(inputs, proxies, &addresses, dns_name.as_deref())),
        deletion(object),
    ];
    LoadBalancerStatus {
        observed_generation: generation,
        addresses,
        dns_name,
        proxies,
        listeners,
        conditions: merge(&old.conditions, verdicts.into_iter().flatten().collect(), generation, now),
    }
}

fn accepted(inputs: &Inputs<'_>) -> Verdict {
    let outcome = inputs.outcome;
    if let Err(refused) = inputs.checked {
        return no(kind::ACCEPTED, reason::INVALID, refused.message());
    }
    if !outcome.foreign.is_empty() {
        return no(kind::ACCEPTED, reason::NAME_CONFLICT, outcome.foreign.join("; "));
    }
    if !outcome.refused.is_empty() {
        return no(kind::ACCEPTED, reason::REFUSED, outcome.refused.join("; "));
    }
    if let Some((listener, why)) = outcome.withheld.iter().next() {
        return no(kind::ACCEPTED, why.reason, format!("listener {listener}: {}", why.message));
    }
    yes(kind::ACCEPTED, reason::ACCEPTED, "")
}

fn resolved(inputs: &Inputs<'_>) -> Verdict {
    let Ok(valid) = inputs.checked else {
        return no(kind::RESOLVED_REFS, reason::INVALID, "the spec is not accepted");
    };
    let listeners = valid.balancer.listeners.iter();
    let wrong: Vec<_> = listeners
        .filter_map(|(name, listener)| {
            let (reason, message) = reference_problem(listener, inputs.found)?;
            Some((reason, format!("listener {name}: {message}")))
        })
        .collect();
    match wrong.first() {
        None => yes(kind::RESOLVED_REFS, reason::RESOLVED, ""),
        Some((reason, _)) => {
            let messages: Vec<_> = wrong.iter().map(|(_, message)| message.as_str()).collect();
            no(kind::RESOLVED_REFS, reason, messages.join("; "))
        }
    }
}

/// What is wrong with the target groups that a listener forwards to.
fn reference_problem(listener: &snapshot::Listener, found: &Found) -> Option<(&'static str, String)> {
    let wanted = protocol_of_targets(listener.protocol);
    forwards_to(listener).into_iter().find_map(|name| match found.groups.get(name) {
        None | Some(Group::Missing) => Some((
            reason::TARGET_GROUP_NOT_FOUND,
            format!("TargetGroup {name} does not exist in this namespace; requests for it are answered 503"),
        )),
        Some(Group::Invalid) => Some((
            reason::TARGET_GROUP_INVALID,
            format!("TargetGroup {name} is not accepted; see its conditions"),
        )),
        Some(Group::Valid { deleting: true, .. }) => Some((
            reason::TARGET_GROUP_DELETING,
            format!("TargetGroup {name} is being deleted; requests for it are answered 503"),
        )),
        Some(Group::Valid { protocol, .. }) if *protocol != wanted => Some((
            reason::PROTOCOL_MISMATCH,
            format!(
                "TargetGroup {name} has protocol {}, the listener {}; they must be the same",
                name_of(*protocol),
                name_of(wanted),
            ),
        )),
        Some(Group::Valid { .. }) => None,
    })
}

fn name_of(protocol: TargetProtocol) -> &'static str {
    match protocol {
        TargetProtocol::Http => "HTTP",
        TargetProtocol::Tcp => "TCP",
    }
}

fn forwards_to(listener: &snapshot::Listener) -> BTreeSet<&str> {
    let actions = listener.rules.iter().map(|rule| &rule.action).chain([&listener.default_action]);
    let groups = actions.filter_map(|action| match action {
        snapshot::Action::Forward { target_groups } => Some(target_groups),
        snapshot::Action::Redirect(_) | snapshot::Action::FixedResponse(_) => None,
    });
    groups.flatten().map(|group| group.name.as_str()).collect()
}

fn programmed(inputs: &Inputs<'_>, proxies: ProxyCounts) -> Verdict {
    if let Err(refused) = inputs.checked {
        let message = match refused.earlier {
            Some(_) => "the spec is not accepted; proxies have the one before",
            None => "the spec is not accepted, and none before it is known",
        };
        return no(kind::PROGRAMMED, reason::INVALID, message);
    }
    let rejections = inputs.found.proxies.iter().flat_map(|proxy| &proxy.rejections);
    let rejections: BTreeSet<String> = rejections
        .map(|rejection| {
            let kind = match rejection.kind {
                ResourceKind::Listener => "listener",
                ResourceKind::TargetGroup => "target group",
            };
            format!("{kind} {}: {}", rejection.name, rejection.reason)
        })
        .collect();
    if !rejections.is_empty() {
        let rejections: Vec<_> = rejections.into_iter().collect();
        return no(kind::PROGRAMMED, reason::REJECTED, rejections.join("; "));
    }
    let connected = i32::try_from(inputs.found.proxies.len()).unwrap_or(i32::MAX);
    if proxies.up_to_date >= proxies.desired && proxies.up_to_date == connected {
        return yes(kind::PROGRAMMED, reason::PROGRAMMED, "");
    }
    let message = format!(
        "{} of {} proxies acknowledged generation {}",
        proxies.up_to_date,
        connected.max(proxies.desired),
        inputs.object.metadata.generation.unwrap_or_default(),
    );
    no(kind::PROGRAMMED, reason::PENDING, message)
}

fn ready_verdict(
    inputs: &Inputs<'_>,
    proxies: ProxyCounts,
    addresses: &[String],
    dns_name: Option<&str>,
) -> Verdict {
    if proxies.ready == 0 {
        let starting = inputs.found.proxies.is_empty() && inputs.found.service.is_none();
        let reason = if starting { reason::PENDING } else { reason::NO_PROXY_READY };
        return no(kind::READY, reason, "no proxy is ready yet; see the pods' events if this lasts");
    }
    if inputs.outcome.service.is_none() {
        return no(kind::READY, reason::PENDING, "no listener is bound by all proxies yet");
    }
    if addresses.is_empty() && dns_name.is_none() {
        return no(
            kind::READY,
            reason::NO_ADDRESS,
            "the Service has no address yet: a cloud provider or a load-balancer controller has to give it one; without either use spec.service.type NodePort",
        );
    }
    yes(kind::READY, reason::READY, "")
}

fn deletion(object: &LoadBalancer) -> Option<Verdict> {
    object.meta().deletion_timestamp.as_ref()?;
    Some(yes(
        kind::DELETION_BLOCKED,
        reason::DELETION_PROTECTED,
        "it goes on serving; set spec.deletionProtection to false to let it go",
    ))
}

fn listener(
    name: &str,
    valid: &Valid,
    inputs: &Inputs<'_>,
    old: &LoadBalancerStatus,
    now: Timestamp,
) -> ListenerStatus {
    let accepted = match inputs.outcome.withheld.get(name) {
        Some(why) => no(kind::ACCEPTED, why.reason, &why.message),
        None => yes(kind::ACCEPTED, reason::ACCEPTED, ""),
    };
    let problem =
        valid.balancer.listeners.get(name).and_then(|listener| reference_problem(listener, inputs.found));
    let resolved = match problem {
        Some((reason, message)) => no(kind::RESOLVED_REFS, reason, message),
        None => yes(kind::RESOLVED_REFS, reason::RESOLVED, ""),
    };
    let before = old.listeners.iter().find(|listener| listener.name == name);
    let before = before.map(|listener| listener.conditions.as_slice()).unwrap_or_default();
    let verdicts = vec![accepted, resolved, listener_programmed(name, valid, inputs)];
    ListenerStatus {
        name: name.to_owned(),
        node_port: node_port(name, inputs.outcome.service.as_deref()),
        conditions: merge(before, verdicts, inputs.object.metadata.generation, now),
    }
}

fn listener_programmed(name: &str, valid: &Valid, inputs: &Inputs<'_>) -> Verdict {
    let rejections = inputs.found.proxies.iter().flat_map(|proxy| &proxy.rejections);
    let mut own =
        rejections.filter(|rejection| rejection.kind == ResourceKind::Listener && rejection.name == name);
    if let Some(rejection) = own.next() {
        return no(kind::PROGRAMMED, reason::REJECTED, &rejection.reason);
    }
    if super::apply::bound(valid, inputs.found).contains(name) {
        return yes(kind::PROGRAMMED, reason::PROGRAMMED, "");
    }
    no(kind::PROGRAMMED, reason::PENDING, "not every proxy listens yet")
}

fn node_port(listener: &str, service: Option<&Service>) -> Option<u16> {
    let ports = service?.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|port| port.name.as_deref() == Some(listener))?;
    u16::try_from(port.node_port?).ok()
}

/// Where clients reach the Service: addresses, and a host name.
fn addresses(kind: ServiceType, service: Option<&Service>) -> (Vec<String>, Option<String>) {
    let Some(service) = service else { return (Vec::new(), None) };
    if kind == ServiceType::LoadBalancer {
        let ingress =
            service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let ingress = ingress.map(Vec::as_slice).unwrap_or_default();
        return (
            ingress.iter().filter_map(|ingress| ingress.ip.clone()).collect(),
            ingress.iter().find_map(|ingress| ingress.hostname.clone()),
        );
    }
    let addresses = service.spec.as_ref().and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
    let dns_name = format!("{}.{}.svc", service.name_any(), service.namespace().unwrap_or_default());
    (addresses, Some(dns_name))
}

#[cfg(test)]
mod tests;
