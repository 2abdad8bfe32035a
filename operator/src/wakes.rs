//! Who must be reconciled when something changed.
//!
//! Whatever happens in a namespace to one of the three kinds concerns the kinds that refer to it or that it refers to.
//! Which ones in particular is not worked out here: a reconciliation that finds nothing to do writes nothing.

use std::sync::Arc;

use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, TargetGroup};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc;

use crate::caches::{Caches, Change, Guarded};
use crate::object_key::{ObjectKey, key};
use crate::registry::{Registry, TargetSource};

/// Where one kind's controller hears what to reconcile.
pub type Inbox<K> = mpsc::UnboundedReceiver<ObjectRef<Guarded<K>>>;

type Outbox<K> = mpsc::UnboundedSender<ObjectRef<Guarded<K>>>;

/// Tells the controllers what to reconcile, and the registry what is gone.
#[derive(Clone)]
pub struct Wakes {
    load_balancers: Outbox<LoadBalancer>,
    target_groups: Outbox<TargetGroup>,
    replica_services: Outbox<ReplicaService>,
    caches: Caches,
    registry: Arc<Registry>,
}

/// The other ends.
pub struct Inboxes {
    /// LoadBalancers to reconcile.
    pub load_balancers: Inbox<LoadBalancer>,
    /// TargetGroups to reconcile.
    pub target_groups: Inbox<TargetGroup>,
    /// ReplicaServices to reconcile.
    pub replica_services: Inbox<ReplicaService>,
}

impl Wakes {
    /// Both ends.
    pub fn new(caches: Caches, registry: Arc<Registry>) -> (Self, Inboxes) {
        let (load_balancers, load_balancer_inbox) = mpsc::unbounded_channel();
        let (target_groups, target_group_inbox) = mpsc::unbounded_channel();
        let (replica_services, replica_service_inbox) = mpsc::unbounded_channel();
        let inboxes = Inboxes {
            load_balancers: load_balancer_inbox,
            target_groups: target_group_inbox,
            replica_services: replica_service_inbox,
        };
        (Self { load_balancers, target_groups, replica_services, caches, registry }, inboxes)
    }

    /// A LoadBalancer changed.
    pub fn load_balancer(&self, change: Change<'_, Guarded<LoadBalancer>>) {
        let object = change.object();
        let namespace = object.namespace().unwrap_or_default();
        if let Change::Gone(_) = change {
            self.registry.write(|accepted| accepted.load_balancers.remove(&key(object)).is_some());
        }
        send(&self.load_balancers, object);
        if let Change::Changed(_) | Change::Gone(_) = change {
            self.all_in(&namespace);
            // Balancers in other namespaces may have waited for a node port of this one.
            for other in self.caches.load_balancers.state() {
                if shares_node_port(object, &other) {
                    send(&self.load_balancers, &*other);
                }
            }
        }
    }

    /// A TargetGroup changed.
    pub fn target_group(&self, change: Change<'_, Guarded<TargetGroup>>) {
        let object = change.object();
        if let Change::Gone(_) = change {
            self.registry.write(|accepted| accepted.target_groups.remove(&key(object)).is_some());
        }
        send(&self.target_groups, object);
        if let Change::Changed(_) | Change::Gone(_) = change {
            self.all_in(&object.namespace().unwrap_or_default());
        }
    }

    /// A ReplicaService changed.
    pub fn replica_service(&self, change: Change<'_, Guarded<ReplicaService>>) {
        let object = change.object();
        if let Change::Gone(_) = change {
            self.registry.write(|accepted| accepted.replica_services.remove(&key(object)).is_some());
        }
        send(&self.replica_services, object);
        if let Change::Changed(_) | Change::Gone(_) = change {
            send_all(
                &self.target_groups,
                &self.caches.target_groups,
                &object.namespace().unwrap_or_default(),
            );
        }
    }

