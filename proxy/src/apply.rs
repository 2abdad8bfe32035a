//! From a snapshot to what is in force: groups first, then the table, then the listeners' sockets. Groups to which no listener
//! leads any more end a little later.
//!
//! ```text
//! snapshot ─► groups: targets, drains (always)  ─► table: listeners, rules ─► sockets ─► Ack ··· groups that left
//!                    └─ settings (if valid)              (if valid)           (if bound)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use evenkeel_proxy_api::report::{Ack, Health, Rejection, ResourceKind};
use evenkeel_proxy_api::snapshot::{Snapshot, TargetGroup, Version};
use evenkeel_proxy_api::validate;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::group::{Group, Settings};
use crate::metrics::Metrics;
use crate::signs;
use crate::table::{Groups, Table};

/// A group takes requests for so long after the last listener has new rules: one that took the old rules may be about to
/// pick there.
const LINGER: Duration = Duration::from_secs(1);

/// What is in force: the table, and the groups that it leads to.
#[derive(Debug, Default)]
pub struct Core {
    table: ArcSwap<Table>,
    groups: Mutex<Known>,
    applied: watch::Sender<Version>,
}

/// Groups in which requests may pick, each in one place.
#[derive(Debug, Default)]
struct Known {
    /// Those of the snapshot, and those that a listener which was rejected still leads to.
    current: Groups,
    /// Those that left, while somebody may pick there or something is in flight.
    left: BTreeMap<String, Left>,
}

/// A group that left the snapshot.
#[derive(Debug)]
struct Left {
    group: Arc<Group>,
    /// Since when no listener leads to it; none while one may.
    since: Option<Instant>,
}

impl Core {
    /// The table in force. Look at it once for each request (or connection, for TCP).
    #[inline]
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// The groups in force, ordered by name.
    pub fn current_groups(&self) -> Vec<Arc<Group>> {
        self.groups.lock().current.values().cloned().collect()
    }

    /// The groups in force, and those that left with something in flight.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let known = self.groups.lock();
        known.current.values().chain(known.left.values().map(|left| &left.group)).cloned().collect()
    }

    /// Whether every target in service was checked at least once.
    pub fn is_checked(&self) -> bool {
        let endpoints = self.current_groups().into_iter().flat_map(|group| group.current_endpoints());
        endpoints
            .into_iter()
            .all(|endpoint| endpoint.target.drain.is_some() || endpoint.cell.health() != Health::Initial)
    }

    /// Tells of each version that is in force.
    pub fn applied(&self) -> watch::Receiver<Version> {
        self.applied.subscribe()
    }

    /// Takes over a snapshot, but for the listeners' sockets. When this returns, no pick begins at a target that drains.
    pub fn apply(&self, snapshot: &Snapshot, now: Instant) -> Vec<Rejection> {
        let mut known = self.groups.lock();
        let mut rejections = Vec::new();
        let mut current = Groups::new();
        for (name, source) in &snapshot.target_groups {
            let group = known.take(name);
            rejections.extend(apply_group(&group, source, now));
            current.insert(name.clone(), group);
        }
        let (table, rejected) = Table::build(snapshot, &current, &self.table.load());
        rejections.extend(rejected);
        known.follow(current, &table);
        self.table.store(Arc::new(table));
        self.applied.send_replace(snapshot.version);
        rejections
    }

    /// Takes note that the listeners follow the table in force.
    pub fn settle(&self, now: Instant) {
        for left in self.groups.lock().left.values_mut() {
            left.since.get_or_insert(now);
        }
    }

    /// Once a second: closes what is left at drained targets past their limit, and forgets what is gone and idle.
    pub fn sweep(&self, now: Instant) {
        for group in self.groups() {
            group.sweep(now);
        }
        self.groups.lock().left.retain(|_, left| {
            if left.since.is_some_and(|since| now >= since + LINGER) {
                left.group.apply(None, &[], now);
            }
            !left.group.endpoints().is_empty()
        });
    }
}

