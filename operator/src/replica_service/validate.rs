//! Pure: a ReplicaService becomes a valid one, or says what is wrong with it. No client.
//!
//! The pod template stays raw JSON, so that fields of a newer cluster survive; only what is read or changed here is
//! looked at. The rest is checked by the API server when the Deployment is applied.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_crds::v1alpha1::{Isolation, Policy, ReplicaService, Rollback};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use crate::labels;
use crate::object_key::ObjectKey;
use crate::registry::{ValidPolicy, ValidReplicaService};
use crate::validation::{Problems, seconds};

/// A ReplicaService that holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// What snapshots and scaling must know.
    pub service: ValidReplicaService,
    /// The pods, as they were asked for.
    pub template: Value,
    /// Labels of the pods, as they were asked for.
    pub labels: BTreeMap<String, String>,
    /// Only load balancers and those in `allow_from` may connect.
    pub isolated: bool,
    /// Who else may connect.
    pub allow_from: Vec<NetworkPolicyPeer>,
    /// A rollout without progress for so long has failed.
    pub progress_deadline: Duration,
    /// A template that fails gives way to the last good one.
    pub rolls_back: bool,
    /// Whether the replicas are to be replaced although their template is the same.
    pub restart: Restart,
}

/// What the annotation says with which replicas are restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// There is none.
    Unasked,
    /// Those that are older than this time are to be replaced.
    At(String),
    /// No time.
    Unreadable(String),
}

impl Restart {
    fn of(object: &ReplicaService) -> Self {
        match object.annotations().get(labels::RESTARTED_AT) {
            None => Self::Unasked,
            Some(time) if time.parse::<Timestamp>().is_ok() => Self::At(time.clone()),
            Some(text) => Self::Unreadable(text.clone()),
        }
    }
}

/// Checks everything that can be said without looking at other objects.
pub fn validate(object: &ReplicaService) -> Result<Valid, Problems> {
    let mut problems = Problems::default();
    let spec = &object.spec;
    let progress_deadline = problems.duration(
        "spec.rollout.progressDeadline",
        spec.rollout.progress_deadline,
        seconds(10)..=seconds(86_400),
    );
    problems.range("spec.network.allowFrom (how many)", spec.network.allow_from.len(), 0..=20);
    let labels = template(&mut problems, object);
    let service = service(&mut problems, object);
    problems.check(Valid {
        service,
        template: spec.template.clone(),
        labels,
        isolated: spec.network.isolation == Isolation::Balancers,
        allow_from: spec.network.allow_from.clone(),
        progress_deadline,
        rolls_back: spec.rollout.rollback == Rollback::Automatic,
        restart: Restart::of(object),
    })
}

fn service(problems: &mut Problems, object: &ReplicaService) -> ValidReplicaService {
    let scaling = &object.spec.scaling;
    let hour = || seconds(0)..=seconds(3600);
    problems.range("spec.scaling.min", scaling.min, 1..=1000);
    problems.range("spec.scaling.max", scaling.max, 1..=1000);
    problems.require(
        scaling.min <= scaling.max,
        "spec.scaling.min",
        format!("{} is more than spec.scaling.max, {}", scaling.min, scaling.max),
    );
    let out =
        problems.duration("spec.scaling.scaleOut.stabilization", scaling.scale_out.stabilization, hour());
    let in_ = problems.duration("spec.scaling.scaleIn.stabilization", scaling.scale_in.stabilization, hour());
    let warmup = problems.duration("spec.scaling.warmup", scaling.warmup, hour());
    ValidReplicaService {
        key: ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any()),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        min: scaling.min,
        max: scaling.max,
        desired: scaling.desired,
        paused: scaling.paused,
        policies: policies(problems, &scaling.policies),
        scale_out_stabilization: out,
        scale_in_stabilization: in_,
        warmup,
        containers_without_cpu_request: without_cpu_request(&object.spec.template),
        deleting: object.meta().deletion_timestamp.is_some(),
    }
}

