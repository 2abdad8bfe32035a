//! Looks at each ReplicaService, plans, and writes the next steps.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::gate::Silence;
use super::look::View;
use super::metrics::Metrics;
use super::plan::{is_rolling_out, plan};
use super::progress::Drains;
use super::situation::{Action, ActionKind, Replica, Situation};
use super::story::{News, Story};
use super::write;
use crate::object_key::ObjectKey;
use crate::push::Publisher;
use crate::registry::{Accepted, Registry, ValidReplicaService};
use crate::targets::DRAINING;
use crate::world::World;

/// From one look to the next while something is under way, and while nothing is, where no pod changes.
const BUSY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(1);
/// News within so long of the last look wait for the next one; or within as long as that look took, where that is longer.
const PAUSE: Duration = Duration::from_millis(50);
/// A write that does not show in the caches for so long is not waited for.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);

/// What draining needs.
pub struct Drain {
    /// How to reach the API server.
    pub client: Client,
    /// Pods, Deployments and their ReplicaSets.
    pub world: Arc<World>,
    /// What was accepted.
    pub registry: Arc<Registry>,
    /// What proxies were told, and what they said.
    pub publisher: Arc<Publisher>,
    /// Where it is told.
    pub news: mpsc::Sender<(Arc<ValidReplicaService>, News)>,
    /// Counters.
    pub metrics: Metrics,
    /// For tests of failover: this process dies each time it has taken such a step.
    pub die_after: Option<ActionKind>,
}

/// What is remembered from look to look. A new leader begins with nothing.
#[derive(Default)]
struct Memory {
    unseen: HashMap<ObjectKey, Written>,
    silence: Silence,
    drains: Drains,
    /// The template that is being rolled out, by its ReplicaSet's UID.
    rollouts: HashMap<ObjectKey, String>,
    stories: HashMap<ObjectKey, Story>,
}

/// What was written for a ReplicaService and does not show in the caches yet: what is planned next must see it.
struct Written {
    at: Instant,
    /// Pods and their versions before.
    pods: Vec<(String, Option<String>)>,
    /// The Deployment's number.
    replicas: Option<i32>,
}

impl Default for Written {
    fn default() -> Self {
        Self { at: Instant::now(), pods: Vec::new(), replicas: None }
    }
}

/// Brings each Deployment to the number and the template that its ReplicaService wants, for as long as this operator
/// leads.
pub async fn run(drain: Drain) -> &'static str {
    const NAME: &str = "drains";
    drain.registry.complete().await;
    if drain.world.ready().await.is_err() {
        return NAME;
    }
    let mut accepts = drain.registry.changes();
    let mut pods = drain.world.pulse().subscribe();
    let mut health = pin!(drain.publisher.reports().changes());
    let mut memory = Memory::default();
    loop {
        accepts.mark_unchanged();
        pods.mark_unchanged();
        let began = Instant::now();
        let busy = drain.step(&mut memory).await;
        let looked = Instant::now();
        tokio::select! {
            () = sleep(if busy { BUSY } else { IDLE }) => {}
            _ = health.next() => {}
            changed = pods.changed(), if busy => if changed.is_err() { return NAME },
            changed = accepts.changed() => if changed.is_err() { return NAME },
        }
        sleep_until(looked + PAUSE.max(looked.duration_since(began))).await;
    }
}

impl Drain {
    /// One look at everything. Says whether something is under way.
    async fn step(&self, memory: &mut Memory) -> bool {
        let accepted = self.registry.read(Clone::clone);
        self.bring_up_to_date(memory, &accepted, Instant::now());
        let mut busy = !memory.unseen.is_empty();
        for service in accepted.replica_services.values() {
            if memory.unseen.contains_key(&service.key) {
                continue;
            }
            let Some(situation) = self.look(service, &accepted, memory) else { continue };
            self.count_rollout(&service.key, &situation, &mut memory.rollouts);
            self.tell(service, memory.stories.entry(service.key.clone()).or_default(), &situation);
            let actions = plan(&situation);
            busy |= !actions.is_empty() || situation.pods.iter().any(Replica::is_draining);
            if !actions.is_empty() {
                let written = self.perform(service, &situation, actions).await;
                memory.unseen.insert(service.key.clone(), written);
            }
        }
        busy
    }

