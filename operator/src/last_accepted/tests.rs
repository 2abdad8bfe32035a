use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup, Targets};

use super::*;
use crate::fake::{self, Asked, Log};
use crate::registry::ValidTargetGroup;
use crate::target_group::validate::validate;
use crate::{load_balancer, replica_service};

const PATH: &str = "PATCH /apis/evenkeel.dev/v1alpha1/namespaces/default/targetgroups/api";

/// A group whose checks come every so many seconds, of which from 1 to 300 are valid.
fn group(generation: i64, interval: u64, annotation: Option<&str>) -> TargetGroup {
    let mut group: TargetGroup = object("TargetGroup", generation, &spec(interval));
    if let Some(text) = annotation {
        group.metadata.annotations = Some([(LAST_ACCEPTED.to_owned(), text.to_owned())].into());
    }
    group
}

fn spec(interval: u64) -> Value {
    json!({
        "port": 8080,
        "targets": { "replicaService": { "name": "api" } },
        "healthCheck": { "interval": format!("{interval}s"), "timeout": "1s" },
    })
}

fn object<K: DeserializeOwned>(kind: &str, generation: i64, spec: &Value) -> K {
    serde_json::from_value(json!({
        "apiVersion": "evenkeel.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": "api", "namespace": "default", "uid": "u", "generation": generation },
        "spec": spec,
    }))
    .unwrap()
}

fn version(generation: i64, interval: u64) -> Version {
    Version { generation, spec: spec(interval) }
}

/// The generation and the interval in force.
fn found(checked: &Checked<ValidTargetGroup>) -> Option<(i64, u64)> {
    in_force(checked).map(|group| (group.generation, group.health_check.interval.as_secs()))
}

fn api_server(code: u16) -> (Client, Log) {
    fake::client(move |_: &Asked| match code {
        200 => (
            200,
            json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": { "name": "api" } }),
        ),
        404 => fake::refusal(404, "NotFound", "gone"),
        code => fake::refusal(code, "Refused", "no"),
    })
}

/// What the annotation was set to, by request.
fn written(log: &Log) -> Vec<Value> {
    let annotation = |asked: &Asked| {
        assert_eq!(asked.what, PATH);
        assert_eq!(asked.query, "&fieldManager=evenkeel");
        assert_eq!(asked.body["metadata"]["uid"], "u");
        asked.body["metadata"]["annotations"][LAST_ACCEPTED].clone()
    };
    log.lock().iter().map(annotation).collect()
}

#[test]
fn the_version_before_is_in_force_while_the_object_is_invalid() {
    let versions = Versions::default();
    assert_eq!(found(&versions.check(&group(1, 5, None), validate)), Some((1, 5)));
    assert_eq!(found(&versions.check(&group(2, 0, None), validate)), Some((1, 5)));
    assert_eq!(found(&versions.check(&group(3, 301, None), validate)), Some((1, 5)));
    assert_eq!(found(&versions.check(&group(4, 7, None), validate)), Some((4, 7)));
    assert_eq!(found(&versions.check(&group(5, 0, None), validate)), Some((4, 7)));
}

#[test]
fn an_object_that_is_gone_or_has_another_uid_has_no_version_before() {
    let versions = Versions::default();
    let invalid = group(2, 0, None);
    versions.check(&group(1, 5, None), validate).unwrap();
    let mut namesake = invalid.clone();
    namesake.metadata.uid = Some("another".into());
    assert_eq!(found(&versions.check(&namesake, validate)), None);
    assert_eq!(found(&versions.check(&invalid, validate)), Some((1, 5)));
    versions.forget::<TargetGroup>(&key(&invalid));
    assert_eq!(found(&versions.check(&invalid, validate)), None);
}

#[test]
fn a_new_leader_believes_only_a_version_that_is_valid_itself() {
    let text = |generation, interval| json!(version(generation, interval)).to_string();
    for (annotation, expected) in [
        (text(1, 5), Some((1, 5))),
        (text(9, 5), Some((2, 5))), // from a backup: the object has not seen so many generations
        (text(1, 0), None),
        (json!({ "generation": 1, "spec": { "port": [] } }).to_string(), None),
        (json!({ "generation": 1 }).to_string(), None),
        ("gibberish".into(), None),
    ] {
        let versions = Versions::default();
        let checked = versions.check(&group(2, 0, Some(&annotation)), validate);
        assert_eq!(found(&checked), expected, "{annotation}");
    }
}

