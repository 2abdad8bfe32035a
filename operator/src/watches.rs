//! One watch per kind, each by itself: it fills the kind's cache, and says who must be reconciled when an object changes.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tracing::warn;

use crate::caches::{Caches, Change, Writers};
use crate::labels;
use crate::registry::Registry;
use crate::wakes::{Inboxes, Wakes};

/// Starts the watches as tasks of `parts`. What they see goes to the wakes, and from there to the inboxes.
pub fn start(
    client: &Client,
    registry: &Arc<Registry>,
    parts: &mut JoinSet<&'static str>,
) -> (Caches, Wakes, Inboxes) {
    let (caches, writers) = Caches::stores();
    let (wakes, inboxes) = Wakes::new(caches.clone(), registry.clone());
    let kind = |name| Kind { name, client: client.clone(), wakes: wakes.clone() };
    watch_all(writers, kind, parts);
    (caches, wakes, inboxes)
}

fn watch_all(writers: Writers, kind: impl Fn(&'static str) -> Kind, parts: &mut JoinSet<&'static str>) {
    let Writers {
        load_balancers,
        target_groups,
        replica_services,
        deployments,
        services,
        service_accounts,
        network_policies,
        disruption_budgets: budgets,
        autoscalers,
    } = writers;
    let (all, ours) = (watcher::Config::default, || watcher::Config::default().labels(labels::MANAGED));
    parts.spawn(kind("LoadBalancers").watch(load_balancers, all(), by_intent, Wakes::load_balancer));
    parts.spawn(kind("TargetGroups").watch(target_groups, all(), by_intent, Wakes::target_group));
    parts.spawn(kind("ReplicaServices").watch(replica_services, all(), by_intent, Wakes::replica_service));
    parts.spawn(kind("Deployments").watch(deployments, ours(), by_version, Wakes::owned));
    parts.spawn(kind("Services").watch(services, all(), by_version, Wakes::service));
    parts.spawn(kind("ServiceAccounts").watch(service_accounts, ours(), by_version, Wakes::owned));
    parts.spawn(kind("NetworkPolicies").watch(network_policies, ours(), by_version, Wakes::owned));
    parts.spawn(kind("PodDisruptionBudgets").watch(budgets, all(), by_intent, Wakes::disruption_budget));
    parts.spawn(kind("HorizontalPodAutoscalers").watch(autoscalers, all(), by_intent, Wakes::autoscaler));
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

    use k8s_openapi::api::core::v1::ServiceAccount;
    use kube::runtime::reflector;

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
