//! What a ReplicaService says of itself. Pure.

use evenkeel_crds::v1alpha1::{ReplicaService, ReplicaServiceStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use kube::{Resource, ResourceExt};

use super::apply::Outcome;
use super::dereference::{Failing, Found};
use super::rollout::{Failed, Record};
use super::validate::{Restart, Valid};
use crate::conditions::{Holds, Verdict, kind, merge, no, reason, unknown, yes};
use crate::labels::{REPLICA_SERVICE, RESTARTED_AT};
use crate::last_accepted::Checked;
use crate::scale::Finding;

/// Everything that a status is made of.
pub struct Inputs<'a> {
    /// The object.
    pub object: &'a ReplicaService,
    /// Whether its spec holds together.
    pub checked: &'a Checked<Valid>,
    /// What is around it.
    pub found: &'a Found,
    /// What became of what it owns.
    pub outcome: &'a Outcome,
}

/// The status as it is now.
pub fn status(inputs: &Inputs<'_>, old: &ReplicaServiceStatus, now: Timestamp) -> ReplicaServiceStatus {
    let Inputs { object, found, outcome, .. } = *inputs;
    let generation = object.metadata.generation;
    let deployment = outcome.deployment.as_ref().and_then(|deployment| deployment.status.clone());
    let deployment = deployment.unwrap_or_default();
    let scaling = &object.spec.scaling;
    let asked_for = scaling.desired.unwrap_or(scaling.min).max(scaling.min).min(scaling.max);
    let decision = found.decision.as_ref();
    let verdicts = [
        Some(accepted(inputs)),
        Some(available(inputs, &deployment)),
        Some(rolled_back(outcome).unwrap_or_else(|| progressing(&found.failing, &deployment))),
        Some(able_to_scale(inputs)),
        Some(scaling_active(inputs)),
        decision.map(|decision| finding(kind::SCALING_LIMITED, &decision.scaling_limited)),
        deletion(object),
    ];
    ReplicaServiceStatus {
        observed_generation: generation,
        replicas: deployment.replicas.unwrap_or(0),
        ready_replicas: deployment.ready_replicas.unwrap_or(0),
        healthy_replicas: found.healthy,
        draining_replicas: decision.map_or(0, |decision| decision.draining),
        desired_replicas: decision.map_or(asked_for, |decision| decision.desired),
        selector: Some(format!("{REPLICA_SERVICE}={}", object.name_any())),
        cpu_utilization_percent: decision.and_then(|decision| decision.cpu_utilization_percent),
        last_scaling: decision
            .and_then(|decision| decision.last_scaling.clone())
            .or_else(|| old.last_scaling.clone()),
        conditions: merge(&old.conditions, verdicts.into_iter().flatten().collect(), generation, now),
    }
}

fn accepted(inputs: &Inputs<'_>) -> Verdict {
    let outcome = inputs.outcome;
    if let Err(refused) = inputs.checked {
        return no(kind::ACCEPTED, reason::INVALID, refused.message());
    }
    if !outcome.foreign.is_empty() {
        return no(kind::ACCEPTED, reason::NAME_CONFLICT, outcome.foreign.join("; "));
    }
    if let Some(message) = &outcome.template_refused {
        let instead = match outcome.deployment {
            Some(_) => "what served before goes on",
            None => "there are no replicas until it is mended",
        };
        let message = format!("spec.template: the API server says: {message} ({instead})");
        return no(kind::ACCEPTED, reason::INVALID_TEMPLATE, message);
    }
    if !outcome.refused.is_empty() {
        return no(kind::ACCEPTED, reason::REFUSED, outcome.refused.join("; "));
    }
    if let Some(text) = unreadable_restart(inputs) {
        let text: String = text.chars().take(50).collect();
        let message = format!(
            "metadata.annotations[{RESTARTED_AT}]: {text:?} is no time such as 2026-01-31T12:00:00Z; no replica is replaced for it, and all else is in force"
        );
        return no(kind::ACCEPTED, reason::INVALID, message);
    }
    yes(kind::ACCEPTED, reason::ACCEPTED, made_way(&outcome.other_budgets))
}

fn made_way(others: &[String]) -> String {
    match others {
        [] => String::new(),
        [name] => format!(
            "PodDisruptionBudget {name} selects the replicas: it counts instead of the operator's own, which is gone, since with two of them every eviction fails"
        ),
        names => format!(
            "PodDisruptionBudgets {} all select the replicas, so that every eviction of them fails: delete all of them but one",
            names.join(", ")
        ),
    }
}

fn unreadable_restart<'a>(inputs: &'a Inputs<'_>) -> Option<&'a str> {
    match &inputs.checked.as_ref().ok()?.restart {
        Restart::Unreadable(text) => Some(text),
        Restart::Unasked | Restart::At(_) => None,
    }
}

