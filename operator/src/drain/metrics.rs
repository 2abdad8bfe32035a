//! What draining counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::plan::Action;

/// Counters of readiness gates and rollouts. They live as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics {
    gates: Family<GateLabels, Counter>,
    rollouts: Counter,
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
        let metrics = Self { gates: Family::default(), rollouts: Counter::default() };
        registry.register("gates", "Readiness gates of replicas opened and closed", metrics.gates.clone());
        registry.register("rollouts", "Rollouts that were paced", metrics.rollouts.clone());
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

    /// Counts a rollout that begins.
    pub(super) fn rollout(&self) {
        self.rollouts.inc();
    }
}
