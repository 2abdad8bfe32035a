//! Events: a line in `kubectl describe` for each transition.

use evenkeel_crds::v1alpha1::{LoadBalancer, ReplicaService, StatusCondition};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::{debug, info, warn};

use crate::conditions;
use crate::error::request;
use crate::metrics::{Metrics, WriteOutcome};
use crate::object_key::{ObjectKey, key};
use crate::registry::{ValidLoadBalancer, ValidReplicaService};

/// The API refuses longer notes.
const NOTE_LIMIT: usize = 1024;

/// Publishes events.
pub struct Events {
    client: Client,
    reporter: Reporter,
    /// Counts repetitions of an event instead of publishing it again.
    repeater: Recorder,
    metrics: Metrics,
}

impl Events {
    /// Events in the name of this operator.
    pub fn new(client: Client, instance: &str, metrics: Metrics) -> Self {
        let reporter =
            Reporter { controller: "evenkeel-operator".into(), instance: Some(instance.to_owned()) };
        let repeater = Recorder::new(client.clone(), reporter.clone());
        Self { client, reporter, repeater, metrics }
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
    pub async fn publish<K>(&self, object: &K, bad: bool, reason: &str, note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        log(&K::kind(&()), &key(object), bad, reason, &note);
        self.send(&self.fresh(), &object.object_ref(&()), event("Reconcile", bad, reason, note)).await;
    }

    /// Publishes one event that says the same each time.
    pub async fn repeat<K>(&self, object: &K, bad: bool, reason: &str, note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        log(&K::kind(&()), &key(object), bad, reason, &note);
        self.send(&self.repeater, &object.object_ref(&()), event("Reconcile", bad, reason, note)).await;
    }

    /// Publishes one event of what was done to a ReplicaService's replicas.
    pub async fn tell(&self, service: &ValidReplicaService, bad: bool, reason: &str, note: String) {
        log(&ReplicaService::kind(&()), &service.key, bad, reason, &note);
        let reference = reference::<ReplicaService>(&service.key, &service.uid);
        self.send(&self.fresh(), &reference, event("Scale", bad, reason, note)).await;
    }

    /// Publishes one event of what became of a load balancer's proxies.
    pub async fn tell_of_balancer(
        &self,
        balancer: &ValidLoadBalancer,
        bad: bool,
        reason: &str,
        note: String,
    ) {
        log(&LoadBalancer::kind(&()), &balancer.key, bad, reason, &note);
        let reference = reference::<LoadBalancer>(&balancer.key, &balancer.uid);
        self.send(&self.fresh(), &reference, event("Watch", bad, reason, note)).await;
    }

    /// Without memory: a recorder takes two events for one that differ in nothing but what they say.
    fn fresh(&self) -> Recorder {
        Recorder::new(self.client.clone(), self.reporter.clone())
    }

    async fn send(&self, recorder: &Recorder, reference: &ObjectReference, event: Event) {
        let published = request(|| "publish an event".into(), recorder.publish(&event, reference)).await;
        self.metrics
            .wrote("events", if published.is_ok() { WriteOutcome::Done } else { WriteOutcome::Failed });
        if let Err(error) = published {
            debug!(object = reference.name, %error, "an event was lost");
        }
    }
}

fn reference<K: Resource<DynamicType = ()>>(key: &ObjectKey, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn event(action: &str, bad: bool, reason: &str, mut note: String) -> Event {
    while note.len() > NOTE_LIMIT {
        note.pop();
    }
    Event {
        type_: if bad { EventType::Warning } else { EventType::Normal },
        reason: reason.to_owned(),
        note: Some(note),
        action: action.to_owned(),
        secondary: None,
    }
}

fn log(kind: &str, object: &ObjectKey, bad: bool, reason: &str, note: &str) {
    if bad {
        warn!(kind, %object, reason, note, "transition");
    } else {
        info!(kind, %object, reason, note, "transition");
    }
}

#[cfg(test)]
impl Events {
    /// For tests that look at no counters.
    pub fn uncounted(client: Client) -> Self {
        Self::new(
            client,
            "operator-0",
            Metrics::register(&mut prometheus_client::registry::Registry::default()),
        )
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;
    use serde_json::{Value, json};

    use super::*;
    use crate::fake;

    #[tokio::test]
    async fn an_event_that_says_something_else_is_another_one() {
        let (client, log) = fake::client(|asked| (201, asked.body.clone()));
        let events = Events::uncounted(client);
        let metadata = ObjectMeta {
            name: Some("a".into()),
            namespace: Some("default".into()),
            uid: Some("u".into()),
            ..ObjectMeta::default()
        };
        let object = ConfigMap { metadata, ..ConfigMap::default() };
        events.publish(&object, false, "Accepted", "one".into()).await;
        events.publish(&object, false, "Accepted", "two".into()).await;
        events.repeat(&object, true, "Malformed", "three".into()).await;
        events.repeat(&object, true, "Malformed", "three".into()).await;
        let asked = std::mem::take(&mut *log.lock());
        let told: Vec<(&str, &Value)> =
            asked.iter().map(|asked| (asked.what.split(' ').next().unwrap(), &asked.body["note"])).collect();
        let [one, two, three] = [json!("one"), json!("two"), json!("three")];
        assert_eq!(told, [("POST", &one), ("POST", &two), ("POST", &three), ("PATCH", &three)]);
    }
}
