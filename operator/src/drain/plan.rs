//! The next steps towards the wanted number of replicas. Pure.

use std::collections::HashMap;

use jiff::Timestamp;

/// How far a replica came, in the order in which a ReplicaSet removes them (src: pkg/controller/controller_utils.go,
/// ActivePodsWithRanks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not on a node.
    Unassigned,
    /// On a node, not running.
    Pending,
    /// Running, not ready.
    Unready,
    /// Ready.
    Ready,
}

/// A replica that nobody deleted yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Name of its pod.
    pub name: String,
    /// UID of its pod.
    pub uid: String,
    /// Zone of its node, empty when unknown.
    pub zone: String,
    /// How far it came.
    pub phase: Phase,
    /// In flight at all proxies.
    pub in_flight: u64,
    /// When it was made.
    pub created: Timestamp,
    /// It is annotated as draining.
    pub draining: bool,
    /// Nothing is in flight there any more, or it was given its time.
    pub drained: bool,
    /// Its ReplicaSet removes it first.
    pub marked: bool,
}

/// Where a ReplicaService stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// How many replicas there should be.
    pub desired: i32,
    /// How many the Deployment is told to run.
    pub replicas: i32,
    /// A new template replaces an old one.
    pub rollout: bool,
    /// Replicas that nobody deleted yet.
    pub pods: Vec<Replica>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing new is sent to this pod.
    Drain(String),
    /// This pod serves (again).
    Release(String),
    /// The ReplicaSet removes this pod before others.
    Mark(String),
    /// The Deployment runs so many.
    Scale(i32),
}

/// What to do now. Each step shows in the cluster before the next one is planned.
pub fn plan(situation: &Situation) -> Vec<Action> {
    let Situation { desired, replicas, rollout, pods } = situation;
    let surplus = replicas - desired;
    if surplus <= 0 {
        let mut actions = release_survivors(situation);
        if surplus < 0 {
            actions.push(Action::Scale(*desired));
        }
        return actions;
    }
    if *rollout {
        // The Deployment controller chooses who goes in a rollout: nobody may be half gone then.
        return release(pods.iter().filter(|pod| pod.draining || pod.marked));
    }
    let missing = replicas - pods.len() as i32;
    if missing > 0 {
        // Some are not there yet: they need not come.
        return vec![Action::Scale(replicas - missing.min(surplus))];
    }
    shrink(&staying(pods, -missing as usize), surplus as usize, *replicas)
}

/// Once everyone who should go has gone, or nobody should: whoever is still marked serves again.
fn release_survivors(situation: &Situation) -> Vec<Action> {
    let Situation { desired, replicas, rollout: _, pods } = situation;
    let gone = pods.len() as i32 <= *replicas || desired > replicas;
    // A marked pod is about to be removed as long as there are more pods than there should be.
    release(pods.iter().filter(|pod| if pod.marked { gone } else { pod.draining }))
}

fn release<'a>(pods: impl Iterator<Item = &'a Replica>) -> Vec<Action> {
    pods.map(|pod| Action::Release(pod.name.clone())).collect()
}

/// Without the marked ones that are about to be removed, because there are `extra` more pods than there should be: they
/// are counted already.
fn staying(pods: &[Replica], mut extra: usize) -> Vec<Replica> {
    let mut goes = |pod: &Replica| {
        let goes = pod.marked && extra > 0;
        extra -= usize::from(goes);
        goes
    };
    pods.iter().filter(|pod| !goes(pod)).cloned().collect()
}

fn shrink(pods: &[Replica], surplus: usize, replicas: i32) -> Vec<Action> {
    let victims: Vec<&Replica> = pods.iter().filter(|pod| pod.draining).collect();
    if victims.len() > surplus {
        return cancel(victims, surplus);
    }
    let mut actions: Vec<Action> = choose(pods, surplus - victims.len())
        .into_iter()
        .map(|pod| Action::Drain(pod.name.clone()))
        .collect();
    let drained: Vec<&Replica> = victims.into_iter().filter(|pod| pod.drained).collect();
    let unmarked: Vec<&&Replica> = drained.iter().filter(|pod| !pod.marked).collect();
    if !unmarked.is_empty() {
        actions.extend(unmarked.into_iter().map(|pod| Action::Mark(pod.name.clone())));
    } else if !drained.is_empty() {
        actions.push(Action::Scale(replicas - drained.len() as i32));
    }
    actions
}

/// Fewer have to go than are draining: those with most in flight come back.
fn cancel(mut victims: Vec<&Replica>, surplus: usize) -> Vec<Action> {
    victims.sort_by_key(|pod| (!pod.marked, !pod.drained, pod.phase, pod.in_flight));
    release(victims.into_iter().skip(surplus))
}

