//! Which template the replicas get: the one that is asked for or, when that one failed, the last good one. Pure.
//!
//! ```text
//! asked for ─► rolled out ─► all replicas ready at once: it is good
//!                        └─► no progress until the deadline ─► back to the last good one, until another is asked for
//! ```
//!
//! What must be remembered is noted on the Deployment, by the very write that changes its template: whoever leads next
//! goes on from there. The good template itself is that of its ReplicaSet, which Kubernetes keeps.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::dereference::{Failing, Found};
use super::validate::{Restart, Valid};
use crate::labels::{RESTARTED_AT, ROLLOUT};
use crate::revision::{REVISION, current, is_observed};

/// Longest explanation of a failure that is noted, in characters.
const WHY_LIMIT: usize = 500;

/// What is noted on a Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// A hash of the template that is asked for, and of when its replicas were to be replaced.
    pub template: String,
    /// When it was first asked for.
    pub asked_at: Timestamp,
    /// When replicas were last to be replaced although their template is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// The ReplicaSet of the last template of which all replicas were ready at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<String>,
    /// The template that is asked for has failed; the good one is in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

/// A template that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// Its ReplicaSet.
    pub replica_set: String,
    /// The Deployment's number for it.
    pub revision: String,
    /// Why, in a sentence.
    pub why: String,
}

impl Record {
    /// What is noted on a Deployment; none where nothing is that can be read.
    pub fn of(deployment: &Deployment) -> Option<Self> {
        serde_json::from_str(deployment.annotations().get(ROLLOUT)?).ok()
    }

    /// The ReplicaSet whose template is in the place of the one that is asked for.
    pub fn restored(&self) -> Option<&str> {
        self.failed.as_ref().and(self.good.as_deref())
    }
}

/// What to note now, and after how long to look again where nothing may happen until then.
pub fn next(valid: &Valid, found: &Found, now: Timestamp) -> (Record, Option<Duration>) {
    let before = found.deployment.as_deref().and_then(Record::of);
    let restarted_at = restarted_at(valid, found, before.as_ref());
    let template = hash(&valid.template, restarted_at.as_deref());
    let same = before.clone().filter(|before| before.template == template);
    match same {
        Some(record) if record.restored().is_some() => (record, None),
        Some(record) => judge(Record { good: good(found, Some(&record)), ..record }, valid, found, now),
        None => {
            let good = good(found, before.as_ref());
            (Record { template, asked_at: now, restarted_at, good, failed: None }, None)
        }
    }
}

/// Whether the last good template is put back in place just now.
pub fn goes_back(found: &Found, record: &Record) -> bool {
    let before = found.deployment.as_deref().and_then(Record::of);
    record.restored().is_some() && before.is_none_or(|before| before.restored().is_none())
}

/// What was asked for stays asked for, whatever becomes of the annotation.
fn restarted_at(valid: &Valid, found: &Found, before: Option<&Record>) -> Option<String> {
    if let Restart::At(time) = &valid.restart {
        return Some(time.clone());
    }
    if let Some(before) = before {
        return before.restarted_at.clone();
    }
    let template = found.deployment.as_ref()?.spec.as_ref()?.template.metadata.as_ref()?;
    template.annotations.as_ref()?.get(RESTARTED_AT).cloned()
}

/// The ReplicaSet of the last good template, which may have become good just now.
fn good(found: &Found, before: Option<&Record>) -> Option<String> {
    let complete = found.deployment.as_deref().filter(|deployment| is_complete(deployment));
    let current = complete.and_then(|deployment| current(deployment, &found.replica_sets));
    current.map(ResourceExt::name_any).or_else(|| before?.good.clone())
}

/// Notes that the template that is asked for has failed, if it has and there is a good one to go back to.
fn judge(record: Record, valid: &Valid, found: &Found, now: Timestamp) -> (Record, Option<Duration>) {
    let Some((deployment, stuck)) = found.deployment.as_deref().and_then(|d| Some((d, stuck(d)?))) else {
        return (record, None);
    };
    let exists = |name: &String| found.replica_sets.iter().any(|set| set.name_any() == *name);
    let (Some(failing), Some(good)) = (current(deployment, &found.replica_sets), &record.good) else {
        return (record, None);
    };
    if !valid.rolls_back || failing.name_any() == *good || !exists(good) {
        return (record, None);
    }
    // What a Deployment says of its progress may still be about the template before.
    let had = Duration::try_from(now.duration_since(record.asked_at)).unwrap_or_default();
    if let Some(left) = deadline(deployment).checked_sub(had).filter(|left| !left.is_zero()) {
        return (record, Some(left));
    }
    let revision = failing.annotations().get(REVISION).cloned().unwrap_or_default();
    let failed = Failed { replica_set: failing.name_any(), revision, why: why(&found.failing, stuck) };
    (Record { failed: Some(failed), ..record }, None)
}

fn why(failing: &[Failing], stuck: &DeploymentCondition) -> String {
    let why = match failing.first() {
        Some(Failing { group, why }) => {
            let count = failing.len();
            format!(
                "{count} of its replicas do not pass the checks of the load balancers; in target group {group}: {why}"
            )
        }
        None => stuck.message.clone().unwrap_or_default(),
    };
    why.chars().take(WHY_LIMIT).collect()
}

/// Every replica that there should be is of the current template, and ready.
fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    let Some(status) = &deployment.status else { return false };
    let counts = [status.replicas, status.updated_replicas, status.ready_replicas];
    is_observed(deployment) && wanted > 0 && counts == [Some(wanted); 3]
}

/// The condition that says that a rollout has made no progress until its deadline.
fn stuck(deployment: &Deployment) -> Option<&DeploymentCondition> {
    let conditions = deployment.status.as_ref().filter(|_| is_observed(deployment))?.conditions.as_ref()?;
    let stuck = |condition: &&DeploymentCondition| {
        condition.type_ == "Progressing"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    };
    conditions.iter().find(stuck)
}

fn deadline(deployment: &Deployment) -> Duration {
    let seconds = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default())
}

/// The same in every version of the operator: another hash would be another template, and end a rollback.
fn hash(template: &Value, restarted_at: Option<&str>) -> String {
    let text = format!("{template}\n{}", restarted_at.unwrap_or_default());
    let digest = Sha256::digest(text);
    let beginning = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{beginning:016x}")
}

#[cfg(test)]
mod tests;
