//! Paces a rollout, so that no replica of an old template goes before it is drained. Pure.
//!
//! ```text
//! k new replicas pass ─► k old ones are drained, marked, and their gates shut ─► the gates of the new ones open
//!                     ─► the Deployment controller removes the old ones, which are not ready, and starts more new ones
//! ```
//!
//! With n new gates open the Deployment controller leaves `replicas - n` old replicas (maxUnavailable is 0; src:
//! pkg/controller/deployment/rolling.go): so many must be left that are not drained, or it would take one of those.

use super::gate::Gate;
use super::plan::{is_touched, leave, open, release, staying};
use super::situation::{Action, Phase, Replica, Situation};

/// The next steps of a rollout of the template of ReplicaSet `current`.
pub(super) fn pace(situation: &Situation, current: &str) -> Vec<Action> {
    let Situation { replicas, sets, pods, .. } = situation;
    let wanted = usize::try_from(*replicas).unwrap_or_default();
    let (new, old): (Vec<_>, Vec<_>) = remaining(situation).into_iter().partition(|pod| pod.set == current);
    // Of a template that is current again some may be on their way out.
    let mut actions = release(new.iter().copied().filter(|pod| pod.is_draining()));

    let serving = new.iter().filter(|pod| is_ready(pod) || (pod.passes && !pod.is_draining())).count();
    let opened = new.iter().filter(|pod| is_ready(pod)).count();
    let coming: usize = sets.iter().filter(|set| set.uid != current).map(|set| set.missing(pods)).sum();
    let stays = old.len() + coming + opened <= wanted;
    let surplus = old.len().saturating_sub(wanted.saturating_sub(serving));
    actions.extend(leave(&old, surplus, sets, stays));

    if sets.iter().any(|set| !set.counted || set.extra(pods) > 0) {
        // What the Deployment controller decides on would be out of date.
        return actions;
    }
    let kept = old.iter().filter(|pod| !pod.can_go() || is_touched(pod, &actions)).count() + coming;
    if let Some(room) = wanted.checked_sub(kept + opened) {
        // Of old replicas without gates as many are removed as are ready too many: one at a time, lest one counts twice.
        let in_turn = old.iter().any(|pod| pod.gate == Gate::Absent);
        let limit = if in_turn { usize::from(old.len() + opened <= wanted) } else { usize::MAX };
        actions.extend(open(new.into_iter(), room.min(limit)));
        let undisturbed = old.into_iter().filter(|pod| !is_touched(pod, &actions));
        let opened = open(undisturbed, usize::MAX);
        actions.extend(opened);
    }
    actions
}

/// Whether Kubernetes counts it as ready, or may do so at any time.
fn is_ready(pod: &Replica) -> bool {
    match pod.gate {
        Gate::Open => true,
        Gate::Absent => pod.phase == Phase::Ready,
        Gate::Waiting | Gate::Shut { .. } => false,
    }
}

