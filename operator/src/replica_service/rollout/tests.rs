use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::json;

use super::*;
use crate::replica_service::validate::validate;

const DEADLINE: i64 = 600;

/// ReplicaService `api` that asks for that image.
fn valid(image: &str, annotations: &Value, rollback: &str) -> Valid {
    let object = json!({
        "apiVersion": "evenkeel.dev/v1alpha1",
        "kind": "ReplicaService",
        "metadata": {"name": "api", "namespace": "default", "uid": "u", "annotations": annotations},
        "spec": {
            "template": {"spec": {"containers": [{"name": "web", "image": image}]}},
            "scaling": {"min": 2, "max": 10},
            "rollout": {"rollback": rollback},
        },
    });
    validate(&serde_json::from_value(object).unwrap()).unwrap()
}

fn asked_for(image: &str) -> Valid {
    valid(image, &json!({}), "Automatic")
}

/// Its Deployment, of two replicas, and what is noted there.
struct Live {
    record: Option<Record>,
    /// The number of the current ReplicaSet among those that there are.
    revision: usize,
    sets: usize,
    updated: i32,
    ready: i32,
    stuck: bool,
    observed: bool,
    failing: usize,
}

/// All replicas of the first template are ready.
const SOUND: Live = Live {
    record: None,
    revision: 1,
    sets: 1,
    updated: 2,
    ready: 2,
    stuck: false,
    observed: true,
    failing: 0,
};

/// The second template makes no progress any more.
const STUCK: Live = Live { revision: 2, sets: 2, updated: 1, stuck: true, ..SOUND };

