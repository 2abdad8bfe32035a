//! What a listener takes at most.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a listener takes at most. What is beyond is refused, and counted by its reason.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ListenerLimits {
    /// Client connections that each proxy has on this listener at the same time; further ones are closed, on an HTTP
    /// listener with 503. From 1 to 1000000. When absent, as many as the limit of open files allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<u32>,
    /// The same for the connections of one source: an IPv4 address, or a network of 64 bits of IPv6. Not for listeners
    /// whose clients share addresses, as behind a proxy or with `externalTrafficPolicy: Cluster`. From 1 to 1000000. No
    /// limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_source: Option<u32>,
    /// Bytes of a request's head, from its first line to its last header field; for HTTP/2 as the same head has in
    /// HTTP/1.1. More is answered 431; 414 when the first line alone has more than 16384. Only for HTTP. From 1024 to 65536.
    #[serde(default = "default_head_bytes")]
    #[schemars(range(min = 1024, max = 65536))]
    pub head_bytes: u32,
    /// Header fields of a request, the `Cookie` fields of HTTP/2 counted once. More is answered 431. Only for HTTP. From 1
    /// to 256.
    #[serde(default = "default_header_count")]
    #[schemars(range(min = 1, max = 256))]
    pub header_count: u32,
    /// Requests on one client connection: with the last one its client is told to open another (`Connection: close`,
    /// GOAWAY), so that connections spread over the proxies again. Only for HTTP. From 1 to 1000000000.
    #[serde(default = "default_requests_per_connection")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests_per_connection: u32,
    /// Bytes of a request's body, for rules that do not say it themselves. More is answered 413: at once where its length
    /// is announced, otherwise when it is passed, and a target may have got what came before. Only for HTTP. From 0 to
    /// 1099511627776. No limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_099_511_627_776_u64))]
    pub body_bytes: Option<u64>,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_source: None,
            head_bytes: default_head_bytes(),
            header_count: default_header_count(),
            requests_per_connection: default_requests_per_connection(),
            body_bytes: None,
        }
    }
}

/// What requests that match a rule may have at most.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RuleLimits {
    /// Bytes of a request's body, instead of what the listener says. From 0 to 1099511627776.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_099_511_627_776_u64))]
    pub body_bytes: Option<u64>,
}

fn default_head_bytes() -> u32 {
    65_536
}

fn default_header_count() -> u32 {
    256
}

fn default_requests_per_connection() -> u32 {
    10_000
}
