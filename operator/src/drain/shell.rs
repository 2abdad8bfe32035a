//! Looks at each ReplicaService, plans, and writes the next steps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::plan::{Action, Phase, Replica, Situation, plan};
use super::progress::{Forward, is_drained};
use super::{DELETION_COST, LEAVES_FIRST};
use crate::push::Publisher;
use crate::registry::{Accepted, ObjectKey, Registry, TargetSource, ValidReplicaService};
use crate::targets::{DRAINING, condition};
use crate::world::{World, has_ended, is_rolling_out, may_run};

/// Field manager of what scaling writes.
pub const SCALE_MANAGER: &str = "evenkeel-scale";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// From one look to the next while something is under way, and while nothing is.
const BUSY: Duration = Duration::from_millis(200);
const IDLE: Duration = Duration::from_secs(1);
/// A write that does not show in the caches for so long is not waited for.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);

/// What draining needs.
pub struct Drain {
    /// How to reach the API server.
    pub client: Client,
    /// Pods and Deployments.
    pub world: Arc<World>,
    /// What was accepted.
    pub registry: Arc<Registry>,
    /// What proxies were told, and what they said.
    pub publisher: Arc<Publisher>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the API server did not answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// What was written for a ReplicaService and does not show in the caches yet: what is planned next must see it.
struct Written {
    at: Instant,
    /// Pods and their versions before.
    pods: Vec<(String, Option<String>)>,
    /// The Deployment's number.
    replicas: Option<i32>,
}

impl Default for Written {
    fn default() -> Self {
        Self { at: Instant::now(), pods: Vec::new(), replicas: None }
    }
}

type Unseen = HashMap<ObjectKey, Written>;

/// Brings each Deployment to the number that its ReplicaService wants, for as long as this operator leads.
pub async fn run(drain: Drain) -> &'static str {
    const NAME: &str = "drains";
    drain.registry.complete().await;
    if drain.world.ready().await.is_err() {
        return NAME;
    }
    let mut accepts = drain.registry.changes();
    let mut unseen = Unseen::new();
    loop {
        accepts.mark_unchanged();
        let busy = drain.step(&mut unseen).await;
        tokio::select! {
            () = sleep(if busy { BUSY } else { IDLE }) => {}
            changed = accepts.changed() => if changed.is_err() { return NAME },
        }
    }
}

impl Drain {
    /// One look at everything. Says whether something is under way.
    async fn step(&self, unseen: &mut Unseen) -> bool {
        let accepted = self.registry.read(Clone::clone);
        unseen.retain(|key, written| {
            written.pods.retain(|(name, version)| self.shows(key, name) == *version);
            written.replicas = written.replicas.filter(|replicas| self.replicas(key) != Some(*replicas));
            let is_seen = written.pods.is_empty() && written.replicas.is_none();
            !is_seen && written.at.elapsed() < SHOWS_WITHIN
        });
        let mut busy = !unseen.is_empty();
        for service in accepted.replica_services.values() {
            if unseen.contains_key(&service.key) {
                continue;
            }
            let Some(situation) = self.situation(service, &accepted, Timestamp::now()) else { continue };
            let actions = plan(&situation);
            busy |= !actions.is_empty() || situation.pods.iter().any(|pod| pod.draining);
            self.perform(service, &situation, actions, unseen).await;
        }
        busy
    }

    fn shows(&self, key: &ObjectKey, pod: &str) -> Option<String> {
        self.world.replica(&key.sibling(pod)).and_then(|pod| pod.metadata.resource_version.clone())
    }

    fn replicas(&self, key: &ObjectKey) -> Option<i32> {
        self.world.deployment_of(key)?.spec.as_ref()?.replicas
    }

