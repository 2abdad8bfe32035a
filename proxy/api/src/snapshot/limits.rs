//! What a listener takes at most.

use serde::{Deserialize, Serialize};

/// What a listener takes at most. Where there is an option, none means no limit.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Client connections at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Of these, from one IPv4 address or one network of 64 bits of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_source: Option<u32>,
    /// Bytes of a request's head.
    pub head_bytes: u32,
    /// Header fields of a request.
    pub header_count: u32,
    /// Requests on one client connection.
    pub requests_per_connection: u32,
    /// Bytes of a request's body, for rules that do not say it themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
}

impl Limits {
    /// Longest head that can be asked for, in bytes, and the longest when nothing is said; as Application Load Balancers
    /// have it.
    pub const MAX_HEAD_BYTES: u32 = 64 * 1024;
    /// Most header fields that can be asked for, and the most when nothing is said.
    pub const MAX_HEADER_COUNT: u32 = 256;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_source: None,
            head_bytes: Self::MAX_HEAD_BYTES,
            header_count: Self::MAX_HEADER_COUNT,
            requests_per_connection: 10_000,
            body_bytes: None,
        }
    }
}

/// What requests that match a rule may have at most, where it is not what the listener says.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleLimits {
    /// Bytes of a request's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
}