    fn bring_up_to_date(&self, memory: &mut Memory, accepted: &Accepted, now: Instant) {
        let Memory { unseen, silence, drains, rollouts, stories } = memory;
        let reports = self.publisher.reports();
        silence.note(accepted.load_balancers.keys(), |balancer| reports.has_live(balancer, now), now);
        let pods = self.world.replicas.state();
        let draining = pods
            .iter()
            .filter_map(|pod| Some((pod.metadata.uid.as_deref()?, pod.annotations().get(DRAINING)?)));
        drains.note(draining.map(|(uid, annotation)| (uid, annotation.as_str())), now);
        unseen.retain(|key, written| self.is_unseen(key, written));
        rollouts.retain(|key, _| accepted.replica_services.contains_key(key));
        stories.retain(|key, _| accepted.replica_services.contains_key(key));
    }

    fn look(
        &self,
        service: &ValidReplicaService,
        accepted: &Accepted,
        memory: &mut Memory,
    ) -> Option<Situation> {
        let (world, publisher) = (&self.world, &self.publisher);
        let (now, time) = (Instant::now(), Timestamp::now());
        let Memory { silence, drains, .. } = memory;
        let situation = View { world, publisher, accepted, silence, drains, now, time }.situation(service)?;
        let heard = |pod: &&Replica| pod.drain.is_some_and(|drain| drain.progress.is_heard());
        situation.pods.iter().filter(heard).for_each(|pod| drains.hear(&pod.uid, now));
        Some(situation)
    }

    fn is_unseen(&self, key: &ObjectKey, written: &mut Written) -> bool {
        written.pods.retain(|(name, version)| self.shows(key, name) == *version);
        written.replicas = written.replicas.filter(|replicas| self.replicas(key) != Some(*replicas));
        let is_seen = written.pods.is_empty() && written.replicas.is_none();
        !is_seen && written.at.elapsed() < SHOWS_WITHIN
    }

    fn shows(&self, key: &ObjectKey, pod: &str) -> Option<String> {
        self.world.replica(&key.sibling(pod)).and_then(|pod| pod.metadata.resource_version.clone())
    }

    fn replicas(&self, key: &ObjectKey) -> Option<i32> {
        self.world.deployment_of(key)?.spec.as_ref()?.replicas
    }

    /// Each template that is rolled out counts once.
    fn count_rollout(
        &self,
        key: &ObjectKey,
        situation: &Situation,
        rollouts: &mut HashMap<ObjectKey, String>,
    ) {
        let Some(current) = &situation.current else { return };
        if !is_rolling_out(current, &situation.sets, &situation.pods) {
            rollouts.remove(key);
        } else if rollouts.insert(key.clone(), current.clone()).as_ref() != Some(current) {
            info!(replica_service = %key, replica_set = current, "a rollout begins");
            self.metrics.rollout();
        }
    }

    /// What cannot be told at once is not told: nothing waits for an event.
    fn tell(&self, service: &Arc<ValidReplicaService>, story: &mut Story, situation: &Situation) {
        for news in story.goes_on(situation, Timestamp::now()) {
            self.metrics.told(&news);
            if self.news.try_send((service.clone(), news)).is_err() {
                debug!(replica_service = %service.key, "an event was lost: the API server is too slow");
            }
        }
    }

    /// Writes the steps, one after the other. What fails is planned again.
    async fn perform(
        &self,
        service: &ValidReplicaService,
        situation: &Situation,
        actions: Vec<Action>,
    ) -> Written {
        let key = &service.key;
        let (mut written, time) = (Written::default(), Timestamp::now());
        for action in actions {
            let done = match &action {
                Action::Scale(replicas) => {
                    let deployment = self.world.deployment_of(key);
                    let uid = deployment.as_ref().and_then(|deployment| deployment.metadata.uid.as_deref());
                    let done = write::scale(&self.client, key, uid, *replicas).await;
                    written.replicas = done.is_ok().then_some(*replicas);
                    done
                }
                change => {
                    let pod = situation.pods.iter().find(|pod| change.pod() == Some(&pod.name));
                    let Some(pod) = pod else { continue };
                    written.pods.push((pod.name.clone(), self.shows(key, &pod.name)));
                    write::change_pod(&self.client, key, pod, change, time).await
                }
            };
            match done {
                Ok(()) => {
                    self.metrics.took(&action);
                    info!(replica_service = %key, ?action, from = situation.replicas, "step");
                    if self.die_after == Some(action.kind()) {
                        std::process::abort(); // nothing is tidied up, as by `kill -9`
                    }
                }
                Err(error) => {
                    warn!(replica_service = %key, ?action, %error, "a step failed; it is planned again");
                    break;
                }
            }
        }
        written
    }
}

#[cfg(test)]
mod tests;
