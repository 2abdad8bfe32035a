//! What listeners and rules take at most.

use evenkeel_crds::v1alpha1::{Listener, ListenerLimits, ListenerProtocol, Rule};
use evenkeel_proxy_api::snapshot::{Limits, RuleLimits};

use crate::validation::Problems;

/// Most client connections that can be asked for.
const MAX_CONNECTIONS: u32 = 1_000_000;
/// Most requests on a connection that can be asked for.
const MAX_REQUESTS: u32 = 1_000_000_000;
/// Longest body that can be asked for, in bytes.
const MAX_BODY: u64 = 1 << 40;

/// A listener's limits as proxies get them.
pub fn of_listener(problems: &mut Problems, field: &str, listener: &Listener) -> Limits {
    let ListenerLimits {
        connections,
        connections_per_source,
        head_bytes,
        header_count,
        requests_per_connection,
        body_bytes,
    } = listener.limits;
    for (name, value) in [("connections", connections), ("connectionsPerSource", connections_per_source)] {
        if let Some(value) = value {
            problems.range(format!("{field}.{name}"), value, 1..=MAX_CONNECTIONS);
        }
    }
    problems.range(format!("{field}.headBytes"), head_bytes, 1_024..=Limits::MAX_HEAD_BYTES);
    problems.range(format!("{field}.headerCount"), header_count, 1..=Limits::MAX_HEADER_COUNT);
    problems.range(format!("{field}.requestsPerConnection"), requests_per_connection, 1..=MAX_REQUESTS);
    problems.require(
        listener.protocol != ListenerProtocol::TCP || body_bytes.is_none(),
        format!("{field}.bodyBytes"),
        "a TCP listener has no requests; leave it out",
    );
    body(problems, field, body_bytes);
    Limits {
        connections,
        connections_per_source,
        head_bytes,
        header_count,
        requests_per_connection,
        body_bytes,
    }
}

/// A rule's limits as proxies get them.
pub fn of_rule(problems: &mut Problems, field: &str, rule: &Rule) -> RuleLimits {
    let body_bytes = rule.limits.and_then(|limits| limits.body_bytes);
    body(problems, field, body_bytes);
    RuleLimits { body_bytes }
}

fn body(problems: &mut Problems, field: &str, bytes: Option<u64>) {
    if let Some(bytes) = bytes {
        problems.range(format!("{field}.bodyBytes"), bytes, 0..=MAX_BODY);
    }
}
