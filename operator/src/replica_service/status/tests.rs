use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::autoscaler::DecisionView;
use crate::last_accepted::Refused;
use crate::replica_service::validate::validate;

fn object(policies: &Value) -> ReplicaService {
    serde_json::from_value(json!({
        "apiVersion": "evenkeel.dev/v1alpha1",
        "kind": "ReplicaService",
        "metadata": { "name": "api", "namespace": "default", "uid": "u", "generation": 2 },
        "spec": {
            "template": { "spec": { "containers": [{ "name": "web" }] } },
            "scaling": { "min": 2, "max": 10, "desired": 20, "policies": policies },
        },
    }))
    .unwrap()
}

fn outcome(status: &Value) -> Outcome {
    let deployment = serde_json::from_value(json!({ "status": status })).unwrap();
    Outcome { deployment: Some(Arc::new(deployment)), ..Outcome::default() }
}

fn decision() -> DecisionView {
    DecisionView {
        desired: 4,
        reason: "CPU",
        message: String::new(),
        able_to_scale: Finding::yes("ReadyForNewScale", ""),
        scaling_active: Finding::yes("ValidMetricFound", ""),
        scaling_limited: Finding::no("DesiredWithinRange", ""),
        cpu_utilization_percent: Some(70),
        last_scaling: None,
        draining: 1,
    }
}

fn made(policies: &Value, found: &Found, outcome: &Outcome) -> ReplicaServiceStatus {
    let object = object(policies);
    let checked = validate(&object).map_err(Refused::from);
    let inputs = Inputs { object: &object, checked: &checked, found, outcome };
    status(&inputs, &ReplicaServiceStatus::default(), Timestamp::UNIX_EPOCH)
}

