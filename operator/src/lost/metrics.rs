//! What is counted of lost proxies.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counter of proxies that were lost. It lives as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics(Counter);

impl Metrics {
    /// Registers the metric.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self(Counter::default());
        registry.register(
            "proxies_lost",
            "Proxies that neither reported nor answered while Kubernetes counted them as ready",
            metrics.0.clone(),
        );
        metrics
    }

    /// Counts one.
    pub(super) fn lost(&self) {
        self.0.inc();
    }
}
