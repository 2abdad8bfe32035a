//! What is published for each load balancer, as whole immutable values under rising versions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_proxy_api::delta::updates;
use evenkeel_proxy_api::proto::Update;
use evenkeel_proxy_api::snapshot::{Snapshot, Target, Version};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::state::PushState;
use crate::object_key::ObjectKey;
use crate::registry::{Accepted, Registry};
use crate::reports::Reports;
use crate::targets::{Targets, targets};
use crate::world::{Beats, World};

/// Changes within so long of the last publication are published together.
const COALESCE: Duration = Duration::from_millis(20);

/// What the proxies of one load balancer must know at one version.
#[derive(Debug)]
pub struct Published {
    /// What they must know.
    pub snapshot: Snapshot,
    /// When the first event came that is in this version and in none before.
    pub event: Instant,
    /// From which version on a target, by its group and id, is published as draining.
    drains: HashMap<(String, String), Version>,
    step: Option<Step>,
}

/// What leads from the version before to this one: worked out once for all proxies that follow closely.
#[derive(Debug)]
struct Step {
    from: Version,
    updates: Vec<Update>,
}

impl Published {
    /// What leads here from an earlier version.
    pub fn updates_since(&self, before: &Self) -> Vec<Update> {
        match &self.step {
            Some(step) if step.from == before.snapshot.version => step.updates.clone(),
            _ => updates(Some(&before.snapshot), &self.snapshot),
        }
    }

    /// Whether a target is in it.
    pub fn has(&self, group: &str, id: &str) -> bool {
        let group = self.snapshot.target_groups.get(group);
        group.is_some_and(|group| find(&group.targets, id).is_some())
    }
}

/// Publishes snapshots.
pub struct Publisher {
    epoch: u64,
    counter: Mutex<u64>,
    balancers: RwLock<BTreeMap<ObjectKey, watch::Sender<Option<Arc<Published>>>>>,
    state: Arc<PushState>,
    reports: Arc<Reports>,
    targets: Arc<Targets>,
    /// What was accepted when it was published last.
    last: Mutex<Accepted>,
}

impl Publisher {
    /// A publisher in the term `epoch`.
    pub fn new(epoch: u64, state: Arc<PushState>, reports: Arc<Reports>, targets: Arc<Targets>) -> Self {
        let (counter, balancers, last) = Default::default();
        Self { epoch, counter, balancers, state, reports, targets, last }
    }

    /// The term.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What proxies have in force.
    pub fn state(&self) -> &PushState {
        &self.state
    }

