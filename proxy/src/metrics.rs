//! What the proxy counts, in Prometheus form.
//!
//! A listener's counters are looked up once, when it is opened ([`Metrics::listener`]), so that a request takes no lock
//! and no allocation to be counted. What is counted by target group and target lives in the core, which the operator's
//! reports read too; [`groups`] shows it at each scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_proxy_api::report::LATENCY_BOUNDS;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use crate::admission::Turned;
use crate::errors::Reason;

pub mod groups;

/// Every family; the registry given to [`Metrics::register`] shows them.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Family<ListenerStatus, Counter>,
    errors: Family<ListenerReason, Counter>,
    duration: Family<ListenerName, Histogram>,
    in_flight: Family<ListenerName, Gauge>,
    connections: Family<ListenerName, Gauge>,
    accepted: Family<ListenerName, Counter>,
    rejected: Family<ListenerReason, Counter>,
    received: Family<ListenerName, Counter>,
    sent: Family<ListenerName, Counter>,
    /// Lines of the access log that the writer could not follow or that could not be written.
    pub access_log_dropped: Counter,
    /// Epoch of the snapshot in force.
    pub snapshot_epoch: Gauge,
    /// Counter of the snapshot in force.
    pub snapshot_counter: Gauge,
    /// When the snapshot in force was applied, in seconds since 1970.
    pub snapshot_applied: Gauge,
    /// How long it took to apply it, in seconds.
    pub snapshot_apply_duration: Gauge<f64, AtomicU64>,
    /// Resources of the last snapshot that were rejected.
    pub snapshot_rejections: Gauge,
    /// 1 while there is a stream to the operator.
    pub control_connected: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ListenerName {
    listener: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ListenerStatus {
    listener: Arc<str>,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ListenerReason {
    listener: Arc<str>,
    reason: &'static str,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// The listener's name.
    pub name: Arc<str>,
    requests: [Counter; CLASSES.len()],
    errors: Vec<Counter>,
    /// From a request's head to the end of its answer.
    pub duration: Histogram,
    /// Requests and TCP sessions.
    pub in_flight: Gauge,
    /// Client connections that are open.
    pub connections: Gauge,
    /// Client connections accepted.
    pub accepted: Counter,
    rejected: [Counter; Turned::ALL.len()],
    /// Bytes from clients.
    pub received: Counter,
    /// Bytes to clients.
    pub sent: Counter,
}

impl ListenerMetrics {
    /// Counts an answer.
    pub fn count_answer(&self, status: u16) {
        if let Some(counter) = self.requests.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }

    /// Counts a client connection that is closed at once.
    pub fn count_turned(&self, turned: Turned) {
        if let Some(counter) = self.rejected.get(turned as usize) {
            counter.inc();
        }
    }

    /// Client connections so far that were closed at once for this reason.
    pub fn turned(&self, turned: Turned) -> u64 {
        self.rejected.get(turned as usize).map_or(0, Counter::get)
    }

    /// Requests so far that no target answered for this reason.
    pub fn errors(&self, reason: Reason) -> u64 {
        self.errors.get(reason as usize).map_or(0, Counter::get)
    }

    /// Counts a request that no target answered.
    pub fn count_error(&self, reason: Reason) {
        if let Some(counter) = self.errors.get(reason as usize) {
            counter.inc();
        }
    }
}

impl Metrics {
    /// The counters of the listener of this name.
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        let name: Arc<str> = name.into();
        let label = ListenerName { listener: name.clone() };
        ListenerMetrics {
            name: name.clone(),
            requests: CLASSES.map(|status| {
                self.requests.get_or_create_owned(&ListenerStatus { listener: name.clone(), status })
            }),
            errors: Reason::ALL
                .iter()
                .map(|reason| {
                    self.errors.get_or_create_owned(&ListenerReason {
                        listener: name.clone(),
                        reason: reason.as_str(),
                    })
                })
                .collect(),
            duration: self.duration.get_or_create_owned(&label),
            in_flight: self.in_flight.get_or_create_owned(&label),
            connections: self.connections.get_or_create_owned(&label),
            accepted: self.accepted.get_or_create_owned(&label),
            rejected: Turned::ALL.map(|turned| {
                let reason = turned.as_str();
                self.rejected.get_or_create_owned(&ListenerReason { listener: name.clone(), reason })
            }),
            received: self.received.get_or_create_owned(&label),
            sent: self.sent.get_or_create_owned(&label),
        }
    }

    /// No longer shows the listener of this name. Whoever still has its counters counts in vain.
    pub fn forget_listener(&self, name: &str) {
        let listener: Arc<str> = name.into();
        for status in CLASSES {
            self.requests.remove(&ListenerStatus { listener: listener.clone(), status });
        }
        for reason in Reason::ALL {
            let reason = reason.as_str();
            self.errors.remove(&ListenerReason { listener: listener.clone(), reason });
        }
        for turned in Turned::ALL {
            let reason = turned.as_str();
            self.rejected.remove(&ListenerReason { listener: listener.clone(), reason });
        }
        let label = ListenerName { listener };
        self.duration.remove(&label);
        for gauges in [&self.in_flight, &self.connections] {
            gauges.remove(&label);
        }
        for counters in [&self.accepted, &self.received, &self.sent] {
            counters.remove(&label);
        }
    }

    /// Shows everything in this registry.
    pub fn register(&self, registry: &mut Registry) {
        self.register_listeners(registry);
        self.register_process(registry);
    }

    fn register_listeners(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests answered, by listener and class of status",
            self.requests.clone(),
        );
        registry.register(
            "errors",
            "Requests that no target answered, by listener and reason",
            self.errors.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a request's head to the end of its answer",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register("in_flight", "Requests and TCP sessions in flight", self.in_flight.clone());
        registry.register("connections", "Client connections that are open", self.connections.clone());
        registry.register("connections_accepted", "Client connections accepted", self.accepted.clone());
        registry.register(
            "connections_rejected",
            "Client connections closed at once, by listener and reason",
            self.rejected.clone(),
        );
        registry.register_with_unit("received", "Read from clients", Unit::Bytes, self.received.clone());
        registry.register_with_unit("sent", "Written to clients", Unit::Bytes, self.sent.clone());
    }

    fn register_process(&self, registry: &mut Registry) {
        registry.register(
            "access_log_dropped",
            "Lines of the access log that the writer could not follow or that could not be written",
            self.access_log_dropped.clone(),
        );
        registry.register("snapshot_epoch", "Epoch of the snapshot in force", self.snapshot_epoch.clone());
        registry.register(
            "snapshot_counter",
            "Counter of the snapshot in force",
            self.snapshot_counter.clone(),
        );
        registry.register_with_unit(
            "snapshot_applied_timestamp",
            "When the snapshot in force was applied",
            Unit::Seconds,
            self.snapshot_applied.clone(),
        );
        registry.register_with_unit(
            "snapshot_apply_duration",
            "How long it took to apply the snapshot in force",
            Unit::Seconds,
            self.snapshot_apply_duration.clone(),
        );
        registry.register(
            "snapshot_rejections",
            "Resources of the last snapshot that were rejected",
            self.snapshot_rejections.clone(),
        );
        registry.register(
            "control_connected",
            "1 while there is a stream to the operator",
            self.control_connected.clone(),
        );
    }
}

/// Counts one in until it is dropped.
#[derive(Debug)]
pub struct Present(Gauge);

impl Present {
    /// Counts one in.
    pub fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts durations in [`LATENCY_BOUNDS`], without a lock.
#[derive(Clone, Default)]
pub struct Histogram(Arc<HistogramCells>);

#[derive(Default)]
struct HistogramCells {
    counts: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").finish_non_exhaustive()
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let index = LATENCY_BOUNDS.partition_point(|bound| *bound < duration);
        if let Some(count) = self.0.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.micros.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }
}

/// Encodes counts by [`LATENCY_BOUNDS`] as Prometheus has histograms. `sum` is in seconds.
pub fn encode_latency(mut encoder: MetricEncoder<'_>, sum: f64, counts: &[u64]) -> fmt::Result {
    let bounds = LATENCY_BOUNDS.iter().map(Duration::as_secs_f64).chain(std::iter::once(f64::MAX));
    let buckets: Vec<_> = bounds.zip(counts.iter().copied()).collect();
    encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
}

impl EncodeMetric for Histogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.0.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let sum = self.0.micros.load(Ordering::Relaxed) as f64 / 1e6;
        encode_latency(encoder, sum, &counts)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut registry = Registry::with_prefix("evenkeel_proxy");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn an_answer_is_counted_by_the_class_of_its_status() {
        let metrics = Metrics::default();
        let listener = metrics.listener("web");
        for status in [200, 204, 404, 503, 700, 0] {
            listener.count_answer(status);
        }
        listener.count_error(Reason::NoTarget);
        let text = text(&metrics);
        for line in [
            r#"evenkeel_proxy_requests_total{listener="web",status="2xx"} 2"#,
            r#"evenkeel_proxy_requests_total{listener="web",status="4xx"} 1"#,
            r#"evenkeel_proxy_requests_total{listener="web",status="5xx"} 1"#,
            r#"evenkeel_proxy_errors_total{listener="web",reason="NoTarget"} 1"#,
            r#"evenkeel_proxy_errors_total{listener="web",reason="BadRequest"} 0"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_listener_that_is_forgotten_leaves_no_series_and_others_stay() {
        let metrics = Metrics::default();
        for name in ["web", "api"] {
            metrics.listener(name);
        }
        metrics.forget_listener("web");
        let text = text(&metrics);
        assert!(!text.contains(r#"listener="web""#), "{text}");
        assert!(text.contains(r#"listener="api""#), "{text}");
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let metrics = Metrics::default();
        let listener = metrics.listener("web");
        for ms in [1, 3, 60_000] {
            listener.duration.observe(Duration::from_millis(ms));
        }
        let text = text(&metrics);
        for line in [
            r#"evenkeel_proxy_request_duration_seconds_bucket{le="0.001",listener="web"} 1"#,
            r#"evenkeel_proxy_request_duration_seconds_bucket{le="0.005",listener="web"} 2"#,
            r#"evenkeel_proxy_request_duration_seconds_bucket{le="+Inf",listener="web"} 3"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