impl Known {
    /// The group of that name: known, or new.
    fn take(&mut self, name: &str) -> Arc<Group> {
        let left = |known: &mut Self| Some(known.left.remove(name)?.group);
        self.current.remove(name).or_else(|| left(self)).unwrap_or_else(|| Arc::new(Group::new(name)))
    }

    /// Of the groups that are not in the snapshot those stay to which the table leads; the others leave.
    fn follow(&mut self, current: Groups, table: &Table) {
        let led_to: BTreeSet<&str> = table
            .listeners
            .values()
            .flat_map(|listener| listener.groups())
            .map(|group| group.name())
            .collect();
        for (name, group) in std::mem::replace(&mut self.current, current) {
            if led_to.contains(name.as_str()) {
                self.current.insert(name, group);
            } else {
                self.left.insert(name, Left { group, since: None });
            }
        }
    }
}

/// Sweeps once a second. Ends never.
pub async fn sweep(core: Arc<Core>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        core.sweep(ticks.tick().await);
    }
}

/// Looks again and again whether targets answer. Ends never.
pub async fn look(core: Arc<Core>) {
    let mut ticks = interval(signs::LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.groups().iter().for_each(|group| group.look());
    }
}

/// Targets are taken over even where the settings are not.
fn apply_group(group: &Group, source: &TargetGroup, now: Instant) -> Option<Rejection> {
    let rejection = |invalid: validate::Invalid| Rejection {
        kind: ResourceKind::TargetGroup,
        name: group.name().to_owned(),
        reason: invalid.to_string(),
    };
    if let Err(invalid) = validate::targets(source) {
        return Some(rejection(invalid));
    }
    let valid = validate::settings(source);
    group.apply(valid.is_ok().then(|| Settings::from(source)), &source.targets, now);
    valid.err().map(rejection)
}

/// Whoever binds and closes the listeners' sockets.
pub trait Reconcile: Send + Sync + 'static {
    /// Opens, changes and closes sockets so that they are those of the table; says which listeners could not be.
    fn reconcile(&self, table: Arc<Table>) -> impl Future<Output = Vec<Rejection>> + Send;
}

/// Takes over snapshots, one at a time.
#[derive(Debug)]
pub struct Applier<L> {
    core: Arc<Core>,
    listeners: L,
    metrics: Arc<Metrics>,
    turn: tokio::sync::Mutex<()>,
}

impl<L: Reconcile> Applier<L> {
    /// For a core and its listeners.
    pub fn new(core: Arc<Core>, listeners: L, metrics: Arc<Metrics>) -> Self {
        Self { core, listeners, metrics, turn: tokio::sync::Mutex::default() }
    }

    /// Takes over a snapshot, of which some resources were rejected on the way. When this returns the version is in force,
    /// but for the resources that the answer names.
    pub async fn apply(&self, snapshot: &Snapshot, rejected: Vec<Rejection>) -> Ack {
        let _turn = self.turn.lock().await;
        let began = Instant::now();
        let mut rejections = rejected;
        rejections.extend(self.core.apply(snapshot, Instant::now()));
        let table = Arc::clone(&self.core.table());
        rejections.extend(self.listeners.reconcile(table).await);
        self.core.settle(Instant::now());
        rejections.sort();
        rejections.dedup();
        let ack = Ack { version: snapshot.version, rejections };
        self.metrics.snapshot_apply_duration.set(began.elapsed().as_secs_f64());
        self.tell(&ack);
        ack
    }

    fn tell(&self, Ack { version, rejections }: &Ack) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.metrics.snapshot_epoch.set(version.epoch as i64);
        self.metrics.snapshot_counter.set(version.counter as i64);
        self.metrics.snapshot_applied.set(now as i64);
        self.metrics.snapshot_rejections.set(rejections.len() as i64);
        for Rejection { kind, name, reason } in rejections {
            tracing::error!(
                ?kind,
                name,
                reason,
                "rejected: what served before goes on until this is repaired"
            );
        }
        tracing::debug!(version.epoch, version.counter, rejections = rejections.len(), "snapshot in force");
    }

    /// What is in force.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

#[cfg(test)]
mod tests;
