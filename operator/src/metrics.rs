//! What the controllers count.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counters of leadership and reconciliation. They live as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics {
    leader: Gauge,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Durations,
    writes: Family<WriteLabels, Counter>,
    rollbacks: Counter,
}

/// The kinds that are reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Kind {
    /// A LoadBalancer.
    LoadBalancer,
    /// A TargetGroup.
    TargetGroup,
    /// A ReplicaService.
    ReplicaService,
}

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// The cluster is as the object wants it.
    Success,
    /// The object is invalid; nothing happens until it changes.
    Invalid,
    /// Something failed that is tried again.
    Error,
}

/// What became of a write to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum WriteOutcome {
    /// Written.
    Done,
    /// Refused or failed.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: Kind,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    resource: String,
    outcome: WriteOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: Kind,
}

type Durations = Family<KindLabel, Histogram, fn() -> Histogram>;

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            reconciles: Family::default(),
            durations: Durations::new_with_constructor(duration_histogram),
            writes: Family::default(),
            rollbacks: Counter::default(),
        };
        registry.register("leader", "1 while this operator holds the Lease", metrics.leader.clone());
        registry.register("reconciles", "Reconciliations by kind and outcome", metrics.reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "Time from start to end of a reconciliation",
            metrics.durations.clone(),
        );
        registry.register(
            "writes",
            "Writes to the API server by resource (status and events included)",
            metrics.writes.clone(),
        );
        let help = "Templates that failed and gave way to the last good one";
        registry.register("rollbacks", help, metrics.rollbacks.clone());
        metrics
    }

    /// Says whether this operator leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts a reconciliation.
    pub fn reconciled(&self, kind: Kind, outcome: Outcome, took: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { kind, outcome }).inc();
        self.durations.get_or_create(&KindLabel { kind }).observe(took.as_secs_f64());
    }

    /// Counts a template that failed.
    pub fn rolled_back(&self) {
        self.rollbacks.inc();
    }

    /// Counts a write to the API server.
    pub fn wrote(&self, resource: &str, outcome: WriteOutcome) {
        self.writes.get_or_create(&WriteLabels { resource: resource.to_owned(), outcome }).inc();
    }
}

fn duration_histogram() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0])
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn reconciliations_are_counted_by_kind_and_outcome() {
        let mut registry = Registry::with_prefix("evenkeel_operator");
        let metrics = Metrics::register(&mut registry);
        metrics.reconciled(Kind::TargetGroup, Outcome::Success, Duration::from_millis(3));
        metrics.reconciled(Kind::TargetGroup, Outcome::Error, Duration::from_millis(3));
        metrics.set_leader(true);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"evenkeel_operator_reconciles_total{kind="TargetGroup",outcome="Success"} 1"#,
            r#"evenkeel_operator_reconciles_total{kind="TargetGroup",outcome="Error"} 1"#,
            r#"evenkeel_operator_reconcile_duration_seconds_count{kind="TargetGroup"} 2"#,
            "evenkeel_operator_leader 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
