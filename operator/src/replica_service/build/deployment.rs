//! The replicas.
//!
//! Nothing in the pod template depends on the operator's version: any byte of it is a rollout.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};

use crate::labels::{self, LOAD_BALANCED, REPLICA_SERVICE, RESTARTED_AT, ROLLOUT};
use crate::object_key::ObjectKey;
use crate::replica_service::dereference::Found;
use crate::replica_service::rollout::Record;
use crate::replica_service::validate::Valid;

/// How long a replica goes on after it was told to stop, where its template says nothing: until no proxy sends to it.
const PRE_STOP_SECONDS: u64 = 5;
/// What a replica gets at least after that.
const GRACE_AFTER_SECONDS: u64 = 30;
/// Kubernetes' default.
const DEFAULT_GRACE_SECONDS: u64 = 30;

/// The Deployment of replicas of that template, without their number: that belongs to another field manager.
///
/// Old replicas are drained before the rollout gets on: what that may take at most is no lack of progress.
pub fn deployment(
    valid: &Valid,
    found: &Found,
    owner: &OwnerReference,
    record: &Record,
    template: Value,
) -> Value {
    let key = &valid.service.key;
    let progress_deadline = valid.progress_deadline + found.deregistration_delay.unwrap_or_default();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": labels::of(REPLICA_SERVICE, &key.name),
            "annotations": { ROLLOUT: json!(record).to_string() },
            "ownerReferences": [owner],
        },
        "spec": {
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": progress_deadline.as_secs(),
            "selector": { "matchLabels": labels::selector(REPLICA_SERVICE, &key.name) },
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": { "maxUnavailable": 0, "maxSurge": "25%" },
            },
            "template": template,
        },
    })
}

/// The number of replicas alone, as its manager applies it; of another Deployment by now the UID makes that fail.
pub fn scale(ObjectKey { namespace, name }: &ObjectKey, uid: Option<&str>, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "namespace": namespace, "uid": uid },
        "spec": { "replicas": replicas },
    })
}

/// The same with a number of replicas, for its creation.
pub fn with_replicas(mut deployment: Value, replicas: i32) -> Value {
    if let Some(spec) = deployment.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("replicas".into(), replicas.into());
    }
    deployment
}

/// The template that is asked for, with what every replica needs.
pub fn template(valid: &Valid, restarted_at: Option<&str>) -> Value {
    let mut template = valid.template.clone();
    let labels = labels::of(REPLICA_SERVICE, &valid.service.key.name);
    merge(&mut template, &["metadata", "labels"], labels);
    if let Some(time) = restarted_at {
        merge(&mut template, &["metadata", "annotations"], [(RESTARTED_AT.to_owned(), time.to_owned())]);
    }
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        pre_stop(spec);
        readiness_gate(spec);
    }
    template
}

/// Puts texts into the mapping at a path, which is made where it is missing.
fn merge(value: &mut Value, path: &[&str], texts: impl IntoIterator<Item = (String, String)>) {
    let mut place = value;
    for step in path {
        let Some(mapping) = mapping(place) else { return };
        place = mapping.entry(*step).or_insert(Value::Null);
    }
    if let Some(mapping) = mapping(place) {
        mapping.extend(texts.into_iter().map(|(name, text)| (name, Value::from(text))));
    }
}

fn mapping(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// Lets each container that does not say otherwise go on for a moment, and gives the pod the time for it.
fn pre_stop(spec: &mut Map<String, Value>) {
    let mut injected = false;
    for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(lifecycle) =
            mapping(container).map(|container| container.entry("lifecycle").or_insert(Value::Null))
        else {
            continue;
        };
        if let Some(lifecycle) = mapping(lifecycle).filter(|lifecycle| !lifecycle.contains_key("preStop")) {
            lifecycle.insert("preStop".into(), json!({ "sleep": { "seconds": PRE_STOP_SECONDS } }));
            injected = true;
        }
    }
    if injected {
        let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
        let grace = grace.unwrap_or(DEFAULT_GRACE_SECONDS).max(PRE_STOP_SECONDS + GRACE_AFTER_SECONDS);
        spec.insert("terminationGracePeriodSeconds".into(), grace.into());
    }
}

/// A replica is ready only once the load balancers let it serve. What is no list stays for the API server to refuse.
fn readiness_gate(spec: &mut Map<String, Value>) {
    let gates = spec.entry("readinessGates").or_insert(Value::Null);
    if gates.is_null() {
        *gates = json!([]);
    }
    let gate = json!({ "conditionType": LOAD_BALANCED });
    if let Some(gates) = gates.as_array_mut().filter(|gates| !gates.contains(&gate)) {
        gates.push(gate);
    }
}
