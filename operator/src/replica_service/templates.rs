//! Templates of ReplicaSets as the API server has them, with whatever a newer cluster knows. Client.

use std::collections::HashMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::Value;

use crate::error::{Error, request};
use crate::object_key::ObjectKey;

/// The Deployment controller's own label.
const HASH: &str = "pod-template-hash";

/// The templates that were put back in place, by ReplicaService: a ReplicaSet never changes its template.
#[derive(Debug, Default)]
pub struct Templates(Mutex<HashMap<ObjectKey, Restored>>);

#[derive(Debug)]
struct Restored {
    replica_set: String,
    template: Value,
}

impl Templates {
    /// The template of a ReplicaSet of a ReplicaService; none when there is no such ReplicaSet.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn of(
        &self,
        client: &Client,
        service: &ObjectKey,
        replica_set: &str,
    ) -> Result<Option<Value>, Error> {
        if let Some(known) = self.0.lock().get(service).filter(|known| known.replica_set == replica_set) {
            return Ok(Some(known.template.clone()));
        }
        let kind = ApiResource::erase::<ReplicaSet>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &service.namespace, &kind);
        let action = || format!("read ReplicaSet {}", service.sibling(replica_set));
        let found = request(action, api.get_opt(replica_set)).await?;
        let template = found.and_then(|mut set| set.data.pointer_mut("/spec/template").map(Value::take));
        let template = template.map(cleaned);
        if let Some(template) = &template {
            let restored = Restored { replica_set: replica_set.to_owned(), template: template.clone() };
            self.0.lock().insert(service.clone(), restored);
        }
        Ok(template)
    }

    /// Forgets what is not in place any more, and says whether anything was.
    pub fn forget(&self, service: &ObjectKey) -> bool {
        self.0.lock().remove(service).is_some()
    }
}

/// Without what the Deployment controller added, and without what is not set.
fn cleaned(mut template: Value) -> Value {
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    template
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake;

    #[tokio::test]
    async fn a_template_is_read_once_and_as_the_deployment_had_it() {
        let (client, log) = fake::client(|asked| match asked.what.as_str() {
            "GET /apis/apps/v1/namespaces/default/replicasets/api-1" => {
                let metadata =
                    json!({"creationTimestamp": null, "labels": {"app": "api", "pod-template-hash": "1"}});
                let template =
                    json!({"metadata": metadata, "spec": {"fieldOfANewerCluster": {"stays": true}}});
                let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "api-1"}, "spec": {"template": template}});
                (200, set)
            }
            _ => fake::refusal(404, "NotFound", "no"),
        });
        let (templates, api) = (Templates::default(), ObjectKey::new("default", "api"));
        let expected = json!({
            "metadata": {"labels": {"app": "api"}},
            "spec": {"fieldOfANewerCluster": {"stays": true}},
        });
        for _ in 0..2 {
            let template = templates.of(&client, &api, "api-1").await.unwrap();
            assert_eq!(template.as_ref(), Some(&expected));
        }
        assert_eq!(log.lock().len(), 1);
        assert_eq!(templates.of(&client, &api, "api-2").await.unwrap(), None);
        assert!(templates.forget(&api) && !templates.forget(&api));
    }
}
