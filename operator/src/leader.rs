//! One term of leadership: everything that writes to the cluster or serves proxies starts here and ends with the term.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Client;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::WriterDropped;
use prometheus_client::registry::Registry as Metrology;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::apply::Applier;
use crate::args::Args;
use crate::caches::{Caches, Guarded};
use crate::context::{Context, ProxySettings};
use crate::controller::{self, Reconcile};
use crate::deletion::Deletions;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::object_key::ObjectKey;
use crate::plane::{self, Plane, Term};
use crate::registry::Registry;
use crate::replica_service::templates::Templates;
use crate::status::Statuses;
use crate::wakes::{Inbox, Inboxes, Wakes};
use crate::watches;

/// Parts that run until the term ends; each returns its name if it ends by itself, which it should not.
pub type Parts = JoinSet<&'static str>;

/// From the end of a term that failed to the next.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Why a term cannot begin.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Plane(#[from] plane::Error),
    #[error("a watch ended")]
    Watch(#[from] WriterDropped),
}

/// What outlives a term.
pub struct Operator {
    /// How to reach the API server.
    pub client: Client,
    /// The command line.
    pub args: Args,
    /// Counters of the controllers.
    pub metrics: Metrics,
    /// Counters of push and scaling.
    pub plane_metrics: plane::Metrics,
}

impl Operator {
    /// Registers all metrics of the operator in `registry`.
    pub fn new(client: Client, args: Args, registry: &mut Metrology) -> Self {
        Self {
            client,
            args,
            metrics: Metrics::register(registry),
            plane_metrics: plane::Metrics::register(registry),
        }
    }
}

/// Leads until `stop`, or until a part of it ends that should not. Dropping this future aborts all parts.
pub async fn lead(operator: Arc<Operator>, epoch: u64, stop: CancellationToken) {
    let _leading = Leading::new(&operator.metrics);
    let mut parts = Parts::new();
    tokio::select! {
        () = stop.cancelled() => {}
        () = run(&operator, epoch, &stop, &mut parts) => {
            // Not at once again: what is wrong now is wrong in a moment, too.
            tokio::select! { () = stop.cancelled() => {} () = sleep(RESTART_PAUSE) => {} }
        }
    }
    parts.shutdown().await;
}

/// Shown in the metrics as leading until dropped: a term whose Lease is lost is cut off where it stands.
struct Leading<'a>(&'a Metrics);

impl<'a> Leading<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.set_leader(true);
        Self(metrics)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.set_leader(false);
    }
}

/// Starts all parts and returns when one of them ends.
async fn run(operator: &Operator, epoch: u64, stop: &CancellationToken, parts: &mut Parts) {
    match start(operator, epoch, stop, parts).await {
        Ok(()) => {
            let part = parts.join_next().await;
            error!(?part, "a part of the operator ended; starting over");
        }
        Err(error) => error!(%error, "cannot lead; starting over"),
    }
}

/// Starts all parts. The controllers come last, when everything that exists is known.
async fn start(
    operator: &Operator,
    epoch: u64,
    stop: &CancellationToken,
    parts: &mut Parts,
) -> Result<(), Error> {
    let registry = Arc::new(Registry::default());
    let (client, pod) = (operator.client.clone(), &operator.args.pod_name);
    let events = Arc::new(Events::new(client, pod, operator.metrics.clone()));
    let (caches, wakes, inboxes) = watches::start(&operator.client, &registry, parts);
    let term = Term {
        client: operator.client.clone(),
        args: operator.args.clone(),
        events: events.clone(),
        metrics: operator.plane_metrics.clone(),
        registry: registry.clone(),
        epoch,
        stop: stop.clone(),
    };
    let plane = plane::start(term, parts).await?;
    caches.ready().await?;
    plane.world.ready().await?;
    let context = Arc::new(context(operator, events, caches, registry, plane));
    prime(&context);
    info!(epoch, "everything that exists is known");
    forward(&context, &wakes, parts);
    control(context, inboxes, parts);
    Ok(())
}

fn context(
    operator: &Operator,
    events: Arc<Events>,
    caches: Caches,
    registry: Arc<Registry>,
    plane: Plane,
) -> Context {
    let (client, args, metrics) = (&operator.client, &operator.args, &operator.metrics);
    Context {
        client: client.clone(),
        caches,
        registry,
        plane,
        applier: Applier::new(client.clone(), metrics.clone()),
        templates: Templates::default(),
        deletions: Deletions::default(),
        statuses: Statuses::new(client.clone(), events.clone(), metrics.clone()),
        events,
        metrics: metrics.clone(),
        proxies: ProxySettings {
            image: args.proxy_image.clone(),
            operator_namespace: args.namespace.clone(),
        },
    }
}

/// Accepts everything that is valid, before anything is made from what is accepted: a snapshot without a target group
/// that was not looked at yet would take it away from the proxies.
fn prime(context: &Context) {
    let caches = &context.caches;
    accept(&caches.replica_services, context);
    accept(&caches.target_groups, context);
    accept(&caches.load_balancers, context);
    context.registry.set_complete();
}

fn accept<K: Reconcile>(store: &Store<Guarded<K>>, context: &Context) {
    for object in store.state() {
        if let Ok(object) = &object.0 {
            object.accept(context);
        }
    }
}

/// Reconciles whatever proxies and autoscaler have news of.
fn forward(context: &Arc<Context>, wakes: &Wakes, parts: &mut Parts) {
    let plane = &context.plane;
    parts.spawn(each(plane.push.changes(), wakes.clone(), Wakes::load_balancer_news));
    parts.spawn(each(plane.reports.changes(), wakes.clone(), Wakes::target_group_news));
    parts.spawn(each(plane.targets.changes(), wakes.clone(), Wakes::target_group_news));
    parts.spawn(each(plane.decisions.changes(), wakes.clone(), Wakes::wake_replica_service));
}

async fn each(
    changes: impl Stream<Item = ObjectKey>,
    wakes: Wakes,
    wake: fn(&Wakes, &ObjectKey),
) -> &'static str {
    let mut changes = pin!(changes);
    while let Some(key) = changes.next().await {
        wake(&wakes, &key);
    }
    "news"
}

fn control(context: Arc<Context>, inboxes: Inboxes, parts: &mut Parts) {
    let Inboxes { load_balancers, target_groups, replica_services } = inboxes;
    let caches = &context.caches;
    parts.spawn(controller(caches.load_balancers.clone(), load_balancers, context.clone()));
    parts.spawn(controller(caches.target_groups.clone(), target_groups, context.clone()));
    parts.spawn(controller(caches.replica_services.clone(), replica_services, context.clone()));
}

async fn controller<K: Reconcile>(
    store: Store<Guarded<K>>,
    inbox: Inbox<K>,
    context: Arc<Context>,
) -> &'static str {
    controller::run(store, inbox, context).await;
    std::any::type_name::<K>()
}