#[test]
fn what_a_leader_accepted_itself_counts_more_than_the_annotation() {
    let versions = Versions::default();
    versions.check(&group(2, 7, None), validate).unwrap();
    let old = json!(version(1, 5)).to_string();
    assert_eq!(found(&versions.check(&group(3, 0, Some(&old)), validate)), Some((2, 7)));
}

#[test]
fn an_object_carries_the_version_before_only_while_it_is_invalid() {
    let (kept, other) = (json!(version(1, 5)).to_string(), json!(version(1, 6)).to_string());
    let known = version(1, 5);
    for (present, is_valid, earlier, expected) in [
        (None, true, None, Upkeep::Leave),
        (None, true, Some(&known), Upkeep::Leave),
        (Some(&kept), true, Some(&known), Upkeep::Remove),
        (None, false, None, Upkeep::Leave),
        (Some(&other), false, None, Upkeep::Leave),
        (None, false, Some(&known), Upkeep::Write(kept.clone())),
        (Some(&other), false, Some(&known), Upkeep::Write(kept.clone())),
        (Some(&kept), false, Some(&known), Upkeep::Leave),
    ] {
        let object = group(2, 0, present.map(String::as_str));
        assert_eq!(upkeep(&object, is_valid, earlier), expected, "{present:?} {is_valid} {earlier:?}");
    }
}

#[test]
fn there_is_room_beside_other_annotations_up_to_the_limit() {
    let known = version(1, 5);
    let own = LAST_ACCEPTED.len() + json!(known).to_string().len();
    for (room, fits) in [(own, true), (own - 1, false)] {
        let mut object = group(2, 0, None);
        let other = ("other".to_owned(), "x".repeat(ANNOTATIONS_LIMIT - room - "other".len()));
        object.metadata.annotations = Some([other].into());
        assert_eq!(upkeep(&object, false, Some(&known)) != Upkeep::NoRoom, fits);
    }
}

#[tokio::test]
async fn the_version_in_force_is_written_once_and_removed_when_the_object_is_mended() {
    let (client, log) = api_server(200);
    let versions = Versions::default();
    let keep = async |object: &TargetGroup| {
        keep(&client, &versions, object, versions.check(object, validate)).await.unwrap()
    };
    keep(&group(1, 5, None)).await.unwrap();
    assert_eq!(log.lock().len(), 0);

    let refused = keep(&group(2, 0, None)).await.unwrap_err();
    assert!(refused.kept);
    assert!(refused.message().starts_with("spec.healthCheck.interval: "), "{}", refused.message());
    assert!(refused.message().ends_with("(what served before goes on)"), "{}", refused.message());
    let [Value::String(text)] = &written(&log)[..] else { panic!("{:?}", log.lock()) };
    assert_eq!(serde_json::from_str::<Value>(text).unwrap()["generation"], 1);

    assert!(keep(&group(2, 0, Some(text))).await.unwrap_err().kept);
    assert!(keep(&group(3, 301, Some(text))).await.unwrap_err().kept);
    assert_eq!(log.lock().len(), 1);

    keep(&group(4, 7, Some(text))).await.unwrap();
    assert_eq!(written(&log)[1..], [Value::Null]);
}

#[tokio::test]
async fn nothing_is_promised_of_a_version_that_could_not_be_kept() {
    let (client, log) = api_server(422);
    let versions = Versions::default();
    versions.check(&group(1, 5, None), validate).unwrap();
    let invalid = group(2, 0, None);
    let checked = versions.check(&invalid, validate);
    let refused = keep(&client, &versions, &invalid, checked).await.unwrap().unwrap_err();
    assert_eq!((log.lock().len(), refused.kept, refused.earlier.is_some()), (1, false, true));
    assert!(refused.message().contains("until the operator restarts"), "{}", refused.message());

    let new = Versions::default();
    let refused = keep(&client, &new, &invalid, new.check(&invalid, validate)).await.unwrap().unwrap_err();
    assert!(refused.message().contains("nothing of it is in force"), "{}", refused.message());
    assert_eq!(log.lock().len(), 1);
}

