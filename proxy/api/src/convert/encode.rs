//! Domain → wire.

use std::time::Duration;

use crate::proto;
use crate::report::{
    Ack, FromProxy, GroupReport, Health, Hello, Rejection, Report, ResourceKind, TargetReport,
};
use crate::snapshot::{
    Action, Algorithm, Condition, FixedResponse, HealthCheck, Limits, Listener, ListenerProtocol, QueryPair,
    Redirect, Rule, RuleLimits, StatusRange, Target, TargetGroup, TargetProtocol, Version,
    WeightedTargetGroup,
};
use crate::trust::{Fingerprint, Trust};

/// A listener as it is sent.
pub fn listener_message(name: &str, listener: &Listener) -> proto::Listener {
    let Listener { port, protocol, allowed_sources, idle_timeout, limits, rules, default_action } = listener;
    proto::Listener {
        name: name.to_owned(),
        port: u32::from(*port),
        protocol: proto::ListenerProtocol::from(*protocol).into(),
        allowed_sources: strings(allowed_sources),
        idle_timeout_ms: milliseconds(*idle_timeout),
        rules: rules.iter().map(Into::into).collect(),
        default_action: Some(default_action.into()),
        limits: Some(limits.into()),
    }
}

/// A target group as it is sent.
pub fn target_group_message(name: &str, group: &TargetGroup) -> proto::TargetGroup {
    let TargetGroup { protocol, algorithm, health_check, targets } = group;
    proto::TargetGroup {
        name: name.to_owned(),
        protocol: proto::TargetProtocol::from(*protocol).into(),
        algorithm: proto::Algorithm::from(*algorithm).into(),
        health_check: Some(health_check.into()),
        targets: targets.iter().map(Into::into).collect(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn strings<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

impl From<Version> for proto::Version {
    fn from(Version { epoch, counter }: Version) -> Self {
        Self { epoch, counter }
    }
}

impl From<ListenerProtocol> for proto::ListenerProtocol {
    fn from(protocol: ListenerProtocol) -> Self {
        match protocol {
            ListenerProtocol::Http => Self::Http,
            ListenerProtocol::Tcp => Self::Tcp,
        }
    }
}

impl From<TargetProtocol> for proto::TargetProtocol {
    fn from(protocol: TargetProtocol) -> Self {
        match protocol {
            TargetProtocol::Http => Self::Http,
            TargetProtocol::Tcp => Self::Tcp,
        }
    }
}

impl From<Algorithm> for proto::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RoundRobin => Self::RoundRobin,
            Algorithm::LeastRequest => Self::LeastRequest,
        }
    }
}

impl From<&Limits> for proto::Limits {
    fn from(limits: &Limits) -> Self {
        let Limits {
            connections,
            connections_per_source,
            head_bytes,
            header_count,
            requests_per_connection,
            body_bytes,
        } = *limits;
        Self {
            connections,
            connections_per_source,
            head_bytes,
            header_count,
            requests_per_connection,
            body_bytes,
        }
    }
}

impl From<&Rule> for proto::Rule {
    fn from(rule: &Rule) -> Self {
        let Rule { priority, conditions, action, limits: RuleLimits { body_bytes } } = rule;
        let conditions = conditions.iter().map(Into::into).collect();
        Self { priority: *priority, conditions, action: Some(action.into()), body_bytes: *body_bytes }
    }
}

impl From<&Condition> for proto::Condition {
    fn from(condition: &Condition) -> Self {
        use proto::condition::Condition as Wire;
        let patterns = |values: &[String]| proto::Patterns { values: values.to_vec() };
        let condition = match condition {
            Condition::Path { values } => Wire::Path(patterns(values)),
            Condition::Host { values } => Wire::Host(patterns(values)),
            Condition::Header { name, values } => {
                Wire::Header(proto::HeaderPatterns { name: name.clone(), values: values.clone() })
            }
            Condition::Method { values } => Wire::Method(patterns(values)),
            Condition::Query { pairs } => {
                Wire::Query(proto::QueryPairs { pairs: pairs.iter().map(Into::into).collect() })
            }
            Condition::SourceIp { values } => Wire::SourceIp(proto::Networks { values: strings(values) }),
        };
        Self { condition: Some(condition) }
    }
}

impl From<&QueryPair> for proto::QueryPair {
    fn from(QueryPair { key, value }: &QueryPair) -> Self {
        Self { key: key.clone(), value: value.clone() }
    }
}

