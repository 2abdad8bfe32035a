//! What the cluster holds, kept in memory by one watch per kind, and who must be reconciled when it changes.
//!
//! The watches run by themselves, so that everything is there before the first reconciliation, and so that one kind's
//! controller can read another kind's objects.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;

use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::{Writer, WriterDropped};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tracing::warn;

use crate::labels;
use crate::registry::Registry;
use crate::wakes::{Inboxes, Wakes};

/// Objects that may not fit the types of this operator: one that does not must not hide the others.
pub type Guarded<K> = DeserializeGuard<K>;

/// The stores.
#[derive(Clone)]
pub struct Caches {
    /// All of them.
    pub load_balancers: Store<Guarded<LoadBalancer>>,
    /// All of them.
    pub target_groups: Store<Guarded<TargetGroup>>,
    /// All of them.
    pub replica_services: Store<Guarded<ReplicaService>>,
    /// Ours.
    pub deployments: Store<Deployment>,
    /// All of them: targets can come from them.
    pub services: Store<Service>,
    /// Ours.
    pub service_accounts: Store<ServiceAccount>,
    /// Ours.
    pub network_policies: Store<NetworkPolicy>,
    /// All of them: two that select one pod make its evictions fail.
    pub disruption_budgets: Store<PodDisruptionBudget>,
    /// All of them: they must not scale what we scale.
    pub autoscalers: Store<HorizontalPodAutoscaler>,
}

struct Writers {
    load_balancers: Writer<Guarded<LoadBalancer>>,
    target_groups: Writer<Guarded<TargetGroup>>,
    replica_services: Writer<Guarded<ReplicaService>>,
    deployments: Writer<Deployment>,
    services: Writer<Service>,
    service_accounts: Writer<ServiceAccount>,
    network_policies: Writer<NetworkPolicy>,
    disruption_budgets: Writer<PodDisruptionBudget>,
    autoscalers: Writer<HorizontalPodAutoscaler>,
}

impl Writers {
    fn start(self, kind: impl Fn(&'static str) -> Kind, parts: &mut JoinSet<&'static str>) {
        let Self {
            load_balancers,
            target_groups,
            replica_services,
            deployments,
            services,
            service_accounts,
            network_policies,
            disruption_budgets: budgets,
            autoscalers,
        } = self;
        let (all, ours) = (watcher::Config::default, || watcher::Config::default().labels(labels::MANAGED));
        parts.spawn(kind("LoadBalancers").watch(load_balancers, all(), by_intent, Wakes::load_balancer));
        parts.spawn(kind("TargetGroups").watch(target_groups, all(), by_intent, Wakes::target_group));
        parts.spawn(kind("ReplicaServices").watch(
            replica_services,
            all(),
            by_intent,
            Wakes::replica_service,
        ));
        parts.spawn(kind("Deployments").watch(deployments, ours(), by_version, Wakes::owned));
        parts.spawn(kind("Services").watch(services, all(), by_version, Wakes::service));
        parts.spawn(kind("ServiceAccounts").watch(service_accounts, ours(), by_version, Wakes::owned));
        parts.spawn(kind("NetworkPolicies").watch(network_policies, ours(), by_version, Wakes::owned));
        parts.spawn(kind("PodDisruptionBudgets").watch(budgets, all(), by_intent, Wakes::disruption_budget));
        parts.spawn(kind("HorizontalPodAutoscalers").watch(autoscalers, all(), by_intent, Wakes::autoscaler));
    }
}

/// What happened to an object.
#[derive(Debug)]
pub enum Change<'a, K> {
    /// It was there when the watch began.
    Found(&'a K),
    /// It appeared or changed.
    Changed(&'a K),
    /// It is gone.
    Gone(&'a K),
}

impl<K> Clone for Change<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Change<'_, K> {}

impl<'a, K> Change<'a, K> {
    /// The object.
    pub fn object(self) -> &'a K {
        match self {
            Self::Found(object) | Self::Changed(object) | Self::Gone(object) => object,
        }
    }
}

impl Caches {
    /// Starts the watches as tasks of `parts`. What they see goes to the wakes, and from there to the inboxes.
    pub fn start(
        client: &Client,
        registry: &Arc<Registry>,
        parts: &mut JoinSet<&'static str>,
    ) -> (Self, Wakes, Inboxes) {
        let (caches, writers) = Self::stores();
        let (wakes, inboxes) = Wakes::new(caches.clone(), registry.clone());
        let kind = |name| Kind { name, client: client.clone(), wakes: wakes.clone() };
        writers.start(kind, parts);
        (caches, wakes, inboxes)
    }

    fn stores() -> (Self, Writers) {
        let (load_balancers, load_balancers_writer) = reflector::store();
        let (target_groups, target_groups_writer) = reflector::store();
        let (replica_services, replica_services_writer) = reflector::store();
        let (deployments, deployments_writer) = reflector::store();
        let (services, services_writer) = reflector::store();
        let (service_accounts, service_accounts_writer) = reflector::store();
        let (network_policies, network_policies_writer) = reflector::store();
        let (disruption_budgets, disruption_budgets_writer) = reflector::store();
        let (autoscalers, autoscalers_writer) = reflector::store();
        let caches = Self {
            load_balancers,
            target_groups,
            replica_services,
            deployments,
            services,
            service_accounts,
            network_policies,
            disruption_budgets,
            autoscalers,
        };
        let writers = Writers {
            load_balancers: load_balancers_writer,
            target_groups: target_groups_writer,
            replica_services: replica_services_writer,
            deployments: deployments_writer,
            services: services_writer,
            service_accounts: service_accounts_writer,
            network_policies: network_policies_writer,
            disruption_budgets: disruption_budgets_writer,
            autoscalers: autoscalers_writer,
        };
        (caches, writers)
    }

    /// Returns once everything was listed. Fails when a watch ended.
    pub async fn ready(&self) -> Result<(), WriterDropped> {
        self.load_balancers.wait_until_ready().await?;
        self.target_groups.wait_until_ready().await?;
        self.replica_services.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.network_policies.wait_until_ready().await?;
        self.disruption_budgets.wait_until_ready().await?;
        self.autoscalers.wait_until_ready().await
    }
}

/// One kind that is watched.
struct Kind {
    name: &'static str,
    client: Client,
    wakes: Wakes,
}

impl Kind {
    /// Keeps a store up to date and wakes whoever cares for a change that `aspect` sees.
    async fn watch<K>(
        self,
        writer: Writer<K>,
        config: watcher::Config,
        aspect: fn(&ObjectMeta) -> u64,
        wake: fn(&Wakes, Change<'_, K>),
    ) -> &'static str
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut mirror = Mirror { store: writer.as_reader(), writer, aspect, seen: HashMap::new() };
        let events = watch(Api::<K>::all(self.client), config)
            .default_backoff()
            .modify(|object| object.meta_mut().managed_fields = None);
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => mirror.take(event, |change| wake(&self.wakes, change)),
                Err(error) => warn!(kind = self.name, %error, "the watch failed; it starts again"),
            }
        }
        self.name
    }
}

