//! What goes on beside the controllers while this operator leads: targets, push, scaling, drains.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, Client};
use prometheus_client::registry as prometheus;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::auth::TokenReviewer;
use crate::autoscaler::{self, Autoscaler, Decisions};
use crate::ca::{self, Around, Keeper, Pace};
use crate::drain::{self, Drain};
use crate::events::Events;
use crate::eviction::{self, Holds, Warden};
use crate::lost::{self, Search};
use crate::push::endpoint::Ports;
use crate::push::{self, Publisher, PushState, Serving};
use crate::registry::Registry;
use crate::reports::Reports;
use crate::targets::Targets;
use crate::world::World;

/// What one term of leadership is given.
pub struct Term {
    /// How to reach the API server.
    pub client: Client,
    /// The command line.
    pub args: Args,
    /// Where drains, decisions and rotations are told.
    pub events: Arc<Events>,
    /// Counters.
    pub metrics: Metrics,
    /// What was accepted.
    pub registry: Arc<Registry>,
    /// Rises from term to term.
    pub epoch: u64,
    /// Cancelled when nothing must be written or served any more.
    pub stop: CancellationToken,
}

/// What the controllers read.
#[derive(Clone)]
pub struct Plane {
    /// Pods, Deployments, Services.
    pub world: Arc<World>,
    /// What proxies have in force.
    pub push: Arc<PushState>,
    /// What proxies see.
    pub reports: Arc<Reports>,
    /// The targets of target groups.
    pub targets: Arc<Targets>,
    /// What was decided for ReplicaServices.
    pub decisions: Arc<Decisions>,
}

impl Plane {
    fn new(world: Arc<World>) -> Self {
        Self {
            world,
            push: Arc::default(),
            reports: Arc::default(),
            targets: Arc::default(),
            decisions: Arc::default(),
        }
    }

    fn warden(
        &self,
        client: &Client,
        registry: &Arc<Registry>,
        metrics: eviction::Metrics,
        stop: CancellationToken,
    ) -> Warden {
        let (client, world, registry) = (client.clone(), self.world.clone(), registry.clone());
        Warden { client, world, registry, holds: Holds::default(), metrics, stop }
    }

    fn search(
        &self,
        client: &Client,
        registry: &Arc<Registry>,
        metrics: lost::Metrics,
        events: Arc<Events>,
    ) -> Search {
        let (client, world, registry, reports) =
            (client.clone(), self.world.clone(), registry.clone(), self.reports.clone());
        Search { client, events, world, registry, reports, metrics }
    }

    fn around_ca(&self, events: Arc<Events>, metrics: ca::Metrics) -> Around {
        let (world, state) = (self.world.clone(), self.push.clone());
        Around { world, state, events, metrics, pace: Pace::default() }
    }
}

/// Counters. They live as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Of the push server.
    pub push: push::Metrics,
    /// Of the certificate authority.
    pub ca: ca::Metrics,
    /// Of scaling.
    pub scale: autoscaler::Metrics,
    /// Of drains and rollouts.
    pub drain: drain::Metrics,
    /// Of evictions.
    pub eviction: eviction::Metrics,
    /// Of proxies.
    pub lost: lost::Metrics,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut prometheus::Registry) -> Self {
        Self {
            push: push::Metrics::register(registry),
            ca: ca::Metrics::register(registry),
            scale: autoscaler::Metrics::register(registry),
            drain: drain::Metrics::register(registry),
            eviction: eviction::Metrics::register(registry),
            lost: lost::Metrics::register(registry),
        }
    }
}

/// Why a term cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server cannot listen.
    #[error("cannot listen on {1} for {0}: {2}")]
    Listen(&'static str, SocketAddr, std::io::Error),
    /// There is no certificate authority.
    #[error(transparent)]
    Authority(#[from] crate::ca::Error),
}

/// Starts everything as tasks of `parts`; each ends only when something is wrong.
///
/// # Errors
/// When the push address cannot be bound or there is no certificate authority.
pub async fn start(term: Term, parts: &mut JoinSet<&'static str>) -> Result<Plane, Error> {
    let Term { client, args, events, metrics, registry, epoch, stop } = term;
    let secrets = Api::namespaced(client.clone(), &args.namespace);
    let keeper = Box::pin(Keeper::load(secrets, &args.namespace, Timestamp::now())).await?;
    let push = bind("--push-address", args.push_address).await?;
    let webhook = bind("--webhook-address", args.webhook_address).await?;
    let world = World::start(&client, parts);
    let plane = Plane::new(world.clone());
    let (state, reports, targets) = (plane.push.clone(), plane.reports.clone(), plane.targets.clone());
    let publisher = Arc::new(Publisher::new(epoch, state, reports, targets));
    parts.spawn(push::publish(publisher.clone(), world.clone(), registry.clone()));
    let service = push::Service {
        publisher: publisher.clone(),
        world: world.clone(),
        authenticator: Arc::new(TokenReviewer::new(client.clone())),
        metrics: metrics.push,
        stop: stop.clone(),
    };
    parts.spawn(serve(push, keeper.serving(), service));
    let warden = plane.warden(&client, &registry, metrics.eviction, stop);
    parts.spawn(eviction::serve(webhook, keeper.serving(), warden));
    parts.spawn(eviction::trust(client.clone(), keeper.bundle()));
    let ports = Ports { push: args.push_address.port(), webhook: args.webhook_address.port() };
    parts.spawn(push::endpoint::claim(client.clone(), args.namespace, args.pod_ip, ports, world.clone()));
    parts.spawn(ca::publish(client.clone(), registry.clone(), keeper.bundle()));
    parts.spawn(ca::keep(keeper, plane.around_ca(events.clone(), metrics.ca)));
    parts.spawn(lost::run(plane.search(&client, &registry, metrics.lost, events.clone())));
    let scaler = Autoscaler {
        client,
        events,
        world,
        registry,
        publisher,
        decisions: plane.decisions.clone(),
        metrics: metrics.scale,
    };
    scale(scaler, metrics.drain, args.die_after, parts);
    Ok(plane)
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error::Listen(flag, address, error))
}

/// What changes how many replicas there are.
fn scale(
    autoscaler: Autoscaler,
    metrics: drain::Metrics,
    die_after: Option<drain::ActionKind>,
    parts: &mut JoinSet<&'static str>,
) {
    let Autoscaler { client, events, world, registry, publisher, .. } = &autoscaler;
    let (news, told) = mpsc::channel(drain::BACKLOG);
    parts.spawn(drain::tell(told, events.clone()));
    parts.spawn(drain::run(Drain {
        client: client.clone(),
        world: world.clone(),
        registry: registry.clone(),
        publisher: publisher.clone(),
        news,
        metrics,
        die_after,
    }));
    parts.spawn(autoscaler::run(autoscaler));
}

/// Proxies are known by their pods: they are served once those were listed.
async fn serve(listener: TcpListener, serving: Arc<Serving>, service: push::Service) -> &'static str {
    if service.world.ready().await.is_err() {
        return "push server";
    }
    push::serve(listener, serving, service).await
}