impl From<&Action> for proto::Action {
    fn from(action: &Action) -> Self {
        use proto::action::Action as Wire;
        let action = match action {
            Action::Forward { target_groups } => Wire::Forward(proto::Forward {
                target_groups: target_groups.iter().map(Into::into).collect(),
            }),
            Action::Redirect(redirect) => Wire::Redirect(redirect.into()),
            Action::FixedResponse(response) => Wire::FixedResponse(response.into()),
        };
        Self { action: Some(action) }
    }
}

impl From<&WeightedTargetGroup> for proto::WeightedTargetGroup {
    fn from(WeightedTargetGroup { name, weight }: &WeightedTargetGroup) -> Self {
        Self { name: name.clone(), weight: u32::from(*weight) }
    }
}

impl From<&Redirect> for proto::Redirect {
    fn from(redirect: &Redirect) -> Self {
        let Redirect { status_code, protocol, host, port, path, query } = redirect.clone();
        Self { status_code: u32::from(status_code), protocol, host, port, path, query }
    }
}

impl From<&FixedResponse> for proto::FixedResponse {
    fn from(response: &FixedResponse) -> Self {
        let FixedResponse { status_code, content_type, message_body } = response.clone();
        Self { status_code: u32::from(status_code), content_type, message_body }
    }
}

impl From<&HealthCheck> for proto::HealthCheck {
    fn from(check: &HealthCheck) -> Self {
        let HealthCheck {
            protocol,
            path,
            port,
            interval,
            timeout,
            healthy_threshold,
            unhealthy_threshold,
            matcher,
        } = check;
        let range = |StatusRange { from, to }: &StatusRange| proto::StatusRange {
            from: u32::from(*from),
            to: u32::from(*to),
        };
        Self {
            protocol: proto::TargetProtocol::from(*protocol).into(),
            path: path.clone(),
            port: port.map(u32::from),
            interval_ms: milliseconds(*interval),
            timeout_ms: milliseconds(*timeout),
            healthy_threshold: u32::from(*healthy_threshold),
            unhealthy_threshold: u32::from(*unhealthy_threshold),
            matcher: matcher.iter().map(range).collect(),
        }
    }
}

impl From<&Target> for proto::Target {
    fn from(target: &Target) -> Self {
        let Target { id, address, port, zone, node, weight, drain } = target;
        Self {
            id: id.clone(),
            address: address.to_string(),
            port: u32::from(*port),
            zone: zone.clone(),
            node: node.clone(),
            weight: u32::from(*weight),
            drain_ms: drain.map(milliseconds),
        }
    }
}

impl From<FromProxy> for proto::FromProxy {
    fn from(message: FromProxy) -> Self {
        use proto::from_proxy::Message as Wire;
        let message = match message {
            FromProxy::Hello(Hello { applied, software }) => {
                Wire::Hello(proto::Hello { applied: applied.map(Into::into), software })
            }
            FromProxy::Ack(Ack { version, rejections }) => Wire::Ack(proto::Ack {
                version: Some(version.into()),
                rejections: rejections.into_iter().map(Into::into).collect(),
            }),
            FromProxy::Report(report) => Wire::Report(report.into()),
            FromProxy::Trust(Trust { authorities }) => Wire::Trust(proto::Trust {
                authorities: authorities.into_iter().map(|Fingerprint(bytes)| bytes.to_vec()).collect(),
            }),
        };
        Self { message: Some(message) }
    }
}

impl From<Rejection> for proto::Rejection {
    fn from(Rejection { kind, name, reason }: Rejection) -> Self {
        let kind = match kind {
            ResourceKind::Listener => proto::ResourceKind::Listener,
            ResourceKind::TargetGroup => proto::ResourceKind::TargetGroup,
        };
        Self { kind: kind.into(), name, reason }
    }
}

impl From<Report> for proto::Report {
    fn from(Report { version, targets, target_groups }: Report) -> Self {
        let group = |GroupReport { name, requests, no_target, latency }| proto::GroupReport {
            name,
            requests,
            no_target,
            latency,
        };
        Self {
            version: Some(version.into()),
            targets: targets.into_iter().map(Into::into).collect(),
            target_groups: target_groups.into_iter().map(group).collect(),
        }
    }
}

impl From<TargetReport> for proto::TargetReport {
    fn from(target: TargetReport) -> Self {
        let TargetReport { target_group, id, in_flight, completed, failed, health, reason, description } =
            target;
        let health = match health {
            Health::Initial => proto::Health::Initial,
            Health::Healthy => proto::Health::Healthy,
            Health::Unhealthy => proto::Health::Unhealthy,
        };
        let health = health.into();
        Self { target_group, id, in_flight, completed, failed, health, reason, description }
    }
}
