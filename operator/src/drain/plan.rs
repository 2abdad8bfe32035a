//! The next steps towards the wanted number of replicas. Pure.

use std::collections::HashMap;

use jiff::Timestamp;

use super::gate::Gate;
use super::rollout;
use super::situation::{Action, Replica, Set, Situation};

/// What to do now; at most one step for each pod. Each step shows in the cluster before the next one is planned.
pub fn plan(situation: &Situation) -> Vec<Action> {
    let Situation { desired, replicas, current, sets, pods, unheard } = situation;
    let mut actions = match current {
        None => Vec::new(),
        Some(current) if is_rolling_out(current, sets, pods) => match desired {
            // It is being deleted, and all its templates with it.
            0 => drain(pods.iter().filter(|pod| !pod.is_draining())),
            // What the leader before has begun must not be taken back only because proxies are still to report.
            _ if *unheard => Vec::new(),
            _ => rollout::pace(situation, current),
        },
        Some(current) => return settle(situation, current),
    };
    if desired > replicas {
        actions.push(Action::Scale(*desired));
    }
    actions
}

/// Whether another template than the current one has replicas.
pub fn is_rolling_out(current: &str, sets: &[Set], pods: &[Replica]) -> bool {
    pods.iter().any(|pod| pod.set != current) || sets.iter().any(|set| set.uid != current && set.replicas > 0)
}

/// All replicas are of one template.
fn settle(situation: &Situation, current: &str) -> Vec<Action> {
    let Situation { desired, replicas, sets, pods, .. } = situation;
    let told = sets.iter().find(|set| set.uid == current).map_or(*replicas, |set| set.replicas);
    // The ReplicaSet may have been told to run fewer, although more are wanted by now.
    let going = pods.len().saturating_sub(usize::try_from(told.min(*replicas)).unwrap_or_default());
    let staying = staying(pods, going);
    // For each that must not stay where it is there is one more, until it is gone.
    let wanted = desired + staying.iter().filter(|pod| pod.moves.is_some()).count() as i32;
    let (surplus, missing) = (replicas - wanted, replicas - staying.len() as i32);
    let mut actions = if surplus > 0 && missing > 0 {
        // Some are not there yet: they need not come.
        vec![Action::Scale(replicas - missing.min(surplus))]
    } else {
        change(&staying, situation, surplus)
    };
    if surplus < 0 {
        actions.push(Action::Scale(wanted));
    }
    if going == 0 {
        // Whoever is about to go must not count as ready again.
        let opened = open(pods.iter().filter(|pod| !is_touched(pod, &actions)), usize::MAX);
        actions.extend(opened);
    }
    actions
}

/// Brings those on their way out of which there are too many, or in whose place others serve, and takes others back.
fn change(pods: &[&Replica], situation: &Situation, surplus: i32) -> Vec<Action> {
    let Situation { desired, replicas, unheard, .. } = situation;
    let (moving, others): (Vec<&Replica>, Vec<&Replica>) = pods.iter().partition(|pod| pod.moves.is_some());
    let mut actions = match usize::try_from(surplus) {
        Ok(surplus) if surplus > 0 => leave(&others, surplus, &[], true),
        _ => release(others.into_iter().filter(|pod| pod.is_draining() || pod.marked)),
    };
    if !unheard {
        let serving = pods.iter().filter(|pod| pod.serves()).count();
        actions.extend(move_away(moving, serving, usize::try_from(*desired).unwrap_or_default()));
    }
    let released = actions.iter().any(|action| matches!(action, Action::Release(_)));
    let removed = removed(pods).filter(|_| surplus >= 0 && !released);
    actions.extend(removed.map(|removed| Action::Scale(replicas - removed)));
    actions
}

/// Who serves goes only when another one does in its place; who does not, at once.
fn move_away(moving: Vec<&Replica>, serving: usize, desired: usize) -> Vec<Action> {
    let (bound, free): (Vec<&Replica>, Vec<&Replica>) = moving.into_iter().partition(|pod| pod.serves());
    let free: Vec<&Replica> = free.into_iter().filter(|pod| !pod.may_serve() || serving >= desired).collect();
    let mut actions = leave(&free, free.len(), &[], true);
    actions.extend(leave(&bound, serving.saturating_sub(desired).min(bound.len()), &[], true));
    actions
}

