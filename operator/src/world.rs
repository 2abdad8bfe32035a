//! What runs in the cluster, kept in memory by one watch per kind, cut down to what is read here.

mod trim;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::store::{Writer, WriterDropped};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, watch as channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use crate::labels::{self, LOAD_BALANCER, REPLICA_SERVICE};
use crate::nodes::is_emptied;
use crate::object_key::ObjectKey;

/// On a node: the zone it is in.
const ZONE: &str = "topology.kubernetes.io/zone";
/// EndpointSlices say with this label which Service they belong to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The stores.
pub struct World {
    /// Pods of ReplicaServices.
    pub replicas: Store<Pod>,
    /// Pods of LoadBalancers.
    pub proxies: Store<Pod>,
    /// Endpoints of all Services.
    pub slices: Store<EndpointSlice>,
    /// All Services: their ports' names and numbers.
    pub services: Store<Service>,
    /// All nodes: their zones, and whether somebody empties them.
    pub nodes: Store<Node>,
    /// Deployments of ReplicaServices.
    pub deployments: Store<Deployment>,
    /// ReplicaSets of those Deployments.
    pub replica_sets: Store<ReplicaSet>,
    pulse: Arc<Pulse>,
    listed: OnceCell<()>,
}

/// Says what changed, and since when somebody waits to hear of it.
#[derive(Debug)]
pub struct Pulse {
    count: channel::Sender<u64>,
    untold: Mutex<Beats>,
}

/// What changed since somebody asked last.
#[derive(Debug, Default)]
pub struct Beats {
    /// When the first of the changes came; none when nothing changed.
    pub since: Option<Instant>,
    everywhere: bool,
    namespaces: BTreeSet<String>,
}

impl Beats {
    /// Whether something in this namespace may have changed.
    pub fn concern(&self, namespace: &str) -> bool {
        self.everywhere || self.namespaces.contains(namespace)
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self { count: channel::Sender::new(0), untold: Mutex::default() }
    }
}

impl Pulse {
    /// Something changed in a namespace, or anywhere.
    pub fn beat(&self, namespace: Option<&str>) {
        let mut untold = self.untold.lock();
        untold.since.get_or_insert_with(Instant::now);
        match namespace {
            None => untold.everywhere = true,
            Some(namespace) if untold.namespaces.contains(namespace) => {}
            Some(namespace) => drop(untold.namespaces.insert(namespace.to_owned())),
        }
        drop(untold);
        self.count.send_modify(|count| *count += 1);
    }

    /// Changes with each beat.
    pub fn subscribe(&self) -> channel::Receiver<u64> {
        self.count.subscribe()
    }

    /// What was not asked for yet.
    pub fn take(&self) -> Beats {
        std::mem::take(&mut *self.untold.lock())
    }
}

/// Where the watches write.
pub struct Writers {
    /// Pods of ReplicaServices.
    pub replicas: Writer<Pod>,
    /// Pods of LoadBalancers.
    pub proxies: Writer<Pod>,
    /// Endpoints of all Services.
    pub slices: Writer<EndpointSlice>,
    /// All Services.
    pub services: Writer<Service>,
    /// All nodes.
    pub nodes: Writer<Node>,
    /// Deployments of ReplicaServices.
    pub deployments: Writer<Deployment>,
    /// ReplicaSets of those Deployments.
    pub replica_sets: Writer<ReplicaSet>,
}

impl World {
    /// Empty stores, and where to write what they hold.
    pub fn new() -> (Self, Writers) {
        let (replicas, replicas_writer) = reflector::store();
        let (proxies, proxies_writer) = reflector::store();
        let (slices, slices_writer) = reflector::store();
        let (services, services_writer) = reflector::store();
        let (nodes, nodes_writer) = reflector::store();
        let (deployments, deployments_writer) = reflector::store();
        let (replica_sets, replica_sets_writer) = reflector::store();
        let world = Self {
            replicas,
            proxies,
            slices,
            services,
            nodes,
            deployments,
            replica_sets,
            pulse: Arc::default(),
            listed: OnceCell::new(),
        };
        let writers = Writers {
            replicas: replicas_writer,
            proxies: proxies_writer,
            slices: slices_writer,
            services: services_writer,
            nodes: nodes_writer,
            deployments: deployments_writer,
            replica_sets: replica_sets_writer,
        };
        (world, writers)
    }

