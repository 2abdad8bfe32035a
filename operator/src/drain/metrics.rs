//! What draining counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::situation::Action;
use super::story::{News, Step};

/// Bounds of the histogram of drains, in seconds.
const DURATIONS: [f64; 11] = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Counters of readiness gates, drains and rollouts. They live as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics {
    gates: Family<GateLabels, Counter>,
    rollouts: Counter,
    drains: Family<DrainLabels, Counter>,
    durations: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrainLabels {
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Removed,
    Cancelled,
    Overdue,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GateLabels {
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Change {
    Opened,
    Closed,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            gates: Family::default(),
            rollouts: Counter::default(),
            drains: Family::default(),
            durations: Histogram::new(DURATIONS),
        };
        registry.register("gates", "Readiness gates of replicas opened and closed", metrics.gates.clone());
        registry.register("rollouts", "Rollouts that were paced", metrics.rollouts.clone());
        registry.register("drains", "Drains of replicas by what became of them", metrics.drains.clone());
        let help = "From the choice of a replica to its removal";
        registry.register("drain_duration_seconds", help, metrics.durations.clone());
        metrics
    }

    /// Counts a step that was taken.
    pub(super) fn took(&self, action: &Action) {
        let change = match action {
            Action::OpenGate(_) => Change::Opened,
            Action::CloseGate(_) => Change::Closed,
            Action::Drain(_) | Action::Release(_) | Action::Mark(_) | Action::Scale(_) => return,
        };
        self.gates.get_or_create(&GateLabels { change }).inc();
    }

    /// Counts a step of a drain that was seen.
    pub(super) fn told(&self, news: &News) {
        let outcome = match news.step {
            Step::Removed => Outcome::Removed,
            Step::Cancelled => Outcome::Cancelled,
            Step::Overdue(_) => Outcome::Overdue,
            Step::Lost => Outcome::Lost,
            Step::Begun(_) | Step::Acknowledged(_) | Step::Idle => return,
        };
        self.drains.get_or_create(&DrainLabels { outcome }).inc_by(news.replicas.len() as u64);
        if outcome == Outcome::Removed {
            news.replicas
                .iter()
                .filter_map(|(_, took)| *took)
                .for_each(|took| self.durations.observe(took.as_secs_f64()));
        }
    }

    /// Counts a rollout that begins.
    pub(super) fn rollout(&self) {
        self.rollouts.inc();
    }
}
