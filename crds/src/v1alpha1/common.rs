//! What the three kinds share.

use serde::{Deserialize, Serialize};

use kube::core::Rule;
use schemars::{JsonSchema, Schema, json_schema};

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as StatusCondition;
pub use kube::core::Duration;

/// Group of all kinds.
pub const GROUP: &str = "evenkeel.dev";

/// Names that are used in labels and in the names of other objects: RFC 1123 labels.
pub(super) const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Statuses with conditions.
pub trait HasConditions {
    /// The conditions.
    fn conditions(&self) -> &[StatusCondition];
}

/// A reference to another object in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
}

/// A whole number of seconds as a duration.
pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from(std::time::Duration::from_secs(seconds))
}

/// The rule that a field holds a duration in a range; `example` is a good value of it.
pub(super) fn duration_between(field: &str, from: &str, to: &str, example: &str) -> Rule {
    let number = "^([0-9]{1,7}([.][0-9]{1,9})?(ns|us|µs|ms|s|m|h)){1,3}$";
    Rule::new(format!(
        "self.matches('{number}') && duration(self) >= duration('{from}') && duration(self) <= duration('{to}')"
    ))
    .message(format!("{field} is a duration from {from} to {to}, such as {example}").as_str())
}

/// The schema of from 1 to `most` networks in CIDR notation.
pub(super) fn networks(most: u32) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": most,
        "items": { "type": "string", "format": "cidr", "maxLength": 49 },
    })
}