fn reason_of<'a>(status: &'a ReplicaServiceStatus, kind: &str) -> (&'a str, &'a str) {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn budgets_of_others_are_named() {
    for (others, expected) in [
        (&[][..], ""),
        (&["theirs"], "PodDisruptionBudget theirs selects the replicas: it counts instead"),
        (&["one", "two"], "PodDisruptionBudgets one, two all select the replicas, so that every eviction"),
    ] {
        let other_budgets = others.iter().map(|name| (*name).to_owned()).collect();
        let outcome = Outcome { other_budgets, ..outcome(&json!({})) };
        let status = made(&json!([]), &Found::default(), &outcome);
        assert_eq!(reason_of(&status, "Accepted"), ("True", "Accepted"));
        let message = &status.conditions.iter().find(|found| found.type_ == "Accepted").unwrap().message;
        assert!(message.starts_with(expected) && (message.is_empty() == others.is_empty()), "{message}");
    }
}

#[test]
fn counts_come_from_the_deployment_and_the_last_decision() {
    let deployment = outcome(&json!({ "replicas": 5, "readyReplicas": 3 }));
    let found = Found { healthy: 2, decision: Some(decision()), ..Found::default() };
    let status = made(&json!([]), &found, &deployment);
    assert_eq!((status.replicas, status.ready_replicas, status.healthy_replicas), (5, 3, 2));
    assert_eq!((status.draining_replicas, status.desired_replicas), (1, 4));
    assert_eq!(status.cpu_utilization_percent, Some(70));
    assert_eq!(status.selector.as_deref(), Some("evenkeel.dev/replica-service=api"));
    assert_eq!(reason_of(&status, "Available"), ("True", reason::MINIMUM_AVAILABLE));
    assert_eq!(reason_of(&status, "ScalingLimited"), ("False", "DesiredWithinRange"));
}

#[test]
fn before_the_first_decision_desired_is_what_was_asked_for_within_bounds() {
    let status = made(&json!([]), &Found::default(), &outcome(&json!({})));
    assert_eq!(status.desired_replicas, 10);
    assert_eq!(reason_of(&status, "ScalingActive"), ("Unknown", reason::PENDING));
    assert_eq!(reason_of(&status, "Available"), ("False", reason::MINIMUM_UNAVAILABLE));
}

#[test]
fn a_cpu_policy_without_a_cpu_request_names_the_container() {
    let policies =
        json!([{ "name": "cpu", "targetTracking": { "metric": "CPUUtilization", "targetPercent": 50 } }]);
    let found = Found { decision: Some(decision()), ..Found::default() };
    let status = made(&policies, &found, &outcome(&json!({})));
    assert_eq!(reason_of(&status, "ScalingActive"), ("False", reason::MISSING_CPU_REQUEST));
    let condition = status.conditions.iter().find(|condition| condition.type_ == "ScalingActive").unwrap();
    assert!(condition.message.contains("request none: web;"), "{}", condition.message);
}

#[test]
fn another_autoscaler_is_reported_and_not_fought() {
    let found = Found { autoscalers: vec!["hpa".into()], decision: Some(decision()), ..Found::default() };
    let status = made(&json!([]), &found, &outcome(&json!({})));
    assert_eq!(reason_of(&status, "AbleToScale"), ("False", reason::OTHER_AUTOSCALER));
}

#[test]
fn a_refused_template_and_a_failed_rollout_are_told_with_the_cluster_s_words() {
    let mut refused = outcome(&json!({}));
    refused.template_refused = Some("unknown field \"spec.template.spec.contaners\"".into());
    let status = made(&json!([]), &Found::default(), &refused);
    assert_eq!(reason_of(&status, "Accepted"), ("False", reason::INVALID_TEMPLATE));
    assert!(status.conditions[0].message.contains("contaners"));

    let failed = outcome(&json!({ "conditions": [
        { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too slow" },
        { "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota" },
    ] }));
    let status = made(&json!([]), &Found::default(), &failed);
    assert_eq!(reason_of(&status, "Progressing"), ("False", "ProgressDeadlineExceeded"));
    assert_eq!(reason_of(&status, "Available"), ("False", "FailedCreate"));
    assert!(status.conditions[1].message.contains("0 of at least 2 replicas are ready: exceeded quota"));
}

#[test]
fn a_rollout_whose_replicas_do_not_pass_says_what_the_proxies_saw() {
    let why = "Target.ResponseCodeMismatch: GET / answered 500".to_owned();
    let failing = vec![Failing { group: "shop".into(), why }; 2];
    let found = Found { failing, healthy: 2, ..Found::default() };
    let deployment = |status: &str, reason: &str| {
        let condition =
            json!({ "type": "Progressing", "status": status, "reason": reason, "message": "So." });
        outcome(&json!({ "readyReplicas": 1, "conditions": [condition] }))
    };
    for (holds, reason, expected) in [
        ("True", "ReplicaSetUpdated", "ReplicaSetUpdated"),
        ("False", "ProgressDeadlineExceeded", reason::NEW_REPLICAS_UNHEALTHY),
    ] {
        let status = made(&json!([]), &found, &deployment(holds, reason));
        assert_eq!(reason_of(&status, "Progressing"), (holds, expected));
        assert_eq!(reason_of(&status, "Available"), ("True", reason::MINIMUM_AVAILABLE), "two serve");
        let progressing = status.conditions.iter().find(|condition| condition.type_ == "Progressing");
        assert_eq!(
            progressing.unwrap().message,
            "2 of the new replicas do not pass the checks of the load balancers; in target group shop: \
             Target.ResponseCodeMismatch: GET / answered 500. So."
        );
    }
}

#[test]
fn a_rollback_is_told_however_well_the_replicas_do_until_another_template_is_asked_for() {
    let status = |record: &str| {
        let deployment = json!({
            "metadata": { "annotations": { "evenkeel.dev/rollout": record } },
            "status": { "readyReplicas": 2, "conditions": [
                { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": "So." },
            ] },
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        let outcome = Outcome { deployment: Some(Arc::new(deployment)), ..Outcome::default() };
        made(&json!([]), &Found::default(), &outcome)
    };
    let asked = r#"{"template": "t", "askedAt": "2026-01-01T00:00:00Z", "good": "api-1""#;
    let failed = r#""failed": {"replicaSet": "api-2", "revision": "7", "why": "it answered 500"}"#;
    let back = status(&format!("{asked}, {failed}}}"));
    assert_eq!(reason_of(&back, "Progressing"), ("False", reason::ROLLED_BACK));
    let condition = back.conditions.iter().find(|condition| condition.type_ == "Progressing").unwrap();
    for part in ["revision 7 (ReplicaSet api-2) failed: it answered 500.", "that of ReplicaSet api-1,"] {
        assert!(condition.message.contains(part), "{}", condition.message);
    }
    for record in [&format!("{asked}}}"), "garbage"] {
        assert_eq!(reason_of(&status(record), "Progressing"), ("True", "NewReplicaSetAvailable"));
    }
}

#[test]
fn a_restart_at_no_time_is_told_and_all_else_is_in_force() {
    let mut object = object(&json!([]));
    object.metadata.annotations = Some([("evenkeel.dev/restartedAt".to_owned(), "now".to_owned())].into());
    let checked = validate(&object).map_err(Refused::from);
    let (found, outcome) = (Found::default(), outcome(&json!({})));
    let inputs = Inputs { object: &object, checked: &checked, found: &found, outcome: &outcome };
    let status = status(&inputs, &ReplicaServiceStatus::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(reason_of(&status, "Accepted"), ("False", reason::INVALID));
    let message = &status.conditions[0].message;
    assert!(
        message.contains(r#"metadata.annotations[evenkeel.dev/restartedAt]: "now" is no time"#),
        "{message}"
    );
}

#[test]
fn the_last_scaling_of_an_earlier_leader_stays() {
    let object = object(&json!([]));
    let (checked, found, outcome) =
        (validate(&object).map_err(Refused::from), Found::default(), outcome(&json!({})));
    let last: evenkeel_crds::v1alpha1::LastScaling = serde_json::from_value(json!({
        "time": "2026-01-01T00:00:00Z", "from": 2, "to": 3, "reason": "CPU", "message": "",
    }))
    .unwrap();
    let old = ReplicaServiceStatus { last_scaling: Some(last.clone()), ..ReplicaServiceStatus::default() };
    let inputs = Inputs { object: &object, checked: &checked, found: &found, outcome: &outcome };
    assert_eq!(status(&inputs, &old, Timestamp::UNIX_EPOCH).last_scaling, Some(last));
}
