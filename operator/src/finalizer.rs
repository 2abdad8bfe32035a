//! Finalizers: what must happen before an object goes.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::{Error, request};
use crate::labels::MANAGER;
use crate::object_key::key;

/// Adds or removes a finalizer where `wanted` and the object differ. None is added to an object that is being deleted.
pub async fn ensure<K>(client: &Client, object: &K, finalizer: &str, wanted: bool) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: DeserializeOwned + Clone + std::fmt::Debug,
{
    let present = object.finalizers().iter().any(|present| present == finalizer);
    if present == wanted || (wanted && object.meta().deletion_timestamp.is_some()) {
        return Ok(());
    }
    let key = key(object);
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "uid": object.meta().uid,
            "finalizers": if wanted { vec![finalizer] } else { Vec::new() },
        },
    });
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let params = PatchParams::apply(MANAGER).force();
    let action = || format!("change the finalizers of {} {key}", K::kind(&()));
    match request(action, api.patch(&key.name, &params, &Patch::Apply(&body))).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