/// How many can be removed, once all that are drained can.
fn removed(pods: &[&Replica]) -> Option<i32> {
    let drained = pods.iter().filter(|pod| pod.is_drained());
    let ready = drained.clone().filter(|pod| pod.can_go()).count();
    (ready > 0 && ready == drained.count()).then_some(ready as i32)
}

/// Without the marked ones that are about to be removed, because there are `extra` more pods than there should be: they
/// are counted already.
pub(super) fn staying<'a>(pods: impl IntoIterator<Item = &'a Replica>, extra: usize) -> Vec<&'a Replica> {
    let (mut marked, mut staying): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.marked);
    marked.sort_by_key(|pod| (!pod.gate.is_closed(), pod.phase));
    staying.extend(marked.into_iter().skip(extra));
    staying
}

/// Brings `surplus` of these on their way out, step by step: drained, marked, gate shut. Of equals those go first whose
/// ReplicaSet is older. Those whose gate is shut already may be needed again only if `safe`: nobody removes them meanwhile.
pub(super) fn leave(pods: &[&Replica], surplus: usize, sets: &[Set], safe: bool) -> Vec<Action> {
    let victims: Vec<&Replica> = pods.iter().copied().filter(|pod| pod.is_draining()).collect();
    if victims.len() > surplus {
        let cancelled = cancel(victims, surplus);
        return release(cancelled.into_iter().filter(|pod| safe || !matches!(pod.gate, Gate::Shut { .. })));
    }
    let mut actions = drain(choose(pods, surplus - victims.len(), sets).into_iter());
    for pod in victims.into_iter().filter(|pod| pod.is_drained()) {
        if !pod.marked {
            actions.push(Action::Mark(pod.name.clone()));
        } else if pod.gate == Gate::Open {
            actions.push(Action::CloseGate(pod.name.clone()));
        }
    }
    actions
}

/// Fewer have to go than are draining: those with most in flight come back.
fn cancel(mut victims: Vec<&Replica>, surplus: usize) -> Vec<&Replica> {
    victims.sort_by_key(|pod| (!pod.can_go(), !pod.marked, !pod.is_drained(), pod.phase, pod.in_flight));
    victims.split_off(surplus)
}

/// Who goes: those that are least far first, and of them those that cannot serve yet; then those that must not stay, then of
/// the oldest template, then from the zone with most replicas the one with fewest in flight.
fn choose<'a>(pods: &[&'a Replica], count: usize, sets: &[Set]) -> Vec<&'a Replica> {
    let made: HashMap<&str, Timestamp> = sets.iter().map(|set| (set.uid.as_str(), set.created)).collect();
    let mut staying: Vec<&Replica> = pods.iter().copied().filter(|pod| !pod.is_draining()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let mut zones: HashMap<&str, usize> = HashMap::new();
        for pod in &staying {
            *zones.entry(&pod.zone).or_default() += 1;
        }
        let crowd = |pod: &Replica| zones.get(pod.zone.as_str()).copied().unwrap_or_default();
        let next = staying.iter().enumerate().min_by_key(|(_, pod)| {
            let (template, youngest) = (made.get(pod.set.as_str()), std::cmp::Reverse(pod.created));
            (
                (pod.phase, pod.may_serve(), pod.moves.is_none(), template),
                (std::cmp::Reverse(crowd(pod)), pod.in_flight, youngest, &pod.name),
            )
        });
        let Some((at, _)) = next else { break };
        chosen.push(staying.swap_remove(at));
    }
    chosen
}

fn drain<'a>(pods: impl Iterator<Item = &'a Replica>) -> Vec<Action> {
    pods.map(|pod| Action::Drain(pod.name.clone())).collect()
}

pub(super) fn release<'a>(pods: impl Iterator<Item = &'a Replica>) -> Vec<Action> {
    pods.map(|pod| Action::Release(pod.name.clone())).collect()
}

/// Opens the gates of replicas that serve, of at most `limit`.
pub(super) fn open<'a>(pods: impl Iterator<Item = &'a Replica>, limit: usize) -> Vec<Action> {
    let serving = pods.filter(|pod| pod.gate.is_closed() && pod.passes && !pod.is_draining());
    serving.take(limit).map(|pod| Action::OpenGate(pod.name.clone())).collect()
}