    /// What proxies see.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// What is published for a load balancer, now and later; nothing before it was valid for the first time.
    pub fn subscribe(&self, load_balancer: &ObjectKey) -> watch::Receiver<Option<Arc<Published>>> {
        if let Some(sender) = self.balancers.read().get(load_balancer) {
            return sender.subscribe();
        }
        let mut balancers = self.balancers.write();
        balancers.entry(load_balancer.clone()).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    /// The version from which on a target has been published as draining without a break.
    pub fn draining_since(&self, load_balancer: &ObjectKey, group: &str, id: &str) -> Option<Version> {
        let published = self.current(load_balancer)?;
        published.drains.get(&(group.to_owned(), id.to_owned())).copied()
    }

    /// Whether a target is published, draining or not.
    pub fn is_published(&self, load_balancer: &ObjectKey, group: &str, id: &str) -> bool {
        self.current(load_balancer).is_some_and(|published| published.has(group, id))
    }

    fn current(&self, load_balancer: &ObjectKey) -> Option<Arc<Published>> {
        self.balancers.read().get(load_balancer)?.borrow().clone()
    }

    /// Publishes what changed. Namespaces in which nothing did are left out.
    pub fn publish(&self, accepted: &Accepted, world: &World, beats: &Beats) {
        let event = beats.since.unwrap_or_else(Instant::now);
        let changed = changed_namespaces(&self.last.lock(), accepted);
        let concerned = |key: &ObjectKey| beats.concern(&key.namespace) || changed.contains(&key.namespace);
        let groups = accepted.target_groups.iter().filter(|(key, _)| concerned(key));
        let targets = groups.map(|(key, group)| (key.clone(), targets(group, world))).collect();
        self.targets.replace(targets, |key| accepted.target_groups.contains_key(key));
        for (key, load_balancer) in accepted.load_balancers.iter().filter(|(key, _)| concerned(key)) {
            let snapshot = crate::snapshot::snapshot(load_balancer, accepted, |group| self.targets.of(group));
            let version = self.publish_one(key, snapshot, event);
            self.state.published(key, version, load_balancer.generation);
        }
        self.remove_others(accepted);
        *self.last.lock() = accepted.clone();
    }

    /// Publishes one snapshot, if it is not what is published already. Returns the version it is published under.
    fn publish_one(&self, key: &ObjectKey, mut snapshot: Snapshot, event: Instant) -> Version {
        self.subscribe(key);
        let balancers = self.balancers.read();
        let Some(sender) = balancers.get(key) else { return Version::default() };
        let before = sender.borrow().clone();
        if let Some(before) = &before {
            snapshot.version = before.snapshot.version;
            if before.snapshot == snapshot {
                return snapshot.version;
            }
        }
        let version = self.next_version();
        snapshot.version = version;
        let drains = drains(&snapshot, before.as_deref());
        let step = before.map(|before| Step {
            from: before.snapshot.version,
            updates: updates(Some(&before.snapshot), &snapshot),
        });
        let published = Arc::new(Published { snapshot, event, drains, step });
        sender.send_replace(Some(published));
        version
    }

    fn next_version(&self) -> Version {
        let mut counter = self.counter.lock();
        *counter += 1;
        Version { epoch: self.epoch, counter: *counter }
    }

    /// Load balancers that are gone: their streams end. For those that nobody accepted yet, streams may wait.
    fn remove_others(&self, accepted: &Accepted) {
        self.balancers.write().retain(|key, sender| {
            let awaited = sender.borrow().is_none() && sender.receiver_count() > 0;
            let keep = accepted.load_balancers.contains_key(key) || awaited;
            if !keep {
                self.state.remove(key);
            }
            keep
        });
    }
}

/// Namespaces in which a balancer or a target group was accepted or removed.
fn changed_namespaces(before: &Accepted, now: &Accepted) -> BTreeSet<String> {
    let groups = changed_keys(&before.target_groups, &now.target_groups);
    let balancers = changed_keys(&before.load_balancers, &now.load_balancers);
    groups.chain(balancers).map(|key| key.namespace.clone()).collect()
}

fn changed_keys<'a, T>(
    before: &'a BTreeMap<ObjectKey, Arc<T>>,
    now: &'a BTreeMap<ObjectKey, Arc<T>>,
) -> impl Iterator<Item = &'a ObjectKey> {
    let is_same =
        |key: &ObjectKey, value: &Arc<T>| before.get(key).is_some_and(|old| Arc::ptr_eq(old, value));
    let new = now.iter().filter(move |(key, value)| !is_same(key, value)).map(|(key, _)| key);
    new.chain(before.keys().filter(|key| !now.contains_key(key)))
}

fn drains(snapshot: &Snapshot, before: Option<&Published>) -> HashMap<(String, String), Version> {
    let mut drains = HashMap::new();
    for (name, group) in &snapshot.target_groups {
        for target in group.targets.iter().filter(|target| target.drain.is_some()) {
            let key = (name.clone(), target.id.clone());
            let known = before.and_then(|before| before.drains.get(&key)).copied();
            drains.insert(key, known.unwrap_or(snapshot.version));
        }
    }
    drains
}

/// Targets are ordered by id.
fn find<'a>(targets: &'a [Target], id: &str) -> Option<&'a Target> {
    let at = targets.binary_search_by(|target| target.id.as_str().cmp(id)).ok()?;
    targets.get(at)
}

/// Publishes on each change, for as long as this operator leads.
pub async fn publish(publisher: Arc<Publisher>, world: Arc<World>, registry: Arc<Registry>) -> &'static str {
    const NAME: &str = "publisher";
    registry.complete().await;
    if world.ready().await.is_err() {
        return NAME;
    }
    let mut pulse = world.pulse().subscribe();
    let mut accepts = registry.changes();
    loop {
        pulse.mark_unchanged();
        accepts.mark_unchanged();
        let now = Instant::now();
        let beats = world.pulse().take();
        let accepted = registry.read(Clone::clone);
        publisher.publish(&accepted, &world, &beats);
        forget_gone(&publisher, &world);
        let changed = tokio::select! {
            changed = pulse.changed() => changed,
            changed = accepts.changed() => changed,
        };
        if changed.is_err() {
            return NAME;
        }
        sleep_until(now + COALESCE).await;
    }
}

fn forget_gone(publisher: &Publisher, world: &World) {
    let mut alive: HashMap<ObjectKey, Vec<String>> = HashMap::new();
    for pod in world.proxies.state() {
        if let Some((key, uid)) = crate::world::proxy_identity(&pod) {
            alive.entry(key).or_default().push(uid);
        }
    }
    let exists =
        |key: &ObjectKey, uid: &str| alive.get(key).is_some_and(|uids| uids.iter().any(|alive| alive == uid));
    publisher.state.retain(exists);
    publisher.reports.retain_proxies(exists);
}

#[cfg(test)]
pub(crate) mod tests;
