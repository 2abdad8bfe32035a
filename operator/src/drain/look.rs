//! What is in the cluster, as it is needed for planning. From the caches alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;

use super::gate::{self, Gate, Readiness, Silence, Way};
use super::progress::{Drains, Forward, progress};
use super::situation::{Draining, Move, Phase, Replica, Set, Situation};
use super::{DELETION_COST, LEAVES_FIRST};
use crate::labels::EVICTION;
use crate::object_key::ObjectKey;
use crate::push::Publisher;
use crate::registry::{Accepted, TargetSource, ValidReplicaService};
use crate::revision::{current_replica_set, replica_set_of};
use crate::targets::{DRAINING, condition, containers_ready};
use crate::world::{World, has_ended, may_run};

/// What is looked at, at one moment.
pub(super) struct View<'a> {
    pub(super) world: &'a World,
    pub(super) publisher: &'a Publisher,
    pub(super) accepted: &'a Accepted,
    pub(super) silence: &'a Silence,
    pub(super) drains: &'a Drains,
    pub(super) now: Instant,
    pub(super) time: Timestamp,
}

/// The ReplicaSets of a service and their pods.
struct Sets {
    sets: Vec<(Set, Readiness)>,
}

impl View<'_> {
    /// Where a ReplicaService stands; none while it has no Deployment or nobody said how many there should be.
    pub(super) fn situation(&self, service: &ValidReplicaService) -> Option<Situation> {
        let deployment = self.world.deployment_of(&service.key)?;
        let ours = deployment.owner_references().iter().any(|owner| owner.uid == service.uid);
        let replicas = deployment.spec.as_ref().filter(|_| ours)?.replicas?;
        let desired = if service.deleting { 0 } else { service.desired?.clamp(service.min, service.max) };
        let forwards = forwards(&service.key, self.accepted);
        let pods = self.world.replicas_of(&service.key);
        let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod);
        let staying =
            || pods.iter().filter(|pod| stays(pod)).filter_map(|pod| Some((pod, replica_set_of(pod)?)));
        let replica_sets = self.world.replica_sets_of(&deployment);
        let sets = Sets::new(replica_sets.iter().map(|set| &**set), |uid| {
            staying().filter(|(pod, of)| *of == uid && is_ready(pod)).count() as i32
        });
        Some(Situation {
            desired,
            replicas,
            current: current_replica_set(&deployment, &replica_sets).map(str::to_owned),
            pods: staying().map(|(pod, of)| self.replica(pod, (of, sets.readiness(of)), &forwards)).collect(),
            sets: sets.sets.into_iter().map(|(set, _)| set).collect(),
            unheard: forwards.iter().any(|(balancer, ..)| self.is_unheard(balancer)),
        })
    }

    fn is_unheard(&self, balancer: &ObjectKey) -> bool {
        let reports = self.publisher.reports();
        !reports.has_live(balancer, self.now) && !self.silence.lasts(balancer, self.now)
    }

    fn replica(
        &self,
        pod: &Pod,
        (set, readiness): (&str, Readiness),
        forwards: &[(ObjectKey, String, Duration)],
    ) -> Replica {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let said = self.said(&uid, pod, forwards);
        let annotation = pod.annotations().get(DRAINING);
        // What cannot be read began long ago.
        let began = annotation.map(|time| time.parse().unwrap_or(Timestamp::UNIX_EPOCH));
        let gate = Gate::of(pod, readiness, self.time);
        Replica {
            name: pod.name_any(),
            set: set.to_owned(),
            zone: self.world.zone(node),
            phase: phase(pod),
            in_flight: said
                .iter()
                .flat_map(|forward| forward.proxies.iter().flatten())
                .map(|said| u64::from(said.count))
                .sum(),
            created: pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            passes: self.passes(&uid, pod, gate, forwards),
            gate,
            drain: began.map(|began| Draining {
                began,
                progress: progress(&said, self.drains.age(&uid, self.now)),
                proxies: if said.is_empty() { 0 } else { self.proxies(forwards) },
            }),
            moves: self.moves(pod),
            marked: pod.annotations().get(DELETION_COST).is_some_and(|cost| cost == LEAVES_FIRST),
            uid,
        }
    }

    fn moves(&self, pod: &Pod) -> Option<Move> {
        if self.world.is_emptied(pod) {
            return Some(Move::Node);
        }
        pod.annotations().contains_key(EVICTION).then_some(Move::Eviction)
    }

    /// Whether a gate that is closed may open. One that a drain shut was open before: the latch holds.
    fn passes(&self, uid: &str, pod: &Pod, gate: Gate, forwards: &[(ObjectKey, String, Duration)]) -> bool {
        let reports = self.publisher.reports();
        let way = |(balancer, group, _): &(ObjectKey, String, Duration)| Way {
            votes: reports.votes(balancer, group, uid, self.now),
            silent: self.silence.lasts(balancer, self.now),
        };
        match gate {
            Gate::Absent | Gate::Open => true,
            Gate::Shut { .. } => containers_ready(pod),
            Gate::Waiting => {
                containers_ready(pod) && gate::passes(&forwards.iter().map(way).collect::<Vec<_>>())
            }
        }
    }

    /// How many proxies serve the groups, each counted once.
    fn proxies(&self, forwards: &[(ObjectKey, String, Duration)]) -> usize {
        let balancers: BTreeSet<_> = forwards.iter().map(|(balancer, ..)| balancer).collect();
        balancers.into_iter().map(|balancer| self.started(balancer).len()).sum()
    }

    /// The proxies of a load balancer that may run.
    fn started(&self, balancer: &ObjectKey) -> Vec<Arc<Pod>> {
        let mut proxies = self.world.proxies_of(balancer);
        proxies.retain(|proxy| may_run(proxy));
        proxies
    }

    /// What proxies say of a replica. One without an address never got anything.
    fn said(&self, uid: &str, pod: &Pod, forwards: &[(ObjectKey, String, Duration)]) -> Vec<Forward> {
        if pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none()) {
            return Vec::new();
        }
        let reports = self.publisher.reports();
        let forward = |(balancer, group, delay): &(ObjectKey, String, Duration)| {
            let started = self.started(balancer);
            Forward {
                deregistration_delay: *delay,
                since: self.publisher.draining_since(balancer, group, uid),
                proxies: started
                    .iter()
                    .map(|proxy| reports.in_flight(balancer, proxy.metadata.uid.as_deref()?, group, uid))
                    .collect(),
            }
        };
        forwards.iter().map(forward).collect()
    }
}

