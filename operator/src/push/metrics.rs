//! What pushing counts.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counters of the push server. They live as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Versions sent, one for each proxy that got one.
    pub pushes: Counter,
    /// Versions acknowledged.
    pub acks: Counter,
    /// Resources that proxies rejected.
    pub rejections: Counter,
    /// Streams that are open.
    pub connected: Gauge,
    /// Calls that were refused: no token, or not a proxy's.
    pub refused: Counter,
    /// Messages of proxies that made no sense and were left out.
    pub nonsense: Counter,
    ack_latency: Histogram,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            pushes: Counter::default(),
            acks: Counter::default(),
            rejections: Counter::default(),
            connected: Gauge::default(),
            refused: Counter::default(),
            nonsense: Counter::default(),
            ack_latency: Histogram::new([0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0]),
        };
        registry.register("pushes", "Versions sent, one for each proxy", metrics.pushes.clone());
        registry.register("acks", "Versions acknowledged by proxies", metrics.acks.clone());
        registry.register("rejections", "Resources that proxies rejected", metrics.rejections.clone());
        registry.register("proxies_connected", "Proxies with an open stream", metrics.connected.clone());
        registry.register(
            "push_refused",
            "Calls refused: no token, or not a proxy's",
            metrics.refused.clone(),
        );
        registry.register(
            "push_nonsense",
            "Messages of proxies that made no sense",
            metrics.nonsense.clone(),
        );
        registry.register(
            "ack_latency_seconds",
            "From the event in the cluster to each proxy's acknowledgement of the version with it",
            metrics.ack_latency.clone(),
        );
        metrics
    }

    /// Counts an acknowledgement so long after the event that it answers.
    pub fn acknowledged(&self, since_event: Duration) {
        self.ack_latency.observe(since_event.as_secs_f64());
    }
}