    /// Where a ReplicaService stands; none while it has no Deployment or nobody said how many there should be.
    fn situation(
        &self,
        service: &ValidReplicaService,
        accepted: &Accepted,
        now: Timestamp,
    ) -> Option<Situation> {
        let deployment = self.world.deployment_of(&service.key)?;
        let ours = deployment.owner_references().iter().any(|owner| owner.uid == service.uid);
        let replicas = deployment.spec.as_ref()?.replicas?;
        let desired = if service.deleting { 0 } else { service.desired?.clamp(service.min, service.max) };
        let forwards = forwards(&service.key, accepted);
        let pods = self.world.replicas_of(&service.key);
        let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod);
        let staying = pods.iter().filter(|pod| stays(pod));
        ours.then(|| Situation {
            desired,
            replicas,
            rollout: !service.deleting && is_rolling_out(&deployment),
            pods: staying.map(|pod| self.replica(pod, &forwards, now)).collect(),
        })
    }

    fn replica(&self, pod: &Pod, forwards: &[(ObjectKey, String, Duration)], now: Timestamp) -> Replica {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let said = self.said(&uid, pod, forwards);
        let annotation = pod.annotations().get(DRAINING);
        // What cannot be read began long ago.
        let began = annotation.map(|time| time.parse().unwrap_or(Timestamp::UNIX_EPOCH));
        Replica {
            name: pod.name_any(),
            zone: self.world.zone(node),
            phase: phase(pod),
            in_flight: said
                .iter()
                .flat_map(|forward| forward.proxies.iter().flatten())
                .map(|said| u64::from(said.count))
                .sum(),
            created: pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            draining: began.is_some(),
            drained: began.is_some_and(|began| is_drained(&said, began, now)),
            marked: pod.annotations().get(DELETION_COST).is_some_and(|cost| cost == LEAVES_FIRST),
            uid,
        }
    }

    /// What proxies say of a replica. One without an address never got anything.
    fn said(&self, uid: &str, pod: &Pod, forwards: &[(ObjectKey, String, Duration)]) -> Vec<Forward> {
        if pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none()) {
            return Vec::new();
        }
        let reports = self.publisher.reports();
        let forward = |(balancer, group, delay): &(ObjectKey, String, Duration)| {
            let proxies = self.world.proxies_of(balancer);
            let started = proxies.iter().filter(|proxy| may_run(proxy));
            Forward {
                deregistration_delay: *delay,
                since: self.publisher.draining_since(balancer, group, uid),
                proxies: started
                    .map(|proxy| reports.in_flight(balancer, proxy.metadata.uid.as_deref()?, group, uid))
                    .collect(),
            }
        };
        forwards.iter().map(forward).collect()
    }

    /// Writes the steps, one after the other. What fails is planned again.
    async fn perform(
        &self,
        service: &ValidReplicaService,
        situation: &Situation,
        actions: Vec<Action>,
        unseen: &mut Unseen,
    ) {
        for action in actions {
            let key = &service.key;
            let done = match &action {
                Action::Scale(replicas) => {
                    let done = self.scale(service, *replicas).await;
                    if done.is_ok() {
                        unseen.entry(key.clone()).or_default().replicas = Some(*replicas);
                    }
                    done
                }
                Action::Drain(name) | Action::Release(name) | Action::Mark(name) => {
                    let Some(pod) = situation.pods.iter().find(|pod| pod.name == *name) else { continue };
                    let before = self.shows(key, name);
                    unseen.entry(key.clone()).or_default().pods.push((name.clone(), before));
                    self.annotate(key, pod, &action).await
                }
            };
            match done {
                Ok(()) => info!(replica_service = %key, ?action, from = situation.replicas, "step"),
                Err(error) => {
                    warn!(replica_service = %key, ?action, %error, "a step failed; it is planned again");
                    break;
                }
            }
        }
    }

    async fn annotate(&self, key: &ObjectKey, pod: &Replica, action: &Action) -> Result<(), Error> {
        let annotations = match action {
            Action::Drain(_) => json!({DRAINING: Timestamp::now().to_string()}),
            Action::Mark(_) => json!({DELETION_COST: LEAVES_FIRST}),
            Action::Release(_) | Action::Scale(_) => json!({DRAINING: null, DELETION_COST: null}),
        };
        let patch = json!({"metadata": {"uid": pod.uid, "annotations": annotations}});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        timeout(REQUEST_TIMEOUT, api.patch_metadata(&pod.name, &manager(), &Patch::Merge(patch))).await??;
        Ok(())
    }

    /// The Deployment's number belongs to its own field manager from the beginning. If the Deployment is another one by
    /// now, its UID makes this fail.
    async fn scale(&self, service: &ValidReplicaService, replicas: i32) -> Result<(), Error> {
        let ObjectKey { namespace, name } = &service.key;
        let uid =
            self.world.deployment_of(&service.key).and_then(|deployment| deployment.metadata.uid.clone());
        let patch = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {"replicas": replicas},
        });
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let apply = PatchParams::apply(SCALE_MANAGER).force();
        timeout(REQUEST_TIMEOUT, api.patch(name, &apply, &Patch::Apply(patch))).await??;
        Ok(())
    }
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(SCALE_MANAGER.into()), ..PatchParams::default() }
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

fn phase(pod: &Pod) -> Phase {
    let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
        Phase::Unassigned
    } else if !running {
        Phase::Pending
    } else if condition(pod, "Ready").is_some_and(|ready| ready.status == "True") {
        Phase::Ready
    } else {
        Phase::Unready
    }
}

#[cfg(test)]
mod tests;