pub(super) fn is_touched(pod: &Replica, actions: &[Action]) -> bool {
    actions.iter().any(|action| action.pod() == Some(&pod.name))
}

#[cfg(test)]
mod tests {
    use super::super::progress::Progress;
    use super::super::situation::{Draining, Move, Phase};
    use super::*;

    fn pod(name: &str) -> Replica {
        Replica::ready(name, "set")
    }

    fn busy(name: &str, zone: &str, in_flight: u64) -> Replica {
        Replica { zone: zone.into(), in_flight, ..pod(name) }
    }

    fn drain_at(progress: Progress) -> Draining {
        Draining { began: Timestamp::UNIX_EPOCH, progress, proxies: 1 }
    }

    fn draining(name: &str) -> Replica {
        Replica { drain: Some(drain_at(Progress::Acknowledged)), ..pod(name) }
    }

    fn drained(name: &str) -> Replica {
        Replica { drain: Some(drain_at(Progress::Idle)), ..pod(name) }
    }

    fn marked(name: &str) -> Replica {
        Replica { marked: true, ..drained(name) }
    }

    fn closing(name: &str) -> Replica {
        Replica { gate: Gate::Shut { shows: false }, ..marked(name) }
    }

    fn closed(name: &str) -> Replica {
        Replica { gate: Gate::Shut { shows: true }, phase: Phase::Unready, ..marked(name) }
    }

    fn situation(desired: i32, replicas: i32, pods: Vec<Replica>) -> Situation {
        let set = Set { uid: "set".into(), created: Timestamp::UNIX_EPOCH, replicas, counted: true };
        Situation { desired, replicas, current: Some("set".into()), sets: vec![set], pods, unheard: false }
    }

    fn planned(desired: i32, replicas: i32, pods: Vec<Replica>) -> Vec<Action> {
        plan(&situation(desired, replicas, pods))
    }

    fn drain(name: &str) -> Action {
        Action::Drain(name.into())
    }

    fn release(name: &str) -> Action {
        Action::Release(name.into())
    }

    #[test]
    fn a_replica_leaves_step_by_step() {
        let others = || vec![pod("b"), pod("c")];
        let with = |first: Replica| [vec![first], others()].concat();
        assert_eq!(planned(2, 3, vec![busy("a", "", 0), busy("b", "", 1), busy("c", "", 1)]), [drain("a")]);
        assert_eq!(planned(2, 3, with(draining("a"))), [], "it still has something in flight");
        assert_eq!(planned(2, 3, with(drained("a"))), [Action::Mark("a".into())]);
        assert_eq!(planned(2, 3, with(marked("a"))), [Action::CloseGate("a".into())]);
        assert_eq!(planned(2, 3, with(closing("a"))), [], "it still counts as ready");
        assert_eq!(planned(2, 3, with(closed("a"))), [Action::Scale(2)]);
        assert_eq!(planned(2, 2, with(closed("a"))), [], "its ReplicaSet is about to remove it");
        assert_eq!(planned(2, 2, others()), []);
    }

    fn moving(replica: Replica) -> Replica {
        Replica { moves: Some(Move::Node), ..replica }
    }

    fn starting(name: &str) -> Replica {
        Replica { gate: Gate::Waiting, passes: false, phase: Phase::Unready, ..pod(name) }
    }

    #[test]
    fn a_replica_that_must_not_stay_leaves_once_another_one_serves_in_its_place() {
        let b = || pod("b");
        let with = |first: Replica, others: &[Replica]| [vec![moving(first)], others.to_vec()].concat();
        let new = || Replica { created: Timestamp::from_second(1).unwrap(), ..pod("n") };
        assert_eq!(planned(2, 2, with(pod("a"), &[b()])), [Action::Scale(3)]);
        assert_eq!(planned(2, 3, with(pod("a"), &[b()])), [], "the third one is on its way");
        assert_eq!(planned(2, 3, with(pod("a"), &[b(), starting("n")])), []);
        assert_eq!(planned(2, 3, with(pod("a"), &[b(), new()])), [drain("a")]);
        assert_eq!(planned(2, 3, with(draining("a"), &[b(), new()])), []);
        assert_eq!(planned(2, 3, with(drained("a"), &[b(), new()])), [Action::Mark("a".into())]);
        assert_eq!(planned(2, 3, with(marked("a"), &[b(), new()])), [Action::CloseGate("a".into())]);
        assert_eq!(planned(2, 3, with(closed("a"), &[b(), new()])), [Action::Scale(2)]);
        assert_eq!(
            planned(2, 2, with(closed("a"), &[b(), new()])),
            [],
            "its ReplicaSet is about to remove it"
        );
    }

