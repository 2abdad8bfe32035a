//! What a TargetGroup says of itself. Pure.

use evenkeel_crds::v1alpha1::{TargetCounts, TargetGroup, TargetGroupStatus, TargetHealth, TargetState};
use jiff::Timestamp;
use kube::Resource;

use super::dereference::{Found, Source};
use crate::conditions::{Verdict, kind, merge, no, reason, unknown, yes};
use crate::last_accepted::Checked;
use crate::registry::ValidTargetGroup;

/// Targets that are listed at most; the counts count all.
const LISTED: usize = 100;

/// The status as it is now.
pub fn status(
    object: &TargetGroup,
    checked: &Checked<ValidTargetGroup>,
    found: &Found,
    old: &TargetGroupStatus,
    now: Timestamp,
) -> TargetGroupStatus {
    let generation = object.metadata.generation;
    let counts = counts(&found.targets);
    let accepted = match checked {
        Ok(_) => yes(kind::ACCEPTED, reason::ACCEPTED, ""),
        Err(refused) => no(kind::ACCEPTED, reason::INVALID, refused.message()),
    };
    let deleting = object.meta().deletion_timestamp.as_ref().map(|_| {
        let message =
            "nothing new is sent there; it goes when nothing is in flight, or after spec.deregistrationDelay";
        yes(kind::DELETION_BLOCKED, reason::DRAINING, message)
    });
    let verdicts = [Some(accepted), Some(resolved(object, found)), Some(healthy(found, counts)), deleting];
    TargetGroupStatus {
        observed_generation: generation,
        load_balancers: found.load_balancers.clone(),
        targets: counts,
        target_health: listed(&found.targets, &old.target_health, now),
        conditions: merge(&old.conditions, verdicts.into_iter().flatten().collect(), generation, now),
    }
}