/// A replica that serves counts, although its gate is closed for a moment of a rollout.
fn available(inputs: &Inputs<'_>, deployment: &DeploymentStatus) -> Verdict {
    let ready = deployment.ready_replicas.unwrap_or(0).max(inputs.found.healthy);
    let min = inputs.object.spec.scaling.min;
    if ready >= min {
        return yes(kind::AVAILABLE, reason::MINIMUM_AVAILABLE, "");
    }
    let message = format!("{ready} of at least {min} replicas are ready");
    match condition(deployment, "ReplicaFailure").filter(|failure| failure.status == "True") {
        Some(failure) => {
            let why = failure.message.clone().unwrap_or_default();
            no(
                kind::AVAILABLE,
                failure.reason.as_deref().unwrap_or(reason::MINIMUM_UNAVAILABLE),
                format!("{message}: {why}"),
            )
        }
        None => no(kind::AVAILABLE, reason::MINIMUM_UNAVAILABLE, message),
    }
}

/// What is asked for does not run, however well what runs does.
fn rolled_back(outcome: &Outcome) -> Option<Verdict> {
    let record = Record::of(outcome.deployment.as_deref()?)?;
    let good = record.restored()?.to_owned();
    let Failed { replica_set, revision, why } = record.failed?;
    let message = format!(
        "the rollout of revision {revision} (ReplicaSet {replica_set}) failed: {why}. The replicas have the last template that was good again, that of ReplicaSet {good}, until another is asked for"
    );
    Some(no(kind::PROGRESSING, reason::ROLLED_BACK, message))
}

/// As the Deployment says, and why new replicas do not pass. A Deployment knows only that they are not ready.
fn progressing(failing: &[Failing], deployment: &DeploymentStatus) -> Verdict {
    let Some(condition) = condition(deployment, "Progressing") else {
        return unknown(kind::PROGRESSING, reason::PENDING, "the Deployment has not been looked at yet");
    };
    let mut verdict = Verdict {
        kind: kind::PROGRESSING,
        holds: (condition.status == "True").into(),
        reason: condition.reason.clone().unwrap_or_else(|| reason::PENDING.into()),
        message: condition.message.clone().unwrap_or_default(),
    };
    if let Some(Failing { group, why }) = failing.first() {
        let count = failing.len();
        verdict.message = format!(
            "{count} of the new replicas do not pass the checks of the load balancers; in target group {group}: {why}. {}",
            verdict.message,
        );
        if verdict.holds == Holds::False {
            verdict.reason = reason::NEW_REPLICAS_UNHEALTHY.into();
        }
    }
    verdict
}

fn condition<'a>(deployment: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    deployment.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn able_to_scale(inputs: &Inputs<'_>) -> Verdict {
    if !inputs.found.autoscalers.is_empty() {
        let others = inputs.found.autoscalers.join(", ");
        let message = format!(
            "HorizontalPodAutoscaler {others} scales the same replicas; delete it, or set spec.scaling.paused and leave the number to it"
        );
        return no(kind::ABLE_TO_SCALE, reason::OTHER_AUTOSCALER, message);
    }
    match &inputs.found.decision {
        Some(decision) => finding(kind::ABLE_TO_SCALE, &decision.able_to_scale),
        None => unknown(kind::ABLE_TO_SCALE, reason::PENDING, "nothing was decided yet"),
    }
}

fn scaling_active(inputs: &Inputs<'_>) -> Verdict {
    if let Ok(valid) = inputs.checked {
        let (service, missing) = (&valid.service, &valid.service.containers_without_cpu_request);
        if !service.policies.is_empty() && !missing.is_empty() {
            let message = format!(
                "CPU utilisation is a share of what is requested, and these containers request none: {}; set resources.requests.cpu in spec.template",
                missing.join(", "),
            );
            return no(kind::SCALING_ACTIVE, reason::MISSING_CPU_REQUEST, message);
        }
    }
    match &inputs.found.decision {
        Some(decision) => finding(kind::SCALING_ACTIVE, &decision.scaling_active),
        None => unknown(kind::SCALING_ACTIVE, reason::PENDING, "nothing was decided yet"),
    }
}

fn finding(kind: &'static str, finding: &Finding) -> Verdict {
    Verdict {
        kind,
        holds: finding.holds.into(),
        reason: finding.reason.to_owned(),
        message: finding.message.clone(),
    }
}

fn deletion(object: &ReplicaService) -> Option<Verdict> {
    object.meta().deletion_timestamp.as_ref()?;
    let message =
        "the replicas get nothing new; they go when nothing is in flight, or after the deregistration delay";
    Some(yes(kind::DELETION_BLOCKED, reason::DRAINING, message))
}

#[cfg(test)]
mod tests;