fn policies(problems: &mut Problems, policies: &[Policy]) -> Vec<ValidPolicy> {
    problems.unique("spec.scaling.policies.name", policies.iter().map(|policy| &policy.name));
    for policy in policies {
        let field = format!("spec.scaling.policies[{}].targetTracking.targetPercent", policy.name);
        problems.range(field, policy.target_tracking.target_percent, 1..=1000);
    }
    let policies = policies.iter();
    policies
        .map(|policy| ValidPolicy {
            name: policy.name.clone(),
            cpu_target_percent: policy.target_tracking.target_percent,
        })
        .collect()
}

/// Checks what is relied upon, and returns the labels.
fn template(problems: &mut Problems, object: &ReplicaService) -> BTreeMap<String, String> {
    let template = &object.spec.template;
    let field = "spec.template";
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    problems.require(
        containers.is_some_and(|containers| !containers.is_empty()),
        format!("{field}.spec.containers"),
        "give at least one container",
    );
    let named = |container: &Value| container.get("name").is_some_and(Value::is_string);
    problems.require(
        containers.is_none_or(|containers| containers.iter().all(named)),
        format!("{field}.spec.containers"),
        "each container needs a name",
    );
    let policy = template.pointer("/spec/restartPolicy").and_then(Value::as_str);
    problems.require(
        policy.is_none_or(|policy| policy == "Always"),
        format!("{field}.spec.restartPolicy"),
        "replicas run until they are removed; leave it out or use Always",
    );
    for pointer in ["/metadata", "/metadata/labels", "/metadata/annotations"] {
        let fits = template.pointer(pointer).is_none_or(|value| value.is_object() || value.is_null());
        problems.require(fits, format!("{field}{}", pointer.replace('/', ".")), "this must be a mapping");
    }
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object);
    let labels: BTreeMap<String, String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    let ours = labels.get(labels::REPLICA_SERVICE);
    problems.require(
        ours.is_none_or(|name| *name == object.name_any()),
        format!("{field}.metadata.labels"),
        format!("{} is set by Evenkeel; leave it out", labels::REPLICA_SERVICE),
    );
    labels
}