#[tokio::test]
async fn what_is_too_long_is_not_kept_and_what_was_kept_before_goes() {
    let (client, log) = api_server(200);
    let versions = Versions::default();
    versions.check(&group(2, 5, None), validate).unwrap();
    let mut invalid = group(3, 0, Some(&json!(version(1, 7)).to_string()));
    invalid.annotations_mut().insert("other".into(), "x".repeat(ANNOTATIONS_LIMIT - 200));
    let checked = versions.check(&invalid, validate);
    let refused = keep(&client, &versions, &invalid, checked).await.unwrap().unwrap_err();
    assert!(!refused.kept);
    assert_eq!(written(&log), [Value::Null]);
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again_before_the_status_says_anything() {
    for (code, fails) in [(500, true), (409, true), (404, false)] {
        let (client, _log) = api_server(code);
        let versions = Versions::default();
        versions.check(&group(1, 5, None), validate).unwrap();
        let invalid = group(2, 0, None);
        let kept = keep(&client, &versions, &invalid, versions.check(&invalid, validate)).await;
        assert_eq!(kept.is_err(), fails, "{code}");
    }
}

/// What the leader after the next has in force, when the object became invalid under the first.
async fn handed_over<K: Versioned, V>(
    valid: K,
    invalid: impl Fn(&mut K),
    validate: impl Fn(&K) -> Result<V, Problems>,
) -> (V, V) {
    let (client, log) = api_server(200);
    let first = Versions::default();
    let accepted = first.check(&valid, &validate).unwrap_or_else(|_| panic!("the first version is invalid"));
    let mut object = valid;
    object.meta_mut().generation = Some(2);
    invalid(&mut object);
    let checked = keep(&client, &first, &object, first.check(&object, &validate)).await.unwrap();
    assert!(checked.is_err_and(|refused| refused.kept));
    let text = log.lock()[0].body["metadata"]["annotations"][LAST_ACCEPTED].as_str().unwrap().to_owned();
    object.annotations_mut().insert(LAST_ACCEPTED.into(), text);
    let Err(refused) = Versions::default().check(&object, &validate) else { panic!("it is valid") };
    (accepted, *refused.earlier.unwrap())
}

#[tokio::test]
async fn every_kind_is_handed_over_as_it_was_accepted() {
    let balancer: LoadBalancer = object(
        "LoadBalancer",
        1,
        &json!({ "listeners": [{
            "name": "http", "port": 80, "idleTimeout": "90s", "allowedSources": ["10.0.0.0/8"],
            "rules": [{
                "priority": 1, "conditions": [{ "path": { "values": ["/a*"] } }],
                "action": { "redirect": { "statusCode": 301, "host": "example.org" } },
            }],
            "defaultAction": { "forward": { "targetGroups": [{ "name": "api", "weight": 3 }] } },
        }] }),
    );
    let (accepted, earlier) =
        handed_over(balancer, |object| object.spec.replicas = 0, load_balancer::validate::validate).await;
    assert_eq!(accepted, earlier);

    let (accepted, earlier) =
        handed_over(group(1, 5, None), |object| object.spec.targets = Targets::default(), validate).await;
    assert_eq!(accepted, earlier);

    let service: ReplicaService = object(
        "ReplicaService",
        1,
        &json!({
            "template": { "spec": { "containers": [{ "name": "web", "image": "web:1", "unknown": { "to": "us" } }] } },
            "scaling": { "min": 2, "max": 10, "desired": 4, "policies": [
                { "name": "cpu", "targetTracking": { "metric": "CPUUtilization", "targetPercent": 50 } },
            ] },
        }),
    );
    let (accepted, earlier) =
        handed_over(service, |object| object.spec.scaling.min = 0, replica_service::validate::validate).await;
    assert_eq!(accepted, earlier);
}
