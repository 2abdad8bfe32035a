//! Decides each second how many replicas each ReplicaService should have, and writes it to `spec.scaling.desired`.
//!
//! ```text
//! pods, metrics, reports, what was accepted ─inputs─► scale::decide ─► write ─► event, Decisions
//! ```
//!
//! [`drain`](crate::drain) brings the Deployment to that number.

mod decisions;
mod inputs;
mod metrics;
mod service;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use decisions::{DecisionView, Decisions};
pub use metrics::Metrics;

use crate::events::Events;
use crate::object_key::ObjectKey;
use crate::pod_metrics::{Known, follow};
use crate::push::Publisher;
use crate::registry::{Accepted, Registry};
use crate::world::World;
use service::{Moment, Service};
use write::Writer;

const TICK: Duration = Duration::from_secs(1);

/// What scaling needs.
pub struct Autoscaler {
    /// How to reach the API server.
    pub client: Client,
    /// Where it is told.
    pub events: Arc<Events>,
    /// Pods and Deployments.
    pub world: Arc<World>,
    /// What was accepted.
    pub registry: Arc<Registry>,
    /// What proxies say.
    pub publisher: Arc<Publisher>,
    /// Where decisions are shown.
    pub decisions: Arc<Decisions>,
    /// Counters.
    pub metrics: Metrics,
}

/// A namespace whose metrics are followed; until dropped.
struct Followed {
    known: Arc<RwLock<Known>>,
    task: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Decides for as long as this operator leads.
pub async fn run(autoscaler: Autoscaler) -> &'static str {
    const NAME: &str = "autoscaler";
    autoscaler.registry.complete().await;
    if autoscaler.world.ready().await.is_err() {
        return NAME;
    }
    let news = Arc::new(Notify::new());
    let mut followed = HashMap::new();
    let mut services: BTreeMap<ObjectKey, Service> = BTreeMap::new();
    let writer = Writer::new(&autoscaler);
    let mut accepts = autoscaler.registry.changes();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = news.notified() => {}
            changed = accepts.changed() => if changed.is_err() { return NAME },
        }
        let accepted = autoscaler.registry.read(Clone::clone);
        autoscaler.follow(&accepted, &mut followed, &news);
        services.retain(|key, _| accepted.replica_services.contains_key(key));
        autoscaler.decisions.retain(|key| accepted.replica_services.contains_key(key));
        for (key, valid) in &accepted.replica_services {
            let known = followed.get(&key.namespace).map(|followed| followed.known.read().clone());
            let (now, time) = (Instant::now(), Timestamp::now());
            let service = services.entry(key.clone()).or_default();
            let seen = autoscaler.look(valid, &accepted, &known.unwrap_or_default(), (now, time));
            service.tick(valid, seen, Moment { writer: &writer, now, time }).await;
        }
    }
}

impl Autoscaler {
    /// Follows the metrics of the namespaces in which a policy wants them.
    fn follow(&self, accepted: &Accepted, followed: &mut HashMap<String, Followed>, news: &Arc<Notify>) {
        let services = accepted.replica_services.values();
        let wanted: BTreeSet<&String> = services
            .filter(|service| !service.policies.is_empty())
            .map(|service| &service.key.namespace)
            .collect();
        followed.retain(|namespace, _| wanted.contains(namespace));
        for namespace in wanted {
            followed.entry(namespace.clone()).or_insert_with(|| {
                let known = Arc::default();
                let follow =
                    follow(self.client.clone(), namespace.clone(), Arc::clone(&known), Arc::clone(news));
                Followed { known, task: tokio::spawn(follow).abort_handle() }
            });
        }
    }
}