    #[test]
    fn who_must_not_stay_and_does_not_serve_goes_at_once() {
        let pods = vec![moving(starting("a")), pod("b"), pod("c")];
        assert_eq!(planned(3, 4, pods), [drain("a")]);
    }

    #[test]
    fn nobody_who_must_not_stay_is_sent_away_or_taken_back_before_a_new_leader_has_heard_who_serves() {
        let new = || Replica { passes: false, gate: Gate::Waiting, ..pod("n") };
        for (case, first, heard) in [
            ("it serves", moving(pod("a")), vec![drain("a")]),
            ("it drains", moving(draining("a")), vec![]),
            ("it is drained", moving(drained("a")), vec![Action::Mark("a".into())]),
        ] {
            let serving = vec![first.clone(), pod("b"), pod("n")];
            assert_eq!(planned(2, 3, serving), heard, "{case}: the new one serves");
            let unknown = situation(2, 3, vec![first, pod("b"), new()]);
            assert_eq!(
                plan(&Situation { unheard: true, ..unknown }),
                [],
                "{case}: nobody knows of the new one"
            );
        }
    }

    #[test]
    fn fewer_that_are_wanted_spare_a_replacement() {
        assert_eq!(planned(1, 2, vec![moving(pod("a")), pod("b")]), [drain("a")]);
        let pods = vec![moving(pod("a")), pod("b"), pod("c"), starting("n")];
        assert_eq!(planned(2, 4, pods), [drain("n"), drain("a")], "the replacement goes, too");
    }

    #[test]
    fn who_may_stay_after_all_comes_back_and_its_replacement_is_not_needed() {
        let pods = vec![draining("a"), pod("b"), starting("n")];
        assert_eq!(planned(2, 3, pods), [], "one of them is too many, and it is on its way");
        assert_eq!(planned(2, 3, vec![pod("a"), pod("b"), starting("n")]), [drain("n")]);
        assert_eq!(planned(3, 3, vec![draining("a"), pod("b"), pod("c")]), [release("a")]);
    }

    #[test]
    fn all_that_must_not_stay_are_replaced_even_beyond_what_was_wanted() {
        let all = || vec![moving(pod("a")), moving(pod("b"))];
        assert_eq!(planned(2, 2, all()), [Action::Scale(4)]);
        let half = [all(), vec![pod("n"), starting("m")]].concat();
        assert_eq!(planned(2, 4, half), [drain("a")]);
    }

    #[test]
    fn a_replica_without_a_gate_leaves_by_its_cost_alone() {
        let old = Replica { gate: Gate::Absent, ..marked("a") };
        assert_eq!(planned(1, 2, vec![old, pod("b")]), [Action::Scale(1)]);
    }

    #[test]
    fn a_gate_opens_once_the_replica_serves_and_nobody_sends_it_away() {
        let starting = Replica { gate: Gate::Waiting, passes: false, phase: Phase::Unready, ..pod("a") };
        let serving = Replica { passes: true, ..starting.clone() };
        let survivor = Replica { drain: None, marked: false, ..closed("a") };
        let absent = Replica { gate: Gate::Absent, ..serving.clone() };
        let leaving = Replica { drain: Some(drain_at(Progress::Begun)), ..serving.clone() };
        let opens = || vec![Action::OpenGate("a".into())];
        for (case, replica, desired, expected) in [
            ("it does not serve yet", starting, 2, vec![]),
            ("it serves", serving.clone(), 2, opens()),
            ("it was to go, and survived", survivor, 2, opens()),
            ("it has none", absent, 2, vec![]),
            ("it is sent away first", serving, 1, vec![drain("a")]),
            ("it leaves", leaving, 1, vec![]),
        ] {
            assert_eq!(planned(desired, 2, vec![replica, pod("b")]), expected, "{case}");
        }
    }

