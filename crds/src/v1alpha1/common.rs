//! What the three kinds share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as StatusCondition;
pub use kube::core::Duration;

/// Group of all kinds.
pub const GROUP: &str = "evenkeel.dev";

/// A reference to another object in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the object.
    pub name: String,
}

/// A whole number of seconds as a duration.
pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from(std::time::Duration::from_secs(seconds))
}
