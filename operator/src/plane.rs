//! What goes on beside the controllers while this operator leads: targets, push, scaling, drains.

use std::sync::Arc;

use kube::Client;
use prometheus_client::registry as prometheus;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::autoscaler::Decisions;
use crate::push::{self, PushState};
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

/// Counters. They live as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Of the push server.
    pub push: push::Metrics,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut prometheus::Registry) -> Self {
        Self { push: push::Metrics::register(registry) }
    }
}

/// Why a term cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The push server cannot listen.
    #[error("cannot listen on {0} for --push-address: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
    /// There is no certificate authority.
    #[error(transparent)]
    Authority(#[from] crate::ca::Error),
}

/// Starts everything as tasks of `parts`; each ends only when something is wrong.
///
/// # Errors
/// When the push address cannot be bound or there is no certificate authority.
#[allow(clippy::unused_async, reason = "the certificate authority is read from the cluster")]
pub async fn start(term: Term, parts: &mut JoinSet<&'static str>) -> Result<Plane, Error> {
    let world = World::start(&term.client, parts);
    Ok(Plane {
        world,
        push: Arc::default(),
        reports: Arc::default(),
        targets: Arc::default(),
        decisions: Arc::default(),
    })
}
