//! Puts what was built into the cluster by server-side apply, and writes nothing when nothing changed.
//!
//! An object of a wanted name that belongs to somebody else is never touched.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, ValidationDirective};
use kube::core::Status;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::info;

use crate::error::{Error, request};
use crate::labels::MANAGER;
use crate::metrics::{Metrics, WriteOutcome};
use crate::object_key::ObjectKey;

/// A kind of object that the operator makes.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + DeserializeOwned
    + Serialize
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Serialize
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// What became of an object that was to be applied.
#[derive(Debug)]
pub enum Applied<K> {
    /// It is as wanted, and this is how it is.
    Done(Arc<K>),
    /// An object of that name exists that is not ours. It was left alone.
    Foreign(String),
    /// The API server will not have it. Trying the same again is of no use.
    Refused(Box<Status>),
}

/// Applies objects and remembers what it applied.
pub struct Applier {
    client: Client,
    metrics: Metrics,
    done: Mutex<HashMap<(String, ObjectKey), Done>>,
}

/// What was wanted when it was last applied, and what the cluster made of it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Done {
    wanted: u64,
    found: u64,
}

impl Applier {
    /// Without any memory.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, done: Mutex::default() }
    }

    /// The object of that name that `owner` owns, if any; an error of the second kind names a foreign one.
    pub async fn find<K: Child>(
        &self,
        owner: &OwnerReference,
        key: &ObjectKey,
        store: &Store<K>,
    ) -> Result<Result<Option<Arc<K>>, String>, Error> {
        let mut live = store.get(&ObjectRef::new(&key.name).within(&key.namespace));
        if live.is_none() {
            // It may lack our label, or be too new for the store.
            let api = self.api::<K>(key);
            live = request(|| describe::<K>("look for", key), api.get_opt(&key.name)).await?.map(Arc::new);
        }
        Ok(match live {
            Some(live) if !is_owned(&*live, owner) => Err(foreign(&*live, key)),
            live => Ok(live),
        })
    }

    /// Applies `wanted` unless nothing changed since that was last done.
    pub async fn apply<K: Child>(
        &self,
        owner: &OwnerReference,
        key: &ObjectKey,
        store: &Store<K>,
        wanted: &impl Serialize,
    ) -> Result<Applied<K>, Error> {
        let live = match self.find(owner, key, store).await? {
            Ok(live) => live,
            Err(foreign) => return Ok(Applied::Foreign(foreign)),
        };
        let wanted = serde_json::to_value(wanted).unwrap_or_default();
        let wanted_hash = hash(&wanted);
        if let Some(live) = live {
            let done = Done { wanted: wanted_hash, found: intent(&*live) };
            if self.done.lock().get(&(K::kind(&()).into_owned(), key.clone())) == Some(&done) {
                return Ok(Applied::Done(live));
            }
        }
        let applied = self.write::<K>(key, MANAGER, &wanted).await?;
        if let Applied::Done(object) = &applied {
            let done = Done { wanted: wanted_hash, found: intent(&**object) };
            self.done.lock().insert((K::kind(&()).into_owned(), key.clone()), done);
        }
        Ok(applied)
    }

    /// Applies `wanted` as `manager`, whatever was done before.
    pub async fn write<K: Child>(
        &self,
        key: &ObjectKey,
        manager: &str,
        wanted: &Value,
    ) -> Result<Applied<K>, Error> {
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(manager).force()
        };
        let api = self.api::<K>(key);
        let patch = Patch::Apply(wanted);
        let answer = request(|| describe::<K>("apply", key), api.patch(&key.name, &params, &patch)).await;
        self.metrics
            .wrote(&K::plural(&()), if answer.is_ok() { WriteOutcome::Done } else { WriteOutcome::Failed });
        match answer {
            Ok(object) => {
                info!(kind = %K::kind(&()), object = %key, manager, "applied");
                Ok(Applied::Done(Arc::new(object)))
            }
            Err(Error::Api { action, source }) => match *source {
                kube::Error::Api(mut status) if is_final(&status) => {
                    status.message = status.message.split_whitespace().collect::<Vec<_>>().join(" ");
                    Ok(Applied::Refused(status))
                }
                source => Err(Error::Api { action, source: Box::new(source) }),
            },
            Err(error) => Err(error),
        }
    }

    /// Deletes an object that is no longer wanted, if `owner` owns it.
    pub async fn remove<K: Child>(
        &self,
        owner: &OwnerReference,
        key: &ObjectKey,
        store: &Store<K>,
    ) -> Result<(), Error> {
        let Some(live) = store.get(&ObjectRef::new(&key.name).within(&key.namespace)) else { return Ok(()) };
        if !is_owned(&*live, owner) || live.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let preconditions = Preconditions { uid: live.meta().uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api = self.api::<K>(key);
        let answer = request(|| describe::<K>("delete", key), api.delete(&key.name, &params)).await;
        self.metrics
            .wrote(&K::plural(&()), if answer.is_ok() { WriteOutcome::Done } else { WriteOutcome::Failed });
        match answer {
            Err(error) if !error.is_not_found() => Err(error),
            _ => {
                info!(kind = %K::kind(&()), object = %key, "deleted: no longer wanted");
                Ok(())
            }
        }
    }

    fn api<K: Child>(&self, key: &ObjectKey) -> Api<K> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

/// Whether the object itself is wrong (and not the moment, the permissions or a quota). Fields that the schema does not
/// know, or of another type, and values that cannot be read, such as quantities, are answered with 500.
fn is_final(status: &Status) -> bool {
    const UNREADABLE: [&str; 2] = ["failed to create typed patch object", "failed to convert new object"];
    matches!(status.code, 400 | 413 | 422)
        || UNREADABLE.iter().any(|beginning| status.message.starts_with(beginning))
}

/// Whether `owner` controls the object.
pub fn is_owned(object: &impl Resource, owner: &OwnerReference) -> bool {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.any(|reference| reference.controller == Some(true) && reference.uid == owner.uid)
}

fn foreign<K: Child>(live: &K, key: &ObjectKey) -> String {
    let kind = K::kind(&());
    let mut owners = live.meta().owner_references.iter().flatten();
    let whose = owners.find(|owner| owner.controller == Some(true)).map_or_else(
        || "was not made by Evenkeel".to_owned(),
        |owner| format!("belongs to {} {}", owner.kind, owner.name),
    );
    format!("a {kind} named {} exists in this namespace and {whose}; rename one of the two", key.name)
}

fn describe<K: Child>(verb: &str, key: &ObjectKey) -> String {
    format!("{verb} {} {key}", K::kind(&()))
}

/// A hash of what an object is meant to be: everything but its status and its bookkeeping.
fn intent<K: Child>(object: &K) -> u64 {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for bookkeeping in ["managedFields", "resourceVersion", "generation"] {
                meta.remove(bookkeeping);
            }
        }
    }
    hash(&value)
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceAccount;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use prometheus_client::registry::Registry;
    use serde_json::json;

    use super::*;
    use crate::fake::{self, Log};
    use crate::tests::owner;

    const PATH: &str = "/api/v1/namespaces/default/serviceaccounts/a";

    fn applier(answer: impl Fn(&fake::Asked) -> (u16, Value) + Send + 'static) -> (Applier, Log) {
        let (client, log) = fake::client(answer);
        (Applier::new(client, Metrics::register(&mut Registry::default())), log)
    }

    fn account(uid: &str, version: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {
                "name": "a", "namespace": "default", "resourceVersion": version,
                "ownerReferences": [{ "apiVersion": "x/v1", "kind": "LoadBalancer", "name": "shop", "uid": uid, "controller": true }],
            },
        })
    }

    fn asked(log: &Log) -> Vec<String> {
        log.lock().iter().map(|asked| asked.what.clone()).collect()
    }

    #[tokio::test]
    async fn what_is_there_already_is_not_written_again() {
        let (applier, log) = applier(|asked| match asked.what.as_str() {
            what if what == format!("PATCH {PATH}") => (200, account("u", "7")),
            _ => fake::refusal(404, "NotFound", "not found"),
        });
        let (store, mut writer) = reflector::store::<ServiceAccount>();
        let (owner, key) = (owner("LoadBalancer", "shop"), ObjectKey::new("default", "a"));
        let wanted = json!({ "metadata": { "name": "a" } });
        applier.apply(&owner, &key, &store, &wanted).await.unwrap();
        assert_eq!(asked(&log), [format!("GET {PATH}"), format!("PATCH {PATH}")]);
        for parameter in ["fieldManager=evenkeel", "force=true", "fieldValidation=Strict"] {
            assert!(log.lock()[1].query.contains(parameter), "{parameter}");
        }

        // Its status and version changed, which is nobody's wish.
        writer.apply_watcher_event(&Event::Apply(serde_json::from_value(account("u", "9")).unwrap()));
        applier.apply(&owner, &key, &store, &wanted).await.unwrap();
        assert_eq!(asked(&log).len(), 2);

        // Somebody changed it by hand: it is put right.
        let mut edited = account("u", "10");
        edited["automountServiceAccountToken"] = true.into();
        writer.apply_watcher_event(&Event::Apply(serde_json::from_value(edited).unwrap()));
        applier.apply(&owner, &key, &store, &wanted).await.unwrap();
        assert_eq!(asked(&log).len(), 3);
    }

    #[tokio::test]
    async fn what_belongs_to_somebody_else_is_left_alone() {
        let (applier, log) = applier(|_| (200, account("another", "7")));
        let (store, _writer) = reflector::store::<ServiceAccount>();
        let (owner, key) = (owner("LoadBalancer", "shop"), ObjectKey::new("default", "a"));
        let applied = applier.apply(&owner, &key, &store, &json!({})).await.unwrap();
        let Applied::Foreign(message) = applied else { panic!("{applied:?}") };
        assert_eq!(
            message,
            "a ServiceAccount named a exists in this namespace and belongs to LoadBalancer shop; rename one of the two"
        );
        assert_eq!(asked(&log), [format!("GET {PATH}")]);
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_a_failure_is_not() {
        for (code, reason, message, is_final) in [
            (422, "Invalid", "no", true),
            (400, "BadRequest", "strict decoding error: unknown field", true),
            (500, "InternalError", "failed to create typed patch object (a): errors:\n  .spec: no", true),
            (500, "InternalError", "etcd is away", false),
            (403, "Forbidden", "exceeded quota", false),
            (409, "Conflict", "changed meanwhile", false),
        ] {
            let (applier, _log) = applier(move |asked| {
                let (code, reason, message) = if asked.what.starts_with("PATCH") {
                    (code, reason, message)
                } else {
                    (404, "NotFound", "no")
                };
                fake::refusal(code, reason, message)
            });
            let (store, _writer) = reflector::store::<ServiceAccount>();
            let (owner, key) = (owner("LoadBalancer", "shop"), ObjectKey::new("default", "a"));
            let applied = applier.apply(&owner, &key, &store, &json!({})).await;
            let refused = matches!(&applied, Ok(Applied::Refused(status)) if !status.message.contains('\n'));
            assert_eq!(refused, is_final, "{code} {message}: {applied:?}");
            assert_eq!(applied.is_err(), !is_final, "{code} {message}");
        }
    }

    #[tokio::test]
    async fn only_what_is_ours_is_deleted_and_only_that_very_object() {
        let (applier, log) =
            applier(|_| (200, json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })));
        let (store, mut writer) = reflector::store::<ServiceAccount>();
        let key = ObjectKey::new("default", "a");
        let mut live = account("u", "7");
        live["metadata"]["uid"] = "its-own".into();
        writer.apply_watcher_event(&Event::Apply(serde_json::from_value(live).unwrap()));
        let mut other = owner("LoadBalancer", "other");
        other.uid = "other".into();
        applier.remove(&other, &key, &store).await.unwrap();
        assert_eq!(asked(&log), [""; 0]);
        applier.remove(&owner("LoadBalancer", "shop"), &key, &store).await.unwrap();
        assert_eq!(asked(&log), [format!("DELETE {PATH}")]);
        assert_eq!(log.lock()[0].body.pointer("/preconditions/uid"), Some(&json!("its-own")));
    }
}