    /// Starts the watches as tasks of `parts`.
    pub fn start(client: &Client, parts: &mut JoinSet<&'static str>) -> Arc<Self> {
        let (world, writers) = Self::new();
        let all = watcher::Config::default;
        let with = |label: &str| all().labels(label);
        let pulse = || Some(world.pulse.clone());
        let pods = || Api::<Pod>::all(client.clone());
        parts.spawn(keep(
            "replicas' pods",
            watch(pods(), with(REPLICA_SERVICE)),
            writers.replicas,
            trim::pod,
            pulse(),
        ));
        parts.spawn(keep(
            "proxies' pods",
            watch(pods(), with(LOAD_BALANCER)),
            writers.proxies,
            trim::pod,
            pulse(),
        ));
        parts.spawn(keep(
            "EndpointSlices",
            watch(Api::all(client.clone()), with(SERVICE_NAME)),
            writers.slices,
            trim::meta,
            pulse(),
        ));
        let services = watch(Api::all(client.clone()), all());
        parts.spawn(keep("Services", services, writers.services, trim::service, pulse()));
        let nodes = watch(Api::<Node>::all(client.clone()), all());
        parts.spawn(keep("Nodes", nodes, writers.nodes, trim::node, None));
        let deployments = watch(Api::all(client.clone()), with(REPLICA_SERVICE));
        parts.spawn(keep("Deployments", deployments, writers.deployments, trim::deployment, None));
        let replica_sets = watch(Api::all(client.clone()), with(REPLICA_SERVICE));
        parts.spawn(keep("ReplicaSets", replica_sets, writers.replica_sets, trim::replica_set, None));
        Arc::new(world)
    }

    /// Returns once everything was listed. Fails when a watch ended.
    pub async fn ready(&self) -> Result<(), WriterDropped> {
        // One waits at a time: a store wakes only the last of several that wait for it.
        self.listed.get_or_try_init(|| self.list()).await.copied()
    }

    async fn list(&self) -> Result<(), WriterDropped> {
        self.replicas.wait_until_ready().await?;
        self.proxies.wait_until_ready().await?;
        self.slices.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.nodes.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.replica_sets.wait_until_ready().await
    }

    /// Beats when something changed that targets are made of.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// The pods of a ReplicaService.
    pub fn replicas_of(&self, key: &ObjectKey) -> Vec<Arc<Pod>> {
        self.replicas.state_filter(|pod| belongs(pod, REPLICA_SERVICE, key, &key.name))
    }

