//! Events: a line in `kubectl describe` for each transition.

use evenkeel_crds::v1alpha1::StatusCondition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::{debug, info, warn};

use crate::conditions;
use crate::error::request;
use crate::metrics::{Metrics, WriteOutcome};
use crate::registry::ObjectKey;
use crate::wakes::key;

/// The API refuses longer notes.
const NOTE_LIMIT: usize = 1024;

/// Publishes events.
pub struct Events {
    recorder: Recorder,
    metrics: Metrics,
}

impl Events {
    /// Events in the name of this operator.
    pub fn new(client: Client, instance: &str, metrics: Metrics) -> Self {
        let reporter =
            Reporter { controller: "evenkeel-operator".into(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), metrics }
    }

    /// Tells of the conditions that changed from `old` to `new`.
    pub async fn transitions<K>(&self, object: &K, old: &[StatusCondition], new: &[StatusCondition])
    where
        K: Resource<DynamicType = ()>,
    {
        for condition in conditions::transitions(old, new) {
            let bad = conditions::is_bad(condition);
            let note = match condition.message.as_str() {
                "" => format!("{} is {}", condition.type_, condition.status),
                message => message.to_owned(),
            };
            // What is well now is told by what it is, the rest by why.
            let well = condition.status == "True" && !bad;
            let reason = if well { &condition.type_ } else { &condition.reason };
            self.publish(object, bad, reason, note).await;
        }
    }

    /// Publishes one event. That it fails changes nothing for the object: it is logged, and that is all.
    pub async fn publish<K>(&self, object: &K, bad: bool, reason: &str, mut note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let (reference, name) = (object.object_ref(&()), key(object));
        log(&K::kind(&()), &name, bad, reason, &note);
        while note.len() > NOTE_LIMIT {
            note.pop();
        }
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".into(),
            secondary: None,
        };
        let published =
            request(|| "publish an event".into(), self.recorder.publish(&event, &reference)).await;
        self.metrics
            .wrote("events", if published.is_ok() { WriteOutcome::Done } else { WriteOutcome::Failed });
        if let Err(error) = published {
            debug!(object = %name, %error, "an event was lost");
        }
    }
}

fn log(kind: &str, object: &ObjectKey, bad: bool, reason: &str, note: &str) {
    if bad {
        warn!(kind, %object, reason, note, "transition");
    } else {
        info!(kind, %object, reason, note, "transition");
    }
}