impl Sets {
    /// Those that run replicas, or are told to; `ready` counts the pods of one that are ready.
    fn new<'a>(sets: impl Iterator<Item = &'a ReplicaSet>, ready: impl Fn(&str) -> i32) -> Self {
        let set = |set: &ReplicaSet| {
            let uid = set.metadata.uid.clone()?;
            let counted = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
            let readiness = Readiness { pods: ready(&uid), counted };
            let created = set.metadata.creation_timestamp.as_ref();
            let created = created.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            let counted = readiness.counted <= readiness.pods;
            Some((Set { uid, created, replicas: told(set), counted }, readiness))
        };
        Self { sets: sets.filter_map(set).collect() }
    }

    fn readiness(&self, uid: &str) -> Readiness {
        let known = self.sets.iter().find(|(set, _)| set.uid == uid);
        // Of a ReplicaSet that is not seen nobody knows whom it counts.
        known.map_or(Readiness { pods: 0, counted: i32::MAX }, |(_, readiness)| *readiness)
    }
}

/// Load balancer, target group and deregistration delay of each way to the replicas of a service.
pub(crate) fn forwards(service: &ObjectKey, accepted: &Accepted) -> Vec<(ObjectKey, String, Duration)> {
    let mut forwards = Vec::new();
    for balancer in accepted.load_balancers.values().filter(|lb| lb.key.namespace == service.namespace) {
        for name in balancer.target_groups() {
            let Some(group) = accepted.target_groups.get(&service.sibling(name)) else { continue };
            if matches!(&group.source, TargetSource::ReplicaService { name, .. } if *name == service.name) {
                forwards.push((balancer.key.clone(), name.to_owned(), group.deregistration_delay));
            }
        }
    }
    forwards
}

/// How many replicas a ReplicaSet runs, or will. One that cannot create any more runs those that it has.
fn told(set: &ReplicaSet) -> i32 {
    let told = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    let Some(status) = &set.status else { return told };
    let mut conditions = status.conditions.iter().flatten();
    let fails = conditions.any(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    if fails { told.min(status.replicas) } else { told }
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

fn phase(pod: &Pod) -> Phase {
    let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
        Phase::Unassigned
    } else if !running {
        Phase::Pending
    } else if is_ready(pod) {
        Phase::Ready
    } else {
        Phase::Unready
    }
}