/// Containers whose CPU use cannot be put in relation to a request, unless the pod as a whole has one.
fn without_cpu_request(template: &Value) -> Vec<String> {
    if template.pointer("/spec/resources/requests/cpu").is_some() {
        return Vec::new();
    }
    let list = |pointer: &str| template.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    // An init container that always restarts is a sidecar: it runs beside the others.
    let sidecars = list("/spec/initContainers")
        .filter(|container| container.get("restartPolicy").and_then(Value::as_str) == Some("Always"));
    let containers = list("/spec/containers").chain(sidecars);
    // A limit without a request is a request, too.
    let requests = |container: &Value| {
        ["/resources/requests/cpu", "/resources/limits/cpu"]
            .iter()
            .any(|pointer| container.pointer(pointer).is_some_and(|value| !value.is_null()))
    };
    let without = containers.filter(|container| !requests(container));
    without.filter_map(|container| Some(container.get("name")?.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(change: impl FnOnce(&mut Value)) -> ReplicaService {
        let mut object = json!({
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "ReplicaService",
            "metadata": { "name": "api", "namespace": "default", "uid": "u", "generation": 2 },
            "spec": {
                "template": { "spec": { "containers": [{ "name": "web", "image": "web:1" }] } },
                "scaling": { "min": 2, "max": 10 },
            },
        });
        change(&mut object);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn each_contradiction_is_named_with_its_field() {
        type Case = (Box<dyn FnOnce(&mut Value)>, &'static str);
        let set = |pointer: &'static str, value: Value| {
            move |object: &mut Value| *object.pointer_mut(pointer).unwrap() = value
        };
        let cases: Vec<Case> = vec![
            (
                Box::new(set("/spec/scaling", json!({ "min": 0, "max": 1 }))),
                "spec.scaling.min: 0 is not from 1 to 1000",
            ),
            (
                Box::new(set("/spec/scaling", json!({ "min": 3, "max": 2 }))),
                "spec.scaling.min: 3 is more than",
            ),
            (Box::new(set("/spec/scaling", json!({ "min": 1, "max": 1001 }))), "spec.scaling.max: 1001"),
            (
                Box::new(set("/spec/scaling", json!({ "min": 1, "max": 2, "warmup": "2h" }))),
                "spec.scaling.warmup: ",
            ),
            (
                Box::new(set(
                    "/spec/scaling",
                    json!({ "min": 1, "max": 2, "scaleIn": { "stabilization": "-1s" } }),
                )),
                "spec.scaling.scaleIn.stabilization: ",
            ),
            (
                Box::new(set(
                    "/spec/scaling",
                    json!({ "min": 1, "max": 2, "policies": [
                    { "name": "cpu", "targetTracking": { "metric": "CPUUtilization", "targetPercent": 0 } },
                ] }),
                )),
                "spec.scaling.policies[cpu].targetTracking.targetPercent: 0",
            ),
            (
                Box::new(set("/spec/template", json!({}))),
                "spec.template.spec.containers: give at least one container",
            ),
            (
                Box::new(set("/spec/template", json!({ "spec": { "containers": [{}] } }))),
                "each container needs a name",
            ),
            (
                Box::new(set("/spec/template/spec", json!({ "restartPolicy": "Never" }))),
                "spec.template.spec.restartPolicy",
            ),
            (
                Box::new(set("/spec/template", json!({ "metadata": { "labels": [] }, "spec": {} }))),
                "spec.template.metadata.labels: this must be a mapping",
            ),
            (
                Box::new(set(
                    "/spec/template",
                    json!({ "metadata": { "labels": { labels::REPLICA_SERVICE: "x" } } }),
                )),
                "is set by Evenkeel; leave it out",
            ),
            (
                Box::new(|object| object["spec"]["rollout"] = json!({ "progressDeadline": "1s" })),
                "spec.rollout.progressDeadline: ",
            ),
        ];
        for (change, sentence) in cases {
            let problems = validate(&service(change)).expect_err(sentence);
            assert!(problems.message().contains(sentence), "{}\nlacks\n{sentence}", problems.message());
        }
    }

    #[test]
    fn containers_without_a_cpu_request_are_named() {
        let web = |resources: Value| json!({ "name": "web", "resources": resources });
        for (spec, missing) in [
            (json!({ "containers": [web(json!({}))] }), vec!["web"]),
            (json!({ "containers": [web(json!({ "requests": { "cpu": "1" } }))] }), vec![]),
            (json!({ "containers": [web(json!({ "limits": { "cpu": 1 } }))] }), vec![]),
            (json!({ "containers": [web(json!({}))], "resources": { "requests": { "cpu": "1" } } }), vec![]),
            (
                json!({
                    "containers": [web(json!({ "requests": { "cpu": "1" } }))],
                    "initContainers": [{ "name": "setup" }, { "name": "mesh", "restartPolicy": "Always" }],
                }),
                vec!["mesh"],
            ),
        ] {
            let object = service(|object| object["spec"]["template"]["spec"] = spec.clone());
            let valid = validate(&object).unwrap();
            assert_eq!(valid.service.containers_without_cpu_request, missing, "{spec}");
        }
    }

    #[test]
    fn a_restart_is_asked_for_with_a_time() {
        let restart = |text: &str| {
            let annotations = json!({ labels::RESTARTED_AT: text });
            validate(&service(|object| object["metadata"]["annotations"] = annotations)).unwrap().restart
        };
        for time in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00+02:00", "2026-01-01T00:00:00.5-11:30"] {
            assert_eq!(restart(time), Restart::At(time.into()));
        }
        for text in
            ["", "now", "true", "2026-01-01", "2026-01-01T00:00:00", "1767225600", "2026-13-01T00:00:00Z"]
        {
            assert_eq!(restart(text), Restart::Unreadable(text.into()));
        }
        assert_eq!(validate(&service(|_| {})).unwrap().restart, Restart::Unasked);
    }

    #[test]
    fn the_number_that_was_asked_for_is_kept_as_it_is() {
        let valid = validate(&service(|object| object["spec"]["scaling"]["desired"] = json!(99))).unwrap();
        assert_eq!(valid.service.desired, Some(99));
        assert!(valid.isolated, "isolation is the default");
    }
}