/// Without those that their ReplicaSets are about to remove.
fn remaining(situation: &Situation) -> Vec<&Replica> {
    let Situation { sets, pods, .. } = situation;
    let mut remaining: Vec<&Replica> =
        pods.iter().filter(|pod| sets.iter().all(|set| set.uid != pod.set)).collect();
    for set in sets {
        remaining.extend(staying(pods.iter().filter(|pod| pod.set == set.uid), set.extra(pods)));
    }
    remaining
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::plan::plan;
    use super::super::progress::Progress;
    use super::super::situation::{Draining, Set};
    use super::*;

    fn pod(name: &str, set: &str, gate: Gate) -> Replica {
        let phase = if gate.is_closed() { Phase::Unready } else { Phase::Ready };
        Replica { phase, gate, ..Replica::ready(name, set) }
    }

    #[allow(clippy::unnecessary_wraps, reason = "as replicas have it")]
    fn drain(progress: Progress) -> Option<Draining> {
        Some(Draining { began: Timestamp::UNIX_EPOCH, progress, proxies: 1 })
    }

    fn old(name: &str) -> Replica {
        pod(name, "old", Gate::Open)
    }

    fn marked(name: &str, gate: Gate) -> Replica {
        Replica { drain: drain(Progress::Idle), marked: true, ..pod(name, "old", gate) }
    }

    fn closed(name: &str) -> Replica {
        marked(name, Gate::Shut { shows: true })
    }

    fn new(name: &str) -> Replica {
        pod(name, "new", Gate::Waiting)
    }

    fn starting(name: &str) -> Replica {
        Replica { passes: false, ..new(name) }
    }

    /// Three replicas, of which so many are of the old template, as ReplicaSets are told.
    fn situation(olds: i32, pods: Vec<Replica>) -> Situation {
        let set = |uid: &str, at, replicas| Set {
            uid: uid.into(),
            created: Timestamp::from_second(at).unwrap(),
            replicas,
            counted: true,
        };
        let sets = vec![set("old", 1, olds), set("new", 2, pods.len() as i32 - olds)];
        Situation { desired: 3, replicas: 3, current: Some("new".into()), sets, pods, unheard: false }
    }

    #[test]
    fn a_new_leader_takes_nothing_back_before_it_has_heard_of_the_proxies() {
        let draining = || Replica { drain: drain(Progress::Begun), ..old("a") };
        let pods = || vec![draining(), old("b"), old("c"), starting("d")];
        assert_eq!(plan(&situation(3, pods())), [Action::Release("a".into())], "the new one fails");
        assert_eq!(plan(&Situation { unheard: true, ..situation(3, pods()) }), []);
    }

    fn planned(pods: Vec<Replica>) -> Vec<Action> {
        let olds = pods.iter().filter(|pod| pod.set == "old").count() as i32;
        plan(&situation(olds, pods))
    }

    fn name(action: fn(String) -> Action, name: &str) -> Vec<Action> {
        vec![action(name.into())]
    }

    #[test]
    fn an_old_replica_goes_once_a_new_one_serves_and_then_the_new_one_counts() {
        let with = |first: Replica, last: Replica| vec![first, old("b"), old("c"), last];
        assert_eq!(planned(with(old("a"), starting("n"))), []);
        assert_eq!(planned(with(old("a"), new("n"))), name(Action::Drain, "a"));
        let draining = Replica { drain: drain(Progress::Acknowledged), ..old("a") };
        assert_eq!(planned(with(draining.clone(), new("n"))), [], "something is in flight");
        let drained = Replica { drain: drain(Progress::Idle), ..draining };
        assert_eq!(planned(with(drained, new("n"))), name(Action::Mark, "a"));
        assert_eq!(planned(with(marked("a", Gate::Open), new("n"))), name(Action::CloseGate, "a"));
        let closing = marked("a", Gate::Shut { shows: false });
        assert_eq!(planned(with(closing, new("n"))), [], "it still counts as ready");
        assert_eq!(planned(with(closed("a"), new("n"))), name(Action::OpenGate, "n"));
        let open = pod("n", "new", Gate::Open);
        assert_eq!(planned(with(closed("a"), open.clone())), [], "the Deployment controller removes a");
        let going = situation(2, with(closed("a"), open.clone()));
        assert_eq!(plan(&going), [], "its ReplicaSet removes a");
        let next = planned(vec![old("b"), old("c"), open, new("m")]);
        assert_eq!(next, name(Action::Drain, "b"));
    }

    #[test]
    fn no_more_gates_open_than_old_replicas_were_drained() {
        let pods = vec![closed("a"), old("b"), old("c"), new("m"), new("n")];
        assert_eq!(planned(pods), [Action::Drain("b".into()), Action::OpenGate("m".into())]);
    }

    #[test]
    fn no_gate_opens_while_what_a_replica_set_says_is_out_of_date() {
        let pods = vec![closed("a"), old("b"), old("c"), new("n")];
        let mut situation = situation(3, pods);
        situation.sets[0].counted = false;
        assert_eq!(plan(&situation), []);
    }

    #[test]
    fn old_replicas_that_are_still_to_come_are_waited_for() {
        assert_eq!(plan(&situation(3, vec![old("a"), old("b"), new("n")])), []);
    }

    #[test]
    fn a_new_replica_that_falls_ill_before_it_counts_gives_the_old_one_back() {
        let pods = vec![closed("a"), old("b"), old("c"), starting("n")];
        assert_eq!(planned(pods), name(Action::Release, "a"));
    }

    #[test]
    fn an_old_replica_that_will_be_removed_is_not_given_back() {
        let ill = Replica { passes: false, ..pod("n", "new", Gate::Open) };
        assert_eq!(planned(vec![closed("a"), old("b"), old("c"), ill]), []);
    }

    #[test]
    fn an_old_replica_that_came_late_counts_while_there_is_room() {
        let late = pod("c", "old", Gate::Waiting);
        assert_eq!(
            planned(vec![old("a"), old("b"), late.clone(), starting("n")]),
            name(Action::OpenGate, "c")
        );
        assert_eq!(
            planned(vec![old("a"), old("b"), late, new("n")]),
            name(Action::Drain, "c"),
            "it goes first"
        );
    }

    #[test]
    fn what_was_leaving_serves_again_when_its_template_is_current_again() {
        let going = Replica { set: "new".into(), ..closed("n") };
        let pods = vec![
            pod("a", "old", Gate::Open),
            pod("l", "new", Gate::Open),
            pod("m", "new", Gate::Open),
            going,
        ];
        assert_eq!(planned(pods), name(Action::Release, "n"));
    }

    #[test]
    fn replicas_of_the_oldest_template_go_first() {
        let mut pods = vec![pod("b", "middle", Gate::Absent), pod("a", "old", Gate::Absent), new("n")];
        pods.push(pod("c", "middle", Gate::Absent));
        let mut situation = situation(1, pods);
        let created = Timestamp::from_second(2).unwrap();
        situation.sets.push(Set { uid: "middle".into(), created, replicas: 2, counted: true });
        assert_eq!(plan(&situation), name(Action::Drain, "a"));
    }

    #[test]
    fn nothing_scales_in_meanwhile_and_more_are_started_at_once() {
        let pods = || vec![old("a"), old("b"), old("c"), starting("n")];
        assert_eq!(plan(&Situation { desired: 1, ..situation(3, pods()) }), []);
        assert_eq!(plan(&Situation { desired: 5, ..situation(3, pods()) }), [Action::Scale(5)]);
    }

    #[test]
    fn a_service_that_is_deleted_drains_all_its_templates() {
        let drains = ["a", "b", "c", "n"].map(|name| Action::Drain(name.into()));
        let pods = vec![old("a"), old("b"), old("c"), starting("n")];
        assert_eq!(plan(&Situation { desired: 0, ..situation(3, pods) }), drains);
    }
}
