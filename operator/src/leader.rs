//! One term of leadership: everything that writes to the cluster or serves proxies starts here and ends with the term.

use std::sync::Arc;

use kube::Client;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::args::Args;
use crate::metrics::Metrics;

/// What outlives a term.
pub struct Operator {
    /// How to reach the API server.
    pub client: Client,
    /// The command line.
    pub args: Args,
    /// Counters of the controllers.
    pub metrics: Metrics,
}

impl Operator {
    /// Registers all metrics of the operator in `registry`.
    pub fn new(client: Client, args: Args, registry: &mut Registry) -> Self {
        Self { client, args, metrics: Metrics::register(registry) }
    }
}

/// Leads until `stop`, or until a part of it ends that should not. Dropping this future aborts all parts.
pub async fn lead(operator: Arc<Operator>, _epoch: u64, stop: CancellationToken) {
    operator.metrics.set_leader(true);
    let mut parts: JoinSet<&'static str> = JoinSet::new();
    tokio::select! {
        () = stop.cancelled() => {}
        Some(part) = parts.join_next() => error!(?part, "a part of the operator ended; starting over"),
    }
    parts.shutdown().await;
    operator.metrics.set_leader(false);
}
