//! What a resource must fulfil beyond its types, wherever it comes from. The API server has refused most of this before;
//! a file has not, and the other side of a connection is not trusted.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::snapshot::{
    Action, Condition, FixedResponse, HealthCheck, Limits, Listener, ListenerProtocol, Redirect, Rule,
    RuleLimits, Target, TargetGroup,
};

/// The most rules a listener may have.
pub const MAX_RULES: usize = 1_000;
/// The most targets a group may have.
pub const MAX_TARGETS: usize = 5_000;
/// The longest pattern of a condition, in bytes.
pub const MAX_PATTERN: usize = 128;

/// A field that says what it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Which, as it is written in YAML, for instance `rules[3].action.redirect.statusCode`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    /// A problem with a field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same, seen from the object that holds the field.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

fn require(holds: bool, field: &str, problem: &str) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid::new(field, problem)) }
}

/// Checks a listener.
pub fn listener(listener: &Listener) -> Result<(), Invalid> {
    let Listener { port, protocol, allowed_sources: _, idle_timeout, limits, rules, default_action } =
        listener;
    require(*port > 0, "port", "must be from 1 to 65535")?;
    between(*idle_timeout, "idleTimeout", 1, 4_000)?;
    self::limits(limits).map_err(|invalid| invalid.within("limits"))?;
    require(rules.len() <= MAX_RULES, "rules", "must be at most 1000")?;
    let mut priorities = BTreeSet::new();
    for (index, item) in rules.iter().enumerate() {
        let field = format!("rules[{index}]");
        let unique = priorities.insert(item.priority);
        require(unique, &format!("{field}.priority"), "another rule has the same")?;
        rule(item).map_err(|invalid| invalid.within(&field))?;
    }
    action(default_action).map_err(|invalid| invalid.within("defaultAction"))?;
    let forwards_only = rules.is_empty() && matches!(default_action, Action::Forward { .. });
    require(
        *protocol == ListenerProtocol::Http || forwards_only,
        "protocol",
        "a TCP listener can only forward, without rules",
    )
}

fn limits(limits: &Limits) -> Result<(), Invalid> {
    let Limits {
        connections,
        connections_per_source,
        head_bytes,
        header_count,
        requests_per_connection,
        body_bytes,
    } = limits;
    require(*connections != Some(0), "connections", "must be at least 1")?;
    require(*connections_per_source != Some(0), "connectionsPerSource", "must be at least 1")?;
    let heads = 1_024..=Limits::MAX_HEAD_BYTES;
    require(heads.contains(head_bytes), "headBytes", "must be from 1024 to 65536")?;
    let headers = 1..=Limits::MAX_HEADER_COUNT;
    require(headers.contains(header_count), "headerCount", "must be from 1 to 256")?;
    require(*requests_per_connection > 0, "requestsPerConnection", "must be at least 1")?;
    body(*body_bytes)
}

fn body(bytes: Option<u64>) -> Result<(), Invalid> {
    require(bytes.is_none_or(|bytes| bytes <= 1 << 40), "bodyBytes", "must be from 0 to 1099511627776")
}

fn rule(rule: &Rule) -> Result<(), Invalid> {
    let Rule { priority, conditions, action: then, limits: RuleLimits { body_bytes } } = rule;
    require((1..=50_000).contains(priority), "priority", "must be from 1 to 50000")?;
    require(
        !conditions.is_empty(),
        "conditions",
        "must not be empty; what always holds belongs into defaultAction",
    )?;
    body(*body_bytes).map_err(|invalid| invalid.within("limits"))?;
    for (index, item) in conditions.iter().enumerate() {
        condition(item).map_err(|invalid| invalid.within(&format!("conditions[{index}]")))?;
    }
    action(then).map_err(|invalid| invalid.within("action"))
}

fn condition(condition: &Condition) -> Result<(), Invalid> {
    let patterns = |values: &[String], field: &str| {
        require(!values.is_empty(), field, "must not be empty")?;
        require(
            values.iter().all(|value| value.len() <= MAX_PATTERN),
            field,
            "must be of at most 128 characters each",
        )
    };
    match condition {
        Condition::Path { values } => patterns(values, "path.values"),
        Condition::Host { values } => patterns(values, "host.values"),
        Condition::Method { values } => patterns(values, "method.values"),
        Condition::Header { name, values } => {
            require(
                !name.is_empty() && name.bytes().all(is_token),
                "header.name",
                "is not the name of a header",
            )?;
            patterns(values, "header.values")
        }
        Condition::Query { pairs } => {
            let texts = pairs
                .iter()
                .flat_map(|pair| pair.key.iter().chain([&pair.value]))
                .cloned()
                .collect::<Vec<_>>();
            patterns(&texts, "query.pairs")
        }
        Condition::SourceIp { values } => require(!values.is_empty(), "sourceIp.values", "must not be empty"),
    }
}

