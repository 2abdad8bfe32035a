//! Conditions: what each kind says of itself, for people and for `kubectl wait`.

use evenkeel_crds::v1alpha1::StatusCondition;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Longest message: longer ones say little more, and every reader of the object pays for them.
const MESSAGE_LIMIT: usize = 1024;

/// Types of conditions.
pub mod kind {
    /// The spec holds together and is in force.
    pub const ACCEPTED: &str = "Accepted";
    /// Everything that the spec refers to exists and fits.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// Every proxy acknowledged this generation.
    pub const PROGRAMMED: &str = "Programmed";
    /// Requests are taken.
    pub const READY: &str = "Ready";
    /// Present while a deletion cannot go on.
    pub const DELETION_BLOCKED: &str = "DeletionBlocked";
    /// Enough targets are healthy.
    pub const HEALTHY: &str = "Healthy";
    /// At least `min` replicas are ready.
    pub const AVAILABLE: &str = "Available";
    /// A rollout goes on or has succeeded.
    pub const PROGRESSING: &str = "Progressing";
    /// Nothing keeps the number of replicas from being changed.
    pub const ABLE_TO_SCALE: &str = "AbleToScale";
    /// The policies have what they need for decisions.
    pub const SCALING_ACTIVE: &str = "ScalingActive";
    /// The policies want more or fewer replicas than they may have.
    pub const SCALING_LIMITED: &str = "ScalingLimited";
}