    #[test]
    fn while_a_change_of_the_deployment_was_not_looked_at_nobody_comes_or_goes() {
        let serving = Replica { gate: Gate::Waiting, ..pod("a") };
        let unclear = |desired| Situation { current: None, ..situation(desired, 2, vec![serving.clone()]) };
        assert_eq!(plan(&unclear(1)), []);
        assert_eq!(plan(&unclear(3)), [Action::Scale(3)]);
    }

    #[test]
    fn who_was_planned_to_go_and_survived_serves_again() {
        assert_eq!(planned(2, 2, vec![closed("a"), pod("b")]), [release("a")]);
        assert_eq!(planned(2, 2, vec![draining("a"), pod("b")]), [release("a")]);
    }

    #[test]
    fn demand_that_comes_back_takes_victims_back_before_new_pods_start() {
        assert_eq!(planned(3, 3, vec![draining("a"), pod("b"), pod("c")]), [release("a")]);
        assert_eq!(
            planned(5, 3, vec![drained("a"), marked("b"), pod("c")]),
            [release("a"), release("b"), Action::Scale(5)]
        );
    }

    #[test]
    fn of_too_many_victims_the_busiest_come_back() {
        let busy = Replica { in_flight: 9, ..draining("a") };
        assert_eq!(planned(3, 4, vec![busy, draining("b"), pod("c"), pod("d")]), [release("a")]);
        assert_eq!(planned(3, 4, vec![draining("a"), drained("b"), pod("c"), pod("d")]), [release("a")]);
    }

    #[test]
    fn those_that_came_least_far_go_first_then_those_with_fewest_in_flight() {
        let at = |name: &str, phase| Replica { phase, ..pod(name) };
        let mut pods = vec![
            busy("busy", "", 5),
            busy("idle", "", 1),
            at("unready", Phase::Unready),
            at("pending", Phase::Pending),
            at("unassigned", Phase::Unassigned),
        ];
        for expected in ["unassigned", "pending", "unready", "idle", "busy"] {
            let replicas = pods.len() as i32;
            assert_eq!(planned(replicas - 1, replicas, pods.clone()), [drain(expected)]);
            pods.retain(|pod| pod.name != expected);
        }
    }

    #[test]
    fn zones_stay_even() {
        let pods = vec![busy("a1", "a", 9), busy("a2", "a", 8), busy("b1", "b", 0), busy("c1", "c", 0)];
        assert_eq!(planned(3, 4, pods.clone()), [drain("a2")]);
        assert_eq!(planned(1, 4, pods), [drain("a2"), drain("b1"), drain("c1")]);
    }

    #[test]
    fn a_gate_that_opened_a_moment_ago_counts_although_its_kubelet_is_on_the_way() {
        let opened =
            Replica { phase: Phase::Unready, created: Timestamp::from_second(9).unwrap(), ..pod("b") };
        assert_eq!(planned(2, 3, vec![pod("a"), opened, starting("c")]), [drain("c")]);
    }

    #[test]
    fn the_youngest_of_equals_goes() {
        let old = pod("old");
        let young = Replica { created: Timestamp::from_second(100).unwrap(), ..pod("young") };
        assert_eq!(planned(1, 2, vec![old, young]), [drain("young")]);
    }

    #[test]
    fn replicas_that_are_not_there_yet_need_not_come() {
        assert_eq!(planned(3, 6, vec![pod("a"), pod("b")]), [Action::Scale(3)]);
        assert_eq!(planned(1, 3, vec![pod("a"), pod("b")]), [Action::Scale(2)]);
    }

    #[test]
    fn each_leaves_as_soon_as_it_is_drained() {
        let pods = vec![closed("a"), draining("b"), pod("c"), pod("d")];
        assert_eq!(planned(2, 4, pods.clone()), [Action::Scale(3)]);
        assert_eq!(planned(2, 3, pods), [], "a is about to be removed, and b goes on draining");
    }
}