fn action(action: &Action) -> Result<(), Invalid> {
    match action {
        Action::Forward { target_groups } => {
            require(!target_groups.is_empty(), "forward.targetGroups", "must not be empty")?;
            let in_range = target_groups.iter().all(|group| group.weight <= 999);
            require(in_range, "forward.targetGroups.weight", "must be from 0 to 999")
        }
        Action::Redirect(to) => redirect(to).map_err(|invalid| invalid.within("redirect")),
        Action::FixedResponse(response) => {
            fixed_response(response).map_err(|invalid| invalid.within("fixedResponse"))
        }
    }
}

fn redirect(redirect: &Redirect) -> Result<(), Invalid> {
    let Redirect { status_code, protocol, host, port, path, query } = redirect;
    require(matches!(status_code, 301 | 302), "statusCode", "must be 301 or 302")?;
    let known = matches!(protocol.as_str(), "HTTP" | "HTTPS" | "#{protocol}");
    require(known, "protocol", "must be HTTP, HTTPS or #{protocol}")?;
    require(!host.is_empty(), "host", "must not be empty; #{host} keeps the request's")?;
    let is_port = port == "#{port}" || port.parse::<u16>().is_ok_and(|port| port > 0);
    require(is_port, "port", "must be a number from 1 to 65535 or #{port}")?;
    require(path.starts_with('/'), "path", "must begin with a slash")?;
    for (field, text) in [("host", host), ("path", path), ("query", query)] {
        require(text.bytes().all(|byte| byte.is_ascii_graphic()), field, "must be ASCII without blanks")?;
    }
    Ok(())
}

fn fixed_response(response: &FixedResponse) -> Result<(), Invalid> {
    let FixedResponse { status_code, content_type, message_body } = response;
    require(matches!(status_code, 200..=299 | 400..=599), "statusCode", "must be 2XX, 4XX or 5XX")?;
    let printable = content_type.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    require(printable, "contentType", "must be printable ASCII")?;
    require(message_body.chars().count() <= 1_024, "messageBody", "must be of at most 1024 characters")
}

/// Checks what a group says of all its targets.
pub fn settings(group: &TargetGroup) -> Result<(), Invalid> {
    let TargetGroup { protocol: _, algorithm: _, health_check: check, targets: _ } = group;
    health_check(check).map_err(|invalid| invalid.within("healthCheck"))
}

/// Checks a group's targets.
pub fn targets(group: &TargetGroup) -> Result<(), Invalid> {
    require(group.targets.len() <= MAX_TARGETS, "targets", "must be at most 5000")?;
    let mut ids = BTreeSet::new();
    for (index, target) in group.targets.iter().enumerate() {
        let Target { id, address: _, port, zone: _, node: _, weight, drain: _ } = target;
        let field = |name: &str| format!("targets[{index}].{name}");
        require(!id.is_empty(), &field("id"), "must not be empty")?;
        require(ids.insert(id), &field("id"), "another target has the same")?;
        require(*port > 0, &field("port"), "must be from 1 to 65535")?;
        require((1..=100).contains(weight), &field("weight"), "must be from 1 to 100")?;
    }
    Ok(())
}

fn health_check(check: &HealthCheck) -> Result<(), Invalid> {
    let HealthCheck {
        protocol: _,
        path,
        port,
        interval,
        timeout,
        healthy_threshold,
        unhealthy_threshold,
        matcher,
    } = check;
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    require(is_path, "path", "must begin with a slash and be ASCII without blanks")?;
    require(*port != Some(0), "port", "must be from 1 to 65535")?;
    between(*interval, "interval", 1, 300)?;
    let in_range = (Duration::from_millis(100)..=Duration::from_secs(120)).contains(timeout);
    require(in_range, "timeout", "must be from 100ms to 120s")?;
    require(timeout <= interval, "timeout", "must not be longer than the interval")?;
    require((1..=10).contains(healthy_threshold), "healthyThreshold", "must be from 1 to 10")?;
    require((1..=10).contains(unhealthy_threshold), "unhealthyThreshold", "must be from 1 to 10")?;
    let ordered = matcher.iter().all(|range| range.from <= range.to && range.from >= 100 && range.to <= 999);
    require(!matcher.is_empty() && ordered, "matcher", "must be ranges of statuses from 100 to 999")
}

fn between(duration: Duration, field: &str, from: u64, to: u64) -> Result<(), Invalid> {
    let fits = (Duration::from_secs(from)..=Duration::from_secs(to)).contains(&duration);
    require(fits, field, &format!("must be from {from}s to {to}s"))
}

/// Whether a byte may be in the name of a header (RFC 9110).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