/// Reasons of conditions. Each is explained, with what to do, in docs/operations.md.
pub mod reason {
    /// Nothing is wrong.
    pub const ACCEPTED: &str = "Accepted";
    /// The spec contradicts itself; the message names the fields.
    pub const INVALID: &str = "Invalid";
    /// The object does not fit the API that this operator knows.
    pub const MALFORMED: &str = "Malformed";
    /// An object of a name that we need exists and is not ours.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// The API server refuses the pod template.
    pub const INVALID_TEMPLATE: &str = "InvalidTemplate";
    /// The API server refuses an object that we need.
    pub const REFUSED: &str = "Refused";
    /// Everything was found.
    pub const RESOLVED: &str = "ResolvedRefs";
    /// A target group does not exist.
    pub const TARGET_GROUP_NOT_FOUND: &str = "TargetGroupNotFound";
    /// A target group is being deleted.
    pub const TARGET_GROUP_DELETING: &str = "TargetGroupDeleting";
    /// A target group was never valid.
    pub const TARGET_GROUP_INVALID: &str = "TargetGroupInvalid";
    /// Listener and target group do not speak the same.
    pub const PROTOCOL_MISMATCH: &str = "ProtocolMismatch";
    /// A replica service does not exist.
    pub const REPLICA_SERVICE_NOT_FOUND: &str = "ReplicaServiceNotFound";
    /// A replica service is being deleted.
    pub const REPLICA_SERVICE_DELETING: &str = "ReplicaServiceDeleting";
    /// A service does not exist.
    pub const SERVICE_NOT_FOUND: &str = "ServiceNotFound";
    /// A service has no such port.
    pub const PORT_NOT_FOUND: &str = "PortNotFound";
    /// A service has no endpoints.
    pub const SERVICE_WITHOUT_ENDPOINTS: &str = "ServiceWithoutEndpoints";
    /// Another object has the node port.
    pub const NODE_PORT_TAKEN: &str = "NodePortTaken";
    /// The cluster has no such node port.
    pub const NODE_PORT_INVALID: &str = "NodePortInvalid";
    /// Every proxy has it.
    pub const PROGRAMMED: &str = "Programmed";
    /// Something has not happened yet and needs nobody's help.
    pub const PENDING: &str = "Pending";
    /// A proxy could not take it over.
    pub const REJECTED: &str = "Rejected";
    /// Requests are taken.
    pub const READY: &str = "Ready";
    /// No proxy is ready.
    pub const NO_PROXY_READY: &str = "NoProxyReady";
    /// The Service has no address yet.
    pub const NO_ADDRESS: &str = "NoAddress";
    /// Deletion protection is on.
    pub const DELETION_PROTECTED: &str = "DeletionProtected";
    /// Requests in flight finish first.
    pub const DRAINING: &str = "Draining";
    /// Every target is healthy.
    pub const ALL_HEALTHY: &str = "AllTargetsHealthy";
    /// Some targets are not healthy.
    pub const SOME_UNHEALTHY: &str = "SomeTargetsUnhealthy";
    /// No target is healthy.
    pub const NONE_HEALTHY: &str = "NoTargetHealthy";
    /// There is no target.
    pub const NO_TARGETS: &str = "NoTargets";
    /// No load balancer forwards there, so nobody checks.
    pub const UNUSED: &str = "NotUsed";
    /// Enough replicas are ready.
    pub const MINIMUM_AVAILABLE: &str = "MinimumReplicasAvailable";
    /// Too few replicas are ready.
    pub const MINIMUM_UNAVAILABLE: &str = "MinimumReplicasUnavailable";
    /// New replicas do not pass the checks of the load balancers: the rollout has stopped.
    pub const NEW_REPLICAS_UNHEALTHY: &str = "NewReplicasUnhealthy";
    /// The template that is asked for has failed; the last good one is in its place.
    pub const ROLLED_BACK: &str = "RolledBack";
    /// A container requests no CPU, so that utilisation means nothing.
    pub const MISSING_CPU_REQUEST: &str = "MissingCPURequest";
    /// Another autoscaler scales the same pods.
    pub const OTHER_AUTOSCALER: &str = "OtherAutoscaler";
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl Holds {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as it is now, before it is compared with what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: Holds,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// A condition that holds.
pub fn yes(kind: &'static str, reason: &str, message: impl Into<String>) -> Verdict {
    Verdict { kind, holds: Holds::True, reason: reason.into(), message: message.into() }
}

/// A condition that does not hold.
pub fn no(kind: &'static str, reason: &str, message: impl Into<String>) -> Verdict {
    Verdict { kind, holds: Holds::False, reason: reason.into(), message: message.into() }
}

/// A condition of which nobody knows whether it holds.
pub fn unknown(kind: &'static str, reason: &str, message: impl Into<String>) -> Verdict {
    Verdict { kind, holds: Holds::Unknown, reason: reason.into(), message: message.into() }
}

/// The conditions to write: `verdicts`, with the transition times of those in `old` whose status is the same.
pub fn merge(
    old: &[StatusCondition],
    verdicts: Vec<Verdict>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<StatusCondition> {
    verdicts.into_iter().map(|verdict| merge_one(old, verdict, generation, now)).collect()
}

fn merge_one(
    old: &[StatusCondition],
    verdict: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> StatusCondition {
    let Verdict { kind, holds, reason, message } = verdict;
    let since = old
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == holds.as_str())
        .map_or_else(|| whole_seconds(now), |condition| condition.last_transition_time.clone());
    StatusCondition {
        type_: kind.to_owned(),
        status: holds.as_str().to_owned(),
        reason,
        message: shortened(message),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// The API keeps whole seconds: what is written and what is read back must be equal.
fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let end = (0..=MESSAGE_LIMIT - 4).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push_str(" …");
    }
    message
}

/// The conditions that are worth an event: those whose status changed, and those that are bad for another reason. What
/// is merely waited for is not.
pub fn transitions<'a>(
    old: &'a [StatusCondition],
    new: &'a [StatusCondition],
) -> impl Iterator<Item = &'a StatusCondition> {
    new.iter().filter(move |condition| {
        let before = old.iter().find(|before| before.type_ == condition.type_);
        let changed = before.is_none_or(|before| {
            before.status != condition.status || (is_bad(condition) && before.reason != condition.reason)
        });
        changed && condition.reason != reason::PENDING && condition.status != "Unknown"
    })
}

/// Whether somebody should look at it.
pub fn is_bad(condition: &StatusCondition) -> bool {
    let bad = match condition.type_.as_str() {
        kind::DELETION_BLOCKED => condition.reason == reason::DELETION_PROTECTED,
        kind::SCALING_LIMITED => false,
        _ => condition.status == "False",
    };
    bad && condition.reason != reason::PENDING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_is_kept_while_the_status_is_the_same() {
        let old = merge(&[], vec![no("Ready", "NoProxyReady", "none of 2")], Some(1), at(10));
        let same = merge(&old, vec![no("Ready", "NoAddress", "no address")], Some(2), at(20));
        assert_eq!(same[0].last_transition_time.0, at(10));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("NoAddress", Some(2)));
        let other = merge(&same, vec![yes("Ready", "Ready", "")], Some(2), at(30));
        assert_eq!(other[0].last_transition_time.0, at(30));
    }

    #[test]
    fn what_was_written_reads_back_the_same() {
        let now = Timestamp::new(10, 123_456_789).unwrap();
        let conditions = merge(&[], vec![yes("Ready", "Ready", "")], Some(1), now);
        let read: Vec<StatusCondition> =
            serde_json::from_value(serde_json::to_value(&conditions).unwrap()).unwrap();
        assert_eq!(read, conditions);
    }

    #[test]
    fn events_are_for_transitions_only() {
        let now = at(1);
        let ready = merge(&[], vec![yes("Ready", "Ready", "a")], None, now);
        let reworded = merge(&ready, vec![yes("Ready", "Ready", "b")], None, now);
        let broken = merge(&ready, vec![no("Ready", "NoProxyReady", "")], None, now);
        let waiting = merge(&[], vec![no("Ready", reason::PENDING, "")], None, now);
        assert_eq!(transitions(&[], &ready).count(), 1);
        assert_eq!(transitions(&ready, &reworded).count(), 0);
        assert_eq!(transitions(&ready, &broken).count(), 1);
        assert_eq!(transitions(&[], &waiting).count(), 0);
        assert!(is_bad(&broken[0]) && !is_bad(&waiting[0]) && !is_bad(&ready[0]));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let short = shortened("ä".repeat(MESSAGE_LIMIT));
        assert!(short.len() <= MESSAGE_LIMIT && short.ends_with('…'));
    }
}