    /// Something that we own changed.
    pub fn owned<K: Resource>(&self, change: Change<'_, K>) {
        let meta = change.object().meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let owners = meta.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
        for owner in owners {
            match owner.kind.as_str() {
                "LoadBalancer" => self.wake_load_balancer(&ObjectKey::new(namespace, &owner.name)),
                "ReplicaService" => self.wake_replica_service(&ObjectKey::new(namespace, &owner.name)),
                _ => {}
            }
        }
    }

    /// A Service changed, ours or another.
    pub fn service(&self, change: Change<'_, Service>) {
        self.owned(change);
        if let Change::Changed(_) | Change::Gone(_) = change {
            let namespace = change.object().namespace().unwrap_or_default();
            send_all(&self.target_groups, &self.caches.target_groups, &namespace);
        }
    }

    /// A PodDisruptionBudget changed, ours or another.
    pub fn disruption_budget(&self, change: Change<'_, PodDisruptionBudget>) {
        self.owned(change);
        if let Change::Changed(_) | Change::Gone(_) = change {
            let namespace = change.object().namespace().unwrap_or_default();
            send_all(&self.replica_services, &self.caches.replica_services, &namespace);
        }
    }

    /// A HorizontalPodAutoscaler changed.
    pub fn autoscaler(&self, change: Change<'_, HorizontalPodAutoscaler>) {
        // All of them: it may have scaled another one before.
        let namespace = change.object().namespace().unwrap_or_default();
        send_all(&self.replica_services, &self.caches.replica_services, &namespace);
    }

    /// The proxies of a LoadBalancer have news. Replicas let a balancer's proxies in until all of them know better.
    pub fn load_balancer_news(&self, key: &ObjectKey) {
        self.wake_load_balancer(key);
        send_all(&self.replica_services, &self.caches.replica_services, &key.namespace);
    }

    /// The targets of a TargetGroup, or their health, changed.
    pub fn target_group_news(&self, key: &ObjectKey) {
        wake(&self.target_groups, key);
        let source = self.registry.read(|accepted| match &accepted.target_groups.get(key)?.source {
            TargetSource::ReplicaService { name, .. } => Some(name.clone()),
            TargetSource::Service { .. } | TargetSource::Addresses(_) => None,
        });
        if let Some(name) = source {
            self.wake_replica_service(&key.sibling(name));
        }
    }

    /// Reconciles one LoadBalancer.
    pub fn wake_load_balancer(&self, key: &ObjectKey) {
        wake(&self.load_balancers, key);
    }

    /// Reconciles one ReplicaService.
    pub fn wake_replica_service(&self, key: &ObjectKey) {
        wake(&self.replica_services, key);
    }

    fn all_in(&self, namespace: &str) {
        send_all(&self.load_balancers, &self.caches.load_balancers, namespace);
        send_all(&self.target_groups, &self.caches.target_groups, namespace);
        send_all(&self.replica_services, &self.caches.replica_services, namespace);
    }
}

// The controllers may have ended already at the end of a term: then nobody is left to hear.
fn send<K>(outbox: &Outbox<K>, object: &Guarded<K>)
where
    K: Resource<DynamicType = ()>,
{
    let _ = outbox.send(ObjectRef::from_obj(object));
}

fn wake<K: Resource<DynamicType = ()>>(outbox: &Outbox<K>, key: &ObjectKey) {
    let _ = outbox.send(ObjectRef::new(&key.name).within(&key.namespace));
}

fn send_all<K>(outbox: &Outbox<K>, store: &Store<Guarded<K>>, namespace: &str)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    for object in store.state() {
        if object.meta().namespace.as_deref() == Some(namespace) {
            send(outbox, &*object);
        }
    }
}

fn shares_node_port(one: &Guarded<LoadBalancer>, other: &Guarded<LoadBalancer>) -> bool {
    let (Ok(one), Ok(other)) = (&one.0, &other.0) else { return false };
    let ports = |balancer: &LoadBalancer| -> Vec<u16> {
        balancer.spec.listeners.iter().filter_map(|listener| listener.node_port).collect()
    };
    let others = ports(other);
    ports(one).iter().any(|port| others.contains(port))
}
