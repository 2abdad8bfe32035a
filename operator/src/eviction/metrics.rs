//! What is counted of evictions.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Answer;

/// Counters of evictions that were asked for. They live as long as the process, across terms of leadership.
#[derive(Clone, Debug)]
pub struct Metrics(Family<Labels, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    answer: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Kind {
    Allowed,
    GivenUp,
    Held,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self(Family::default());
        registry.register("evictions", "Evictions of replicas that were asked for", metrics.0.clone());
        metrics
    }

    /// Counts an answer.
    pub(super) fn answered(&self, answer: Answer) {
        let answer = match answer {
            Answer::Allow => Kind::Allowed,
            Answer::GiveUp => Kind::GivenUp,
            Answer::Note | Answer::Replace | Answer::Drain | Answer::Remove => Kind::Held,
        };
        self.0.get_or_create(&Labels { answer }).inc();
    }
}