    /// A pod of a ReplicaService, by the pod's name.
    pub fn replica(&self, key: &ObjectKey) -> Option<Arc<Pod>> {
        self.replicas.get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// The pods of a load balancer's proxies whose containers have not ended.
    pub fn proxies_of(&self, key: &ObjectKey) -> Vec<Arc<Pod>> {
        let deployment = labels::proxy(&key.name);
        self.proxies.state_filter(|pod| belongs(pod, LOAD_BALANCER, key, &deployment) && !has_ended(pod))
    }

    /// The pods of all load balancers' proxies whose containers have not ended, and whose they are.
    pub fn all_proxies(&self) -> Vec<(ObjectKey, Arc<Pod>)> {
        let pods = self.proxies.state().into_iter().filter(|pod| !has_ended(pod));
        let named = pods.filter_map(|pod| Some((proxy_identity(&pod)?.0, pod)));
        named.filter(|(key, pod)| belongs(pod, LOAD_BALANCER, key, &labels::proxy(&key.name))).collect()
    }

    /// The Deployment of a ReplicaService.
    pub fn deployment_of(&self, key: &ObjectKey) -> Option<Arc<Deployment>> {
        self.deployments.get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// The ReplicaSets of a ReplicaService's Deployment: one for each template that it had.
    pub fn replica_sets_of(&self, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
        let uid = deployment.metadata.uid.as_ref();
        self.replica_sets.state_filter(|set| {
            set.metadata.namespace == deployment.metadata.namespace
                && set.owner_references().iter().any(|owner| Some(&owner.uid) == uid)
        })
    }

    /// The zone of a node; empty when unknown.
    pub fn zone(&self, node: &str) -> String {
        let node = self.nodes.get(&ObjectRef::new(node));
        node.and_then(|node| node.labels().get(ZONE).cloned()).unwrap_or_default()
    }

    /// Whether somebody empties the node that a pod is on.
    pub fn is_emptied(&self, pod: &Pod) -> bool {
        let node =
            pod.spec.as_ref().and_then(|spec| self.nodes.get(&ObjectRef::new(spec.node_name.as_ref()?)));
        node.is_some_and(|node| is_emptied(&node, pod))
    }
}

/// Whether a pod is one of a Deployment's, and goes when its scale is lowered. The label alone says little: anyone may put
/// it on a pod, or on a copy of a replica.
fn belongs(pod: &Pod, label: &str, key: &ObjectKey, deployment: &str) -> bool {
    pod.metadata.namespace.as_deref() == Some(&key.namespace)
        && pod.labels().get(label) == Some(&key.name)
        && is_of_deployment(pod, deployment)
}

/// A Deployment's ReplicaSets have its name and a hash.
fn is_of_deployment(pod: &Pod, deployment: &str) -> bool {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let name = owner.filter(|owner| owner.kind == "ReplicaSet").map(|owner| owner.name.as_str());
    let hash = name.and_then(|name| name.strip_prefix(deployment)?.strip_prefix('-'));
    hash.is_some_and(|hash| !hash.is_empty() && !hash.contains('-'))
}

/// The load balancer that a proxy's pod belongs to, and the pod's UID.
pub fn proxy_identity(pod: &Pod) -> Option<(ObjectKey, String)> {
    let name = pod.labels().get(LOAD_BALANCER)?;
    Some((ObjectKey::new(pod.namespace()?, name), pod.metadata.uid.clone()?))
}

/// Whether a container of a pod may be running. One that waits to be started again has nothing in flight.
pub fn may_run(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut containers = status.container_statuses.iter().flatten().peekable();
    let begun = status.phase.as_deref() != Some("Pending");
    begun && (containers.peek().is_none() || containers.any(is_running))
}

fn is_running(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// Whether a pod's containers have all ended for good.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Keeps a store up to date for as long as the process leads.
async fn keep<K>(
    name: &'static str,
    events: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
    mut writer: Writer<K>,
    trim: fn(&mut K),
    pulse: Option<Arc<Pulse>>,
) -> &'static str
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut events = pin!(events.default_backoff().modify(trim));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                writer.apply_watcher_event(&event);
                let Some(pulse) = &pulse else { continue };
                match &event {
                    Event::Apply(object) | Event::Delete(object) => {
                        pulse.beat(object.meta().namespace.as_deref());
                    }
                    Event::InitDone => pulse.beat(None),
                    Event::Init | Event::InitApply(_) => {}
                }
            }
            Err(error) => warn!(kind = name, %error, "the watch failed; it starts again"),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_of_the_deployments_own_replica_sets_belong_to_it() {
        let owned = |kind: &str, name: &str| {
            let owner = serde_json::json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true});
            let pod = serde_json::json!({"metadata": {"name": "p", "ownerReferences": [owner]}});
            is_of_deployment(&serde_json::from_value(pod).unwrap(), "api")
        };
        assert!(owned("ReplicaSet", "api-7d9c6b5f4"));
        for (kind, name) in [
            ("ReplicaSet", "api-v2-7d9c6b5f4"),
            ("ReplicaSet", "thief-1"),
            ("ReplicaSet", "api"),
            ("Job", "api-1"),
        ] {
            assert!(!owned(kind, name), "{kind} {name}");
        }
        assert!(!is_of_deployment(&Pod::default(), "api"), "a pod of nobody's");
    }

    #[tokio::test(start_paused = true)]
    async fn everyone_who_waits_for_the_lists_hears_of_them() {
        let (world, mut writers) = World::new();
        let world = Arc::new(world);
        let mut waiting = JoinSet::new();
        for _ in 0..4 {
            let world = world.clone();
            waiting.spawn(async move { world.ready().await });
            tokio::task::yield_now().await;
        }
        writers.replicas.apply_watcher_event(&Event::InitDone);
        writers.proxies.apply_watcher_event(&Event::InitDone);
        writers.slices.apply_watcher_event(&Event::InitDone);
        writers.services.apply_watcher_event(&Event::InitDone);
        writers.nodes.apply_watcher_event(&Event::InitDone);
        writers.deployments.apply_watcher_event(&Event::InitDone);
        assert!(waiting.try_join_next().is_none(), "the ReplicaSets are missing");
        writers.replica_sets.apply_watcher_event(&Event::InitDone);
        let all = tokio::time::timeout(std::time::Duration::from_secs(60), waiting.join_all()).await;
        assert!(all.is_ok_and(|all| all.iter().all(Result::is_ok)));
    }
}