/// A store and what was seen of each object when somebody was last woken for it.
struct Mirror<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    store: Store<K>,
    aspect: fn(&ObjectMeta) -> u64,
    seen: HashMap<ObjectRef<K>, u64>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Mirror<K> {
    fn take(&mut self, event: Event<K>, wake: impl Fn(Change<'_, K>)) {
        let before = if matches!(event, Event::InitDone) { self.store.state() } else { Vec::new() };
        self.writer.apply_watcher_event(&event);
        match event {
            Event::Apply(object) => self.present(&object, false, &wake),
            Event::Delete(object) => self.gone(&object, &wake),
            Event::Init | Event::InitApply(_) => {}
            Event::InitDone => {
                for object in self.store.state() {
                    self.present(&object, true, &wake);
                }
                for object in before {
                    if self.store.get(&ObjectRef::from_obj(&*object)).is_none() {
                        self.gone(&object, &wake);
                    }
                }
            }
        }
    }

    fn present(&mut self, object: &K, listed: bool, wake: &impl Fn(Change<'_, K>)) {
        let aspect = (self.aspect)(object.meta());
        match self.seen.insert(ObjectRef::from_obj(object), aspect) {
            Some(seen) if seen == aspect => {}
            None if listed => wake(Change::Found(object)),
            _ => wake(Change::Changed(object)),
        }
    }

    fn gone(&mut self, object: &K, wake: &impl Fn(Change<'_, K>)) {
        self.seen.remove(&ObjectRef::from_obj(object));
        wake(Change::Gone(object));
    }
}

/// What somebody wants of an object: all but its status and what managers note about themselves.
fn by_intent(meta: &ObjectMeta) -> u64 {
    let annotation = |name| meta.annotations.as_ref().and_then(|annotations| annotations.get(name));
    hash(&(
        &meta.uid,
        meta.generation,
        meta.deletion_timestamp.is_some(),
        &meta.finalizers,
        annotation(labels::RESTARTED_AT),
        annotation(labels::LAST_ACCEPTED),
        &meta.labels,
    ))
}

/// Everything.
fn by_version(meta: &ObjectMeta) -> u64 {
    hash(&(&meta.uid, &meta.resource_version))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn account(name: &str, generation: i64, version: &str) -> ServiceAccount {
        ServiceAccount {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                generation: Some(generation),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        }
    }

    /// Feeds the events and says who was woken how.
    fn woken(events: Vec<Event<ServiceAccount>>) -> Vec<String> {
        let (store, writer) = reflector::store();
        let mut mirror = Mirror { writer, store, aspect: by_intent, seen: HashMap::new() };
        let log = RefCell::new(Vec::new());
        for event in events {
            mirror.take(event, |change| {
                let name = change.object().metadata.name.clone().unwrap();
                log.borrow_mut().push(match change {
                    Change::Found(_) => format!("found {name}"),
                    Change::Changed(_) => format!("changed {name}"),
                    Change::Gone(_) => format!("gone {name}"),
                });
            });
        }
        log.into_inner()
    }

    #[test]
    fn a_write_of_the_status_alone_wakes_nobody() {
        let events = vec![
            Event::Init,
            Event::InitApply(account("a", 1, "1")),
            Event::InitDone,
            Event::Apply(account("a", 1, "2")),
            Event::Apply(account("a", 2, "3")),
        ];
        assert_eq!(woken(events), ["found a", "changed a"]);
    }

    #[test]
    fn what_vanished_while_the_watch_was_broken_is_gone() {
        let events = vec![
            Event::Init,
            Event::InitApply(account("a", 1, "1")),
            Event::InitApply(account("b", 1, "1")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(account("b", 1, "1")),
            Event::InitDone,
            Event::Delete(account("b", 1, "2")),
        ];
        let mut log = woken(events);
        log.sort();
        assert_eq!(log, ["found a", "found b", "gone a", "gone b"]);
    }
}
