//! Wire → domain.

use std::str::FromStr;
use std::time::Duration;

use crate::proto;
use crate::report::{
    Ack, FromProxy, GroupReport, Health, Hello, LATENCY_BOUNDS, Rejection, Report, ResourceKind, TargetReport,
};
use crate::snapshot::{
    Action, Algorithm, Condition, FixedResponse, HealthCheck, Limits, Listener, ListenerProtocol, QueryPair,
    Redirect, Rule, RuleLimits, StatusRange, Target, TargetGroup, TargetProtocol, Version,
    WeightedTargetGroup,
};
use crate::trust::{self, Fingerprint, Trust};
use crate::validate::Invalid;

type Decoded<T> = Result<T, Invalid>;

/// A listener as it was received, without its name.
pub fn listener(message: proto::Listener) -> Decoded<Listener> {
    let protocol = message.protocol();
    let proto::Listener {
        name: _,
        port,
        protocol: _,
        allowed_sources,
        idle_timeout_ms,
        rules,
        default_action,
        limits,
    } = message;
    Ok(Listener {
        port: small(port, "port")?,
        protocol: match protocol {
            proto::ListenerProtocol::Http => ListenerProtocol::Http,
            proto::ListenerProtocol::Tcp => ListenerProtocol::Tcp,
            proto::ListenerProtocol::Unspecified => return Err(unknown("protocol")),
        },
        allowed_sources: all(allowed_sources, "allowedSources", |text| parse(&text))?,
        idle_timeout: Duration::from_millis(idle_timeout_ms),
        limits: limits.map(Into::into).unwrap_or_default(),
        rules: all(rules, "rules", rule)?,
        default_action: within("defaultAction", required(default_action).and_then(action))?,
    })
}

/// A target group as it was received, without its name.
pub fn target_group(message: proto::TargetGroup) -> Decoded<TargetGroup> {
    let (protocol, algorithm) = (message.protocol(), message.algorithm());
    let proto::TargetGroup { name: _, protocol: _, algorithm: _, health_check, targets } = message;
    Ok(TargetGroup {
        protocol: within("protocol", target_protocol(protocol))?,
        algorithm: match algorithm {
            proto::Algorithm::RoundRobin => Algorithm::RoundRobin,
            proto::Algorithm::LeastRequest => Algorithm::LeastRequest,
            proto::Algorithm::Unspecified => return Err(unknown("algorithm")),
        },
        health_check: within("healthCheck", required(health_check).and_then(self::health_check))?,
        targets: all(targets, "targets", target)?,
    })
}

/// Says of an error where it is; the innermost has no name of its own.
fn within<T>(field: &str, result: Decoded<T>) -> Decoded<T> {
    result.map_err(|invalid| {
        if invalid.field.is_empty() { Invalid::new(field, invalid.problem) } else { invalid.within(field) }
    })
}

fn unknown(field: &str) -> Invalid {
    Invalid::new(field, "is missing or of a kind that this version does not know")
}

fn required<T>(value: Option<T>) -> Decoded<T> {
    value.ok_or_else(|| unknown(""))
}

fn small(value: u32, field: &str) -> Decoded<u16> {
    u16::try_from(value).map_err(|_| Invalid::new(field, format!("{value} is more than 65535")))
}

fn parse<T: FromStr>(text: &str) -> Decoded<T> {
    text.parse().map_err(|_| Invalid::new("", format!("{text:?} is not an address or network")))
}

fn all<A, B>(items: Vec<A>, field: &str, convert: impl Fn(A) -> Decoded<B>) -> Decoded<Vec<B>> {
    let convert = |(index, item)| within(&format!("{field}[{index}]"), convert(item));
    items.into_iter().enumerate().map(convert).collect()
}

fn target_protocol(protocol: proto::TargetProtocol) -> Decoded<TargetProtocol> {
    match protocol {
        proto::TargetProtocol::Http => Ok(TargetProtocol::Http),
        proto::TargetProtocol::Tcp => Ok(TargetProtocol::Tcp),
        proto::TargetProtocol::Unspecified => Err(unknown("")),
    }
}

fn rule(proto::Rule { priority, conditions, action: then, body_bytes }: proto::Rule) -> Decoded<Rule> {
    let conditions = all(conditions, "conditions", condition)?;
    let action = within("action", required(then).and_then(action))?;
    Ok(Rule { priority, conditions, action, limits: RuleLimits { body_bytes } })
}

