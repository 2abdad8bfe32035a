//! What tests of several modules share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// A reference to an owner of that kind and name.
pub fn owner(kind: &str, name: &str) -> OwnerReference {
    OwnerReference {
        api_version: "evenkeel.dev/v1alpha1".into(),
        kind: kind.into(),
        name: name.into(),
        uid: "u".into(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