impl Live {
    fn found(&self) -> Found {
        let Self { record, revision, sets, updated, ready, stuck, observed, failing } = self;
        let record = record.as_ref().map(|record| serde_json::to_string(record).unwrap());
        let (status, reason) =
            if *stuck { ("False", "ProgressDeadlineExceeded") } else { ("True", "NewReplicaSetAvailable") };
        let deployment = json!({
            "metadata": {
                "generation": 2, "uid": "d",
                "annotations": {REVISION: revision.to_string(), ROLLOUT: record.unwrap_or_else(|| "garbage".into())},
            },
            "spec": {
                "replicas": 2, "progressDeadlineSeconds": DEADLINE, "selector": {},
                "template": {"metadata": {"annotations": {RESTARTED_AT: "2025-01-01T00:00:00Z"}}},
            },
            "status": {
                "observedGeneration": if *observed { 2 } else { 1 },
                "replicas": updated.max(ready), "updatedReplicas": updated, "readyReplicas": ready,
                "conditions": [{"type": "Progressing", "status": status, "reason": reason, "message": "too slow"}],
            },
        });
        let set = |number: usize| -> Arc<ReplicaSet> {
            let metadata = json!({"name": format!("api-{number}"), "uid": format!("set-{number}"), "annotations": {REVISION: number.to_string()}});
            Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
        };
        let why = "Target.ResponseCodeMismatch: GET / answered 500".to_owned();
        Found {
            deployment: Some(Arc::new(serde_json::from_value(deployment).unwrap())),
            replica_sets: (1..=*sets).map(set).collect(),
            failing: vec![Failing { group: "shop".into(), why }; *failing],
            ..Found::default()
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// What is noted when image `web:2` was asked for while all replicas of `web:1` were ready.
fn rolling_out() -> Record {
    let (first, _) = next(&asked_for("web:1"), &SOUND.found(), at(-100));
    let (second, _) = next(&asked_for("web:2"), &Live { record: Some(first), ..SOUND }.found(), at(0));
    second
}

fn failed() -> Record {
    let stuck = Live { record: Some(rolling_out()), failing: 2, ..STUCK };
    next(&asked_for("web:2"), &stuck.found(), at(DEADLINE)).0
}

#[test]
fn a_template_is_good_once_all_its_replicas_were_ready_at_once() {
    let good = |live: Live| next(&asked_for("web:1"), &live.found(), at(0)).0.good;
    assert_eq!(good(SOUND).as_deref(), Some("api-1"));
    assert_eq!(good(Live { ready: 1, ..SOUND }), None);
    assert_eq!(good(Live { updated: 1, ..SOUND }), None);
    assert_eq!(good(Live { observed: false, ..SOUND }), None, "the counts are of the template before");
    assert_eq!(good(Live { sets: 0, ..SOUND }), None, "its ReplicaSet is not seen yet");
    assert_eq!(next(&asked_for("web:1"), &Found::default(), at(0)).0.good, None, "there is no Deployment");
}

#[test]
fn a_template_that_fails_gives_way_to_the_last_good_one_and_the_record_says_why() {
    let record = failed();
    assert_eq!(record.restored(), Some("api-1"));
    assert!(goes_back(&Live { record: Some(rolling_out()), ..STUCK }.found(), &record));
    assert!(
        !goes_back(&Live { record: Some(record.clone()), ..STUCK }.found(), &record),
        "it has gone already"
    );
    let Failed { replica_set, revision, why } = record.failed.unwrap();
    assert_eq!((replica_set.as_str(), revision.as_str()), ("api-2", "2"));
    assert!(why.contains("2 of its replicas do not pass") && why.contains("GET / answered 500"), "{why}");
    let silent = Live { record: Some(rolling_out()), ..STUCK };
    let (record, _) = next(&asked_for("web:2"), &silent.found(), at(DEADLINE));
    assert_eq!(record.failed.unwrap().why, "too slow", "as the Deployment says");
}

#[test]
fn nothing_goes_back_without_need_permission_or_a_good_template() {
    let without_good = Record { good: None, ..rolling_out() };
    let cases = [
        ("it makes progress", Live { stuck: false, record: Some(rolling_out()), ..STUCK }, "Automatic"),
        ("it was not looked at", Live { observed: false, record: Some(rolling_out()), ..STUCK }, "Automatic"),
        ("it is not wished", Live { record: Some(rolling_out()), ..STUCK }, "None"),
        ("none was ever good", Live { record: Some(without_good), ..STUCK }, "Automatic"),
        ("the good one is gone", Live { record: Some(rolling_out()), sets: 0, ..STUCK }, "Automatic"),
        (
            "it is the good one itself",
            Live { record: Some(rolling_out()), revision: 1, ..STUCK },
            "Automatic",
        ),
    ];
    for (case, live, rollback) in cases {
        let (record, _) = next(&valid("web:2", &json!({}), rollback), &live.found(), at(DEADLINE * 2));
        assert_eq!(record.failed, None, "{case}");
    }
}

#[test]
fn no_template_fails_before_its_own_deadline() {
    let stuck = Live { record: Some(rolling_out()), ..STUCK };
    let (record, again) = next(&asked_for("web:2"), &stuck.found(), at(DEADLINE - 10));
    assert_eq!(
        (record.failed, again),
        (None, Some(Duration::from_secs(10))),
        "it may speak of the one before"
    );
}

#[test]
fn it_stays_back_until_another_template_is_asked_for() {
    let back = |live: Live| Live { record: Some(failed()), ..live };
    for (case, live) in
        [("on the way", STUCK), ("all are back", SOUND), ("unobserved", Live { observed: false, ..STUCK })]
    {
        let later = next(&asked_for("web:2"), &back(live).found(), at(DEADLINE * 3));
        assert_eq!(later, (failed(), None), "{case}");
    }
    // Of the switch, too: else the failed template would roll out again.
    let off = valid("web:2", &json!({}), "None");
    assert_eq!(next(&off, &back(SOUND).found(), at(DEADLINE * 3)).0, failed());

    let (other, _) = next(&asked_for("web:3"), &back(SOUND).found(), at(DEADLINE * 3));
    assert_eq!(
        (other.restored(), other.good.as_deref(), other.asked_at),
        (None, Some("api-1"), at(DEADLINE * 3))
    );
    let again = valid("web:2", &json!({RESTARTED_AT: "2026-01-01T00:00:00Z"}), "Automatic");
    assert_eq!(
        next(&again, &back(SOUND).found(), at(DEADLINE * 3)).0.restored(),
        None,
        "it is to be tried again"
    );
}

#[test]
fn replicas_are_replaced_for_a_new_time_and_for_nothing_else() {
    let asked = |annotations: Value| valid("web:1", &annotations, "None");
    let of = |valid: &Valid, record: Option<Record>| next(valid, &Live { record, ..SOUND }.found(), at(0)).0;
    let none = of(&asked(json!({})), None);
    assert_eq!(none.restarted_at.as_deref(), Some("2025-01-01T00:00:00Z"), "as the replicas have it");
    let first = of(&asked(json!({RESTARTED_AT: "2026-01-01T00:00:00+01:00"})), Some(none.clone()));
    assert_ne!(first.template, none.template);
    for annotations in [json!({}), json!({RESTARTED_AT: "now"}), json!({RESTARTED_AT: ""})] {
        assert_eq!(of(&asked(annotations.clone()), Some(first.clone())), first, "{annotations}");
    }
}