fn counts(targets: &[TargetHealth]) -> TargetCounts {
    let count = |state| {
        let count = targets.iter().filter(|target| target.state == state).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    TargetCounts {
        total: i32::try_from(targets.len()).unwrap_or(i32::MAX),
        healthy: count(TargetState::Healthy),
        unhealthy: count(TargetState::Unhealthy),
        initial: count(TargetState::Initial),
        draining: count(TargetState::Draining),
    }
}

/// Worst first. A target whose state did not change keeps its time: proxies count from when they came up themselves.
fn listed(targets: &[TargetHealth], old: &[TargetHealth], now: Timestamp) -> Vec<TargetHealth> {
    let mut targets = targets.to_vec();
    targets.sort_by(|one, other| {
        (one.state, &one.address, one.port).cmp(&(other.state, &other.address, other.port))
    });
    targets.truncate(LISTED);
    for target in &mut targets {
        let before = old.iter().find(|before| {
            (&before.address, before.port, before.state) == (&target.address, target.port, target.state)
        });
        if let Some(before) = before {
            target.since.clone_from(&before.since);
        } else if target.since.is_empty() {
            target.since = now.to_string();
        }
    }
    targets
}

fn resolved(object: &TargetGroup, found: &Found) -> Verdict {
    let targets = &object.spec.targets;
    let (what, missing, name) = match (&targets.replica_service, &targets.service) {
        (Some(service), _) => ("ReplicaService", reason::REPLICA_SERVICE_NOT_FOUND, &service.name),
        (None, Some(service)) => ("Service", reason::SERVICE_NOT_FOUND, &service.name),
        (None, None) => return yes(kind::RESOLVED_REFS, reason::RESOLVED, ""),
    };
    match found.source {
        Source::Present => yes(kind::RESOLVED_REFS, reason::RESOLVED, ""),
        Source::Missing => {
            no(kind::RESOLVED_REFS, missing, format!("{what} {name} does not exist in this namespace"))
        }
        Source::NoSuchPort => no(
            kind::RESOLVED_REFS,
            reason::PORT_NOT_FOUND,
            format!(
                "Service {name} has no port {}; use the number or name of one of its ports in spec.port",
                port(object)
            ),
        ),
        Source::NoSuchContainerPort => no(
            kind::RESOLVED_REFS,
            reason::PORT_NOT_FOUND,
            format!(
                "no container of ReplicaService {name} has a port named {}; name one in spec.template, or use the number in spec.port",
                port(object)
            ),
        ),
        Source::ExternalName => no(
            kind::RESOLVED_REFS,
            reason::SERVICE_WITHOUT_ENDPOINTS,
            format!(
                "Service {name} is of type ExternalName and has no endpoints; use targets.addresses, or a Service of another type"
            ),
        ),
        Source::Deleting => no(
            kind::RESOLVED_REFS,
            reason::REPLICA_SERVICE_DELETING,
            format!("ReplicaService {name} is being deleted; its replicas drain"),
        ),
    }
}

fn port(object: &TargetGroup) -> String {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    match &object.spec.port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

fn healthy(found: &Found, counts: TargetCounts) -> Verdict {
    let TargetCounts { total, healthy, unhealthy, initial, draining } = counts;
    if found.load_balancers.is_empty() {
        return unknown(
            kind::HEALTHY,
            reason::UNUSED,
            "no LoadBalancer forwards here, so nobody checks the targets",
        );
    }
    if total == draining {
        return no(kind::HEALTHY, reason::NO_TARGETS, "there is no target; requests are answered 503");
    }
    if healthy == 0 && unhealthy == 0 {
        return no(kind::HEALTHY, reason::PENDING, format!("not checked yet: {initial}"));
    }
    if healthy == 0 {
        return no(
            kind::HEALTHY,
            reason::NONE_HEALTHY,
            "no target passes its checks; requests are sent to all of them, in case the check is wrong",
        );
    }
    if unhealthy > 0 {
        let message =
            format!("{unhealthy} of {total} targets do not pass their checks; see status.targetHealth");
        return yes(kind::HEALTHY, reason::SOME_UNHEALTHY, message);
    }
    yes(kind::HEALTHY, reason::ALL_HEALTHY, "")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::last_accepted::Refused;
    use crate::target_group::validate::validate;

    fn group() -> TargetGroup {
        serde_json::from_value(json!({
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "TargetGroup",
            "metadata": { "name": "api", "namespace": "default", "generation": 2 },
            "spec": { "port": 8080, "targets": { "replicaService": { "name": "api" } } },
        }))
        .unwrap()
    }

    fn checked(group: &TargetGroup) -> Checked<ValidTargetGroup> {
        validate(group).map_err(Refused::from)
    }

    fn target(address: &str, state: TargetState, since: &str) -> TargetHealth {
        TargetHealth {
            address: address.into(),
            port: 8080,
            zone: None,
            node: None,
            state,
            reason: None,
            description: None,
            since: since.into(),
        }
    }

    fn condition(found: &Found, kind: &str) -> (String, String) {
        let group = group();
        let status =
            status(&group, &checked(&group), found, &TargetGroupStatus::default(), Timestamp::UNIX_EPOCH);
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
        assert_eq!(condition.observed_generation, Some(2));
        (condition.status, condition.reason)
    }

    #[test]
    fn health_is_said_as_clients_feel_it() {
        use TargetState::{Draining, Healthy, Initial, Unhealthy};
        for (states, status, reason) in [
            (vec![], "False", reason::NO_TARGETS),
            (vec![Draining], "False", reason::NO_TARGETS),
            (vec![Initial, Draining], "False", reason::PENDING),
            (vec![Unhealthy, Initial], "False", reason::NONE_HEALTHY),
            (vec![Unhealthy, Healthy], "True", reason::SOME_UNHEALTHY),
            (vec![Initial, Healthy], "True", reason::ALL_HEALTHY),
        ] {
            let targets = states.iter().map(|state| target("10.0.0.1", *state, "")).collect();
            let found = Found { load_balancers: vec!["shop".into()], targets, ..Found::default() };
            assert_eq!(
                condition(&found, kind::HEALTHY),
                (status.to_owned(), reason.to_owned()),
                "{states:?}"
            );
        }
        assert_eq!(condition(&Found::default(), kind::HEALTHY).1, reason::UNUSED);
    }

    #[test]
    fn what_targets_come_from_must_exist() {
        for (source, status, reason) in [
            (Source::Present, "True", reason::RESOLVED),
            (Source::Missing, "False", reason::REPLICA_SERVICE_NOT_FOUND),
            (Source::Deleting, "False", reason::REPLICA_SERVICE_DELETING),
            (Source::NoSuchPort, "False", reason::PORT_NOT_FOUND),
            (Source::NoSuchContainerPort, "False", reason::PORT_NOT_FOUND),
            (Source::ExternalName, "False", reason::SERVICE_WITHOUT_ENDPOINTS),
        ] {
            let found = Found { source, ..Found::default() };
            assert_eq!(condition(&found, kind::RESOLVED_REFS), (status.to_owned(), reason.to_owned()));
        }
    }

    #[test]
    fn the_worst_targets_are_listed_first_and_keep_their_time() {
        let old = vec![target("10.0.0.2", TargetState::Unhealthy, "earlier")];
        let new = vec![
            target("10.0.0.1", TargetState::Healthy, "now"),
            target("10.0.0.2", TargetState::Unhealthy, "now"),
        ];
        let listed = listed(&new, &old, Timestamp::UNIX_EPOCH);
        assert_eq!((listed[0].address.as_str(), listed[0].since.as_str()), ("10.0.0.2", "earlier"));
        assert_eq!(listed[1].since, "now");
    }

    #[test]
    fn at_most_a_hundred_targets_are_listed_and_all_are_counted() {
        let targets: Vec<_> = (0..300)
            .map(|i| target(&format!("10.0.{}.{}", i / 250, i % 250), TargetState::Healthy, ""))
            .collect();
        let found = Found { targets, ..Found::default() };
        let group = group();
        let status =
            status(&group, &checked(&group), &found, &TargetGroupStatus::default(), Timestamp::UNIX_EPOCH);
        assert_eq!((status.target_health.len(), status.targets.total), (100, 300));
    }
}
