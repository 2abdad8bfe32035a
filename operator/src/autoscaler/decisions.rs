//! The latest decision for each ReplicaService.

use std::collections::BTreeMap;

use evenkeel_crds::v1alpha1::LastScaling;
use futures::Stream;
use parking_lot::RwLock;

use crate::changes::Changes;
use crate::object_key::ObjectKey;
use crate::scale::Finding;

/// The latest decision for each ReplicaService.
#[derive(Debug, Default)]
pub struct Decisions {
    latest: RwLock<BTreeMap<ObjectKey, DecisionView>>,
    changes: Changes,
}

/// What was decided, and what became of it so far.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionView {
    /// How many replicas there should be, within min and max.
    pub desired: i32,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
    /// Condition `AbleToScale`.
    pub able_to_scale: Finding,
    /// Condition `ScalingActive`.
    pub scaling_active: Finding,
    /// Condition `ScalingLimited`.
    pub scaling_limited: Finding,
    /// CPU utilisation that the decision was based on, in percent of the requests.
    pub cpu_utilization_percent: Option<i32>,
    /// The last change of the number in this term; absent when there was none: what the status says stays.
    pub last_scaling: Option<LastScaling>,
    /// Replicas that are leaving and finish what is in flight.
    pub draining: i32,
}

impl Decisions {
    /// The latest decision for a ReplicaService; none before the first of this term.
    pub fn get(&self, key: &ObjectKey) -> Option<DecisionView> {
        self.latest.read().get(key).cloned()
    }

    /// ReplicaServices for which the decision or what became of it changed.
    pub fn changes(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        self.changes.subscribe()
    }

    /// Replaces the decision for a ReplicaService.
    pub(crate) fn set(&self, key: &ObjectKey, view: DecisionView) {
        let mut latest = self.latest.write();
        if latest.get(key) == Some(&view) {
            return;
        }
        latest.insert(key.clone(), view);
        drop(latest);
        self.changes.send(key);
    }

    /// Forgets ReplicaServices that do not exist any more.
    pub(crate) fn retain(&self, exists: impl Fn(&ObjectKey) -> bool) {
        self.latest.write().retain(|key, _| exists(key));
    }
}