impl From<proto::Limits> for Limits {
    fn from(message: proto::Limits) -> Self {
        let proto::Limits {
            connections,
            connections_per_source,
            head_bytes,
            header_count,
            requests_per_connection,
            body_bytes,
        } = message;
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

fn condition(message: proto::Condition) -> Decoded<Condition> {
    use proto::condition::Condition as Wire;
    Ok(match required(message.condition)? {
        Wire::Path(proto::Patterns { values }) => Condition::Path { values },
        Wire::Host(proto::Patterns { values }) => Condition::Host { values },
        Wire::Header(proto::HeaderPatterns { name, values }) => Condition::Header { name, values },
        Wire::Method(proto::Patterns { values }) => Condition::Method { values },
        Wire::Query(proto::QueryPairs { pairs }) => {
            let pair = |proto::QueryPair { key, value }| QueryPair { key, value };
            Condition::Query { pairs: pairs.into_iter().map(pair).collect() }
        }
        Wire::SourceIp(proto::Networks { values }) => {
            Condition::SourceIp { values: all(values, "sourceIp.values", |text| parse(&text))? }
        }
    })
}

fn action(message: proto::Action) -> Decoded<Action> {
    use proto::action::Action as Wire;
    let weighted = |proto::WeightedTargetGroup { name, weight }| {
        Ok(WeightedTargetGroup { name, weight: small(weight, "weight")? })
    };
    Ok(match required(message.action)? {
        Wire::Forward(proto::Forward { target_groups }) => {
            Action::Forward { target_groups: all(target_groups, "forward.targetGroups", weighted)? }
        }
        Wire::Redirect(proto::Redirect { status_code, protocol, host, port, path, query }) => {
            let status_code = small(status_code, "redirect.statusCode")?;
            Action::Redirect(Redirect { status_code, protocol, host, port, path, query })
        }
        Wire::FixedResponse(proto::FixedResponse { status_code, content_type, message_body }) => {
            let status_code = small(status_code, "fixedResponse.statusCode")?;
            Action::FixedResponse(FixedResponse { status_code, content_type, message_body })
        }
    })
}

fn health_check(message: proto::HealthCheck) -> Decoded<HealthCheck> {
    let protocol = within("protocol", target_protocol(message.protocol()))?;
    let range = |proto::StatusRange { from, to }| {
        Ok(StatusRange { from: small(from, "from")?, to: small(to, "to")? })
    };
    Ok(HealthCheck {
        protocol,
        path: message.path,
        port: message.port.map(|port| small(port, "port")).transpose()?,
        interval: Duration::from_millis(message.interval_ms),
        timeout: Duration::from_millis(message.timeout_ms),
        healthy_threshold: small(message.healthy_threshold, "healthyThreshold")?,
        unhealthy_threshold: small(message.unhealthy_threshold, "unhealthyThreshold")?,
        matcher: all(message.matcher, "matcher", range)?,
    })
}

fn target(message: proto::Target) -> Decoded<Target> {
    let proto::Target { id, address, port, zone, node, weight, drain_ms } = message;
    Ok(Target {
        id,
        address: within("address", parse(&address))?,
        port: small(port, "port")?,
        zone,
        node,
        weight: small(weight, "weight")?,
        drain: drain_ms.map(Duration::from_millis),
    })
}

impl From<proto::Version> for Version {
    fn from(proto::Version { epoch, counter }: proto::Version) -> Self {
        Self { epoch, counter }
    }
}

impl TryFrom<proto::FromProxy> for FromProxy {
    type Error = Invalid;

    fn try_from(message: proto::FromProxy) -> Decoded<Self> {
        use proto::from_proxy::Message as Wire;
        Ok(match message.message.ok_or_else(|| unknown("message"))? {
            Wire::Hello(proto::Hello { applied, software }) => {
                Self::Hello(Hello { applied: applied.map(Into::into), software })
            }
            Wire::Ack(ack) => Self::Ack(within("ack", ack.try_into())?),
            Wire::Report(report) => Self::Report(within("report", report.try_into())?),
            Wire::Trust(trust) => Self::Trust(within("trust", trust.try_into())?),
        })
    }
}

impl TryFrom<proto::Ack> for Ack {
    type Error = Invalid;

    fn try_from(proto::Ack { version, rejections }: proto::Ack) -> Decoded<Self> {
        let version = within("version", required(version))?.into();
        Ok(Self { version, rejections: all(rejections, "rejections", rejection)? })
    }
}

fn rejection(message: proto::Rejection) -> Decoded<Rejection> {
    let kind = match message.kind() {
        proto::ResourceKind::Listener => ResourceKind::Listener,
        proto::ResourceKind::TargetGroup => ResourceKind::TargetGroup,
        proto::ResourceKind::Unspecified => return Err(unknown("kind")),
    };
    Ok(Rejection { kind, name: message.name, reason: message.reason })
}

impl TryFrom<proto::Report> for Report {
    type Error = Invalid;

    fn try_from(proto::Report { version, targets, target_groups }: proto::Report) -> Decoded<Self> {
        Ok(Self {
            version: within("version", required(version))?.into(),
            targets: all(targets, "targets", target_report)?,
            target_groups: all(target_groups, "targetGroups", group_report)?,
        })
    }
}

impl TryFrom<proto::Trust> for Trust {
    type Error = Invalid;

    fn try_from(proto::Trust { authorities }: proto::Trust) -> Decoded<Self> {
        if authorities.len() > trust::LIMIT {
            let problem = format!("has {} fingerprints, more than {}", authorities.len(), trust::LIMIT);
            return Err(Invalid::new("authorities", problem));
        }
        let fingerprint = |bytes: Vec<u8>| {
            let length = bytes.len();
            let sum = bytes.try_into().map_err(|_| Invalid::new("", format!("has {length} bytes, not 32")));
            sum.map(Fingerprint)
        };
        Ok(Self { authorities: all(authorities, "authorities", fingerprint)?.into_iter().collect() })
    }
}

fn target_report(message: proto::TargetReport) -> Decoded<TargetReport> {
    let health = match message.health() {
        proto::Health::Initial => Health::Initial,
        proto::Health::Healthy => Health::Healthy,
        proto::Health::Unhealthy => Health::Unhealthy,
        proto::Health::Unspecified => return Err(unknown("health")),
    };
    let proto::TargetReport {
        target_group,
        id,
        in_flight,
        completed,
        failed,
        health: _,
        reason,
        description,
    } = message;
    Ok(TargetReport { target_group, id, in_flight, completed, failed, health, reason, description })
}

fn group_report(message: proto::GroupReport) -> Decoded<GroupReport> {
    let proto::GroupReport { name, requests, no_target, latency } = message;
    if latency.len() != LATENCY_BOUNDS.len() + 1 {
        return Err(Invalid::new(
            "latency",
            format!("has {} counts; {} are known", latency.len(), LATENCY_BOUNDS.len() + 1),
        ));
    }
    Ok(GroupReport { name, requests, no_target, latency })
}

#[cfg(test)]
mod tests;
