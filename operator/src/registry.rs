//! What the controllers accepted last, by object: the one input of snapshots and scaling.
//!
//! The controllers write here after `validate`; an object that is invalid now keeps its last valid entry, so that what
//! served goes on serving. Nothing that snapshots and scaling read from here is a custom resource's spec.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_proxy_api::snapshot;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::last_accepted::Versions;
use crate::object_key::ObjectKey;

/// A LoadBalancer whose spec holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidLoadBalancer {
    /// Which.
    pub key: ObjectKey,
    /// UID of the object.
    pub uid: String,
    /// The generation that was validated.
    pub generation: i64,
    /// Its listeners by name, as the proxies will get them.
    pub listeners: BTreeMap<String, snapshot::Listener>,
}

impl ValidLoadBalancer {
    /// Names of the target groups that any rule forwards to, each once, in order.
    pub fn target_groups(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self
            .listeners
            .values()
            .flat_map(|listener| {
                listener.rules.iter().map(|rule| &rule.action).chain([&listener.default_action])
            })
            .filter_map(|action| match action {
                snapshot::Action::Forward { target_groups } => Some(target_groups),
                snapshot::Action::Redirect(_) | snapshot::Action::FixedResponse(_) => None,
            })
            .flatten()
            .map(|group| group.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter()
    }
}

/// A TargetGroup whose spec holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidTargetGroup {
    /// Which.
    pub key: ObjectKey,
    /// The generation that was validated.
    pub generation: i64,
    /// What the targets speak.
    pub protocol: snapshot::TargetProtocol,
    /// How one is chosen.
    pub algorithm: snapshot::Algorithm,
    /// How their health is checked.
    pub health_check: snapshot::HealthCheck,
    /// Upper bound of a drain.
    pub deregistration_delay: Duration,
    /// Where the targets come from.
    pub source: TargetSource,
    /// The object is being deleted: all its targets drain, nothing new is sent there.
    pub deleting: bool,
}

/// Where targets come from.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetSource {
    /// The pods of a ReplicaService in the same namespace.
    ReplicaService {
        /// Its name.
        name: String,
        /// Port of the pods.
        port: Port,
    },
    /// The endpoints of a Service in the same namespace.
    Service {
        /// Its name.
        name: String,
        /// Port of the Service.
        port: Port,
    },
    /// Fixed, as the proxies will get them.
    Addresses(Vec<snapshot::Target>),
}

/// A port by number or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// From 1 to 65535.
    Number(u16),
    /// The name of a container's or a Service's port.
    Name(String),
}

/// A ReplicaService whose spec holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidReplicaService {
    /// Which.
    pub key: ObjectKey,
    /// UID of the object.
    pub uid: String,
    /// The generation that was validated.
    pub generation: i64,
    /// Never fewer.
    pub min: i32,
    /// Never more.
    pub max: i32,
    /// What `spec.scaling.desired` says now, not clamped; absent until somebody wrote it.
    pub desired: Option<i32>,
    /// Policies change nothing.
    pub paused: bool,
    /// What calls for more or fewer replicas.
    pub policies: Vec<ValidPolicy>,
    /// How long scaling out must have been called for.
    pub scale_out_stabilization: Duration,
    /// How long scaling in must have been called for.
    pub scale_in_stabilization: Duration,
    /// How long a new replica's metrics say nothing about the load.
    pub warmup: Duration,
    /// Containers of the template without a CPU request, sidecar init containers included.
    pub containers_without_cpu_request: Vec<String>,
    /// The object is being deleted: all its replicas drain, nothing new is sent there, and nothing scales.
    pub deleting: bool,
}

#[cfg(test)]
impl ValidReplicaService {
    /// From 1 to 10 replicas, without policies.
    pub(crate) fn of(key: ObjectKey, desired: Option<i32>) -> Self {
        Self {
            key,
            uid: "uid".into(),
            generation: 1,
            min: 1,
            max: 10,
            desired,
            paused: false,
            policies: Vec::new(),
            scale_out_stabilization: Duration::ZERO,
            scale_in_stabilization: Duration::ZERO,
            warmup: Duration::ZERO,
            containers_without_cpu_request: Vec::new(),
            deleting: false,
        }
    }
}

/// Keep CPU utilisation at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidPolicy {
    /// Its name.
    pub name: String,
    /// In percent of the CPU requests.
    pub cpu_target_percent: u16,
}

/// Everything that was accepted.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// By key.
    pub load_balancers: BTreeMap<ObjectKey, Arc<ValidLoadBalancer>>,
    /// By key.
    pub target_groups: BTreeMap<ObjectKey, Arc<ValidTargetGroup>>,
    /// By key.
    pub replica_services: BTreeMap<ObjectKey, Arc<ValidReplicaService>>,
}

/// Shared by controllers, snapshots and scaling.
#[derive(Debug)]
pub struct Registry {
    /// What was accepted as it was written, for what becomes invalid.
    pub versions: Versions,
    accepted: RwLock<Accepted>,
    changed: watch::Sender<u64>,
    complete: watch::Sender<bool>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            versions: Versions::default(),
            accepted: RwLock::default(),
            changed: watch::Sender::new(0),
            complete: watch::Sender::new(false),
        }
    }
}

impl Registry {
    /// Runs `read` on what is accepted now. Keep it short: writers wait.
    pub fn read<T>(&self, read: impl FnOnce(&Accepted) -> T) -> T {
        read(&self.accepted.read())
    }

    /// Changes what is accepted; `write` says whether it did, and then everyone who waits is told.
    pub fn write(&self, write: impl FnOnce(&mut Accepted) -> bool) {
        if write(&mut self.accepted.write()) {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Says that every object that existed when this term began was looked at.
    pub fn set_complete(&self) {
        self.complete.send_replace(true);
    }

    /// Returns once every object that existed when this term began was looked at. What is made from the registry
    /// before says too little: a snapshot would take away what serves.
    pub async fn complete(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Changes whenever something was accepted or removed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
