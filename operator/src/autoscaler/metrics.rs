//! What scaling counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of scaling. They live as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics {
    decisions: Family<DecisionLabels, Counter>,
    failures: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Direction {
    Out,
    In,
    None,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { decisions: Family::default(), failures: Counter::default() };
        registry.register("decisions", "Scaling decisions by direction", metrics.decisions.clone());
        registry.register(
            "scale_failures",
            "Writes of the wanted number that failed",
            metrics.failures.clone(),
        );
        metrics
    }

    /// Counts a decision.
    pub fn decided(&self, from: i32, to: i32) {
        let direction = match to.cmp(&from) {
            std::cmp::Ordering::Greater => Direction::Out,
            std::cmp::Ordering::Less => Direction::In,
            std::cmp::Ordering::Equal => Direction::None,
        };
        self.decisions.get_or_create(&DecisionLabels { direction }).inc();
    }

    /// Counts a write that failed.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