/// Who goes: those that are least far first, then from the zone with most replicas the one with fewest in flight.
fn choose(pods: &[Replica], count: usize) -> Vec<&Replica> {
    let mut staying: Vec<&Replica> = pods.iter().filter(|pod| !pod.draining).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let mut zones: HashMap<&str, usize> = HashMap::new();
        for pod in &staying {
            *zones.entry(&pod.zone).or_default() += 1;
        }
        let crowd = |pod: &Replica| zones.get(pod.zone.as_str()).copied().unwrap_or_default();
        let next = staying.iter().enumerate().min_by_key(|(_, pod)| {
            let youngest = std::cmp::Reverse(pod.created);
            (pod.phase, std::cmp::Reverse(crowd(pod)), pod.in_flight, youngest, &pod.name)
        });
        let Some((at, _)) = next else { break };
        chosen.push(staying.swap_remove(at));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Replica {
        Replica {
            name: name.into(),
            uid: format!("uid-{name}"),
            zone: String::new(),
            phase: Phase::Ready,
            in_flight: 0,
            created: Timestamp::UNIX_EPOCH,
            draining: false,
            drained: false,
            marked: false,
        }
    }

    fn busy(name: &str, zone: &str, in_flight: u64) -> Replica {
        Replica { zone: zone.into(), in_flight, ..pod(name) }
    }

    fn draining(name: &str) -> Replica {
        Replica { draining: true, ..pod(name) }
    }

    fn drained(name: &str) -> Replica {
        Replica { drained: true, ..draining(name) }
    }

    fn marked(name: &str) -> Replica {
        Replica { marked: true, ..drained(name) }
    }

    fn planned(desired: i32, replicas: i32, pods: Vec<Replica>) -> Vec<Action> {
        plan(&Situation { desired, replicas, rollout: false, pods })
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
        assert_eq!(planned(2, 3, with(marked("a"))), [Action::Scale(2)]);
        assert_eq!(planned(2, 2, with(marked("a"))), [], "its ReplicaSet is about to remove it");
        assert_eq!(planned(2, 2, others()), []);
    }

    #[test]
    fn who_was_planned_to_go_and_survived_serves_again() {
        assert_eq!(planned(2, 2, vec![marked("a"), pod("b")]), [release("a")]);
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
    fn the_youngest_of_equals_goes() {
        let old = pod("old");
        let young = Replica { created: Timestamp::from_second(100).unwrap(), ..pod("young") };
        assert_eq!(planned(1, 2, vec![old, young]), [drain("young")]);
    }

    #[test]
    fn a_rollout_cancels_drains_and_nothing_scales_in_meanwhile() {
        let pods = vec![draining("a"), marked("b"), pod("c")];
        let situation = Situation { desired: 1, replicas: 3, rollout: true, pods };
        assert_eq!(plan(&situation), [release("a"), release("b")]);
        let pods = vec![pod("a"), pod("b"), pod("c"), pod("surge")];
        assert_eq!(plan(&Situation { desired: 1, replicas: 3, rollout: true, pods: pods.clone() }), []);
        assert_eq!(plan(&Situation { desired: 5, replicas: 3, rollout: true, pods }), [Action::Scale(5)]);
    }

    #[test]
    fn replicas_that_are_not_there_yet_need_not_come() {
        assert_eq!(planned(3, 6, vec![pod("a"), pod("b")]), [Action::Scale(3)]);
        assert_eq!(planned(1, 3, vec![pod("a"), pod("b")]), [Action::Scale(2)]);
    }

    #[test]
    fn each_leaves_as_soon_as_it_is_drained() {
        let pods = vec![marked("a"), draining("b"), pod("c"), pod("d")];
        assert_eq!(planned(2, 4, pods.clone()), [Action::Scale(3)]);
        assert_eq!(planned(2, 3, pods), [], "a is about to be removed, and b goes on draining");
    }

    /// Plays the Deployment and its ReplicaSet: whatever the start, the wanted number is reached, and no pod that was not
    /// drained is removed.
    #[test]
    fn every_start_ends_with_the_wanted_number_of_serving_replicas() {
        for (start, desired) in (1..7).flat_map(|start| (1..7).map(move |desired| (start, desired))) {
            let mut pods: Vec<Replica> = (0..start).map(|at| pod(&format!("p{at}"))).collect();
            let (mut replicas, mut made) = (start, start);
            for _ in 0..40 {
                for action in planned(desired, replicas, pods.clone()) {
                    let mut with = |name: &str, change: fn(&mut Replica)| {
                        pods.iter_mut().filter(|pod| pod.name == name).for_each(change);
                    };
                    match action {
                        Action::Drain(name) => with(&name, |pod| pod.draining = true),
                        Action::Mark(name) => with(&name, |pod| pod.marked = true),
                        Action::Release(name) => with(&name, |pod| {
                            (pod.draining, pod.drained, pod.marked) = (false, false, false);
                        }),
                        Action::Scale(to) => replicas = to,
                    }
                }
                while (pods.len() as i32) < replicas {
                    pods.push(pod(&format!("p{made}")));
                    made += 1;
                }
                while pods.len() as i32 > replicas {
                    pods.sort_by_key(|pod| !pod.marked);
                    let gone = pods.remove(0);
                    assert!(gone.drained, "{start} to {desired}: {} was not drained", gone.name);
                }
                pods.iter_mut().filter(|pod| pod.draining).for_each(|pod| pod.drained = true);
            }
            let serving = pods.iter().filter(|pod| !pod.draining).count() as i32;
            assert_eq!((serving, replicas), (desired, desired), "from {start}");
        }
    }
}
