//! From a snapshot to what is in force: groups first, then the table, then the listeners' sockets, and last the end of groups
//! that no listener leads to any more.
//!
//! ```text
//! snapshot ─► groups: targets, drains (always)  ─► table: listeners, rules ─► sockets ─► groups that left ─► Ack
//!                    └─ settings (if valid)              (if valid)           (if bound)
//! ```

use std::collections::BTreeSet;
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

/// What is in force: the table, and the groups that it leads to.
#[derive(Debug, Default)]
pub struct Core {
    table: ArcSwap<Table>,
    groups: Mutex<Groups>,
    applied: watch::Sender<Version>,
}

impl Core {
    /// The table in force. Look at it once for each request (or connection, for TCP).
    #[inline]
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// The groups in force, and those that left the snapshot with something in flight; ordered by name.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.lock().values().cloned().collect()
    }

    /// Whether every target in service was checked at least once.
    pub fn is_checked(&self) -> bool {
        let endpoints = self.groups().into_iter().flat_map(|group| group.current_endpoints());
        endpoints
            .into_iter()
            .all(|endpoint| endpoint.target.drain.is_some() || endpoint.cell.health() != Health::Initial)
    }

    /// Tells of each version that is in force.
    pub fn applied(&self) -> watch::Receiver<Version> {
        self.applied.subscribe()
    }

    /// Takes over a snapshot, but for the listeners' sockets and for groups that left it. When this returns, no pick begins
    /// at a target that drains.
    pub fn apply(&self, snapshot: &Snapshot, now: Instant) -> Vec<Rejection> {
        let mut groups = self.groups.lock();
        let mut rejections = Vec::new();
        let mut current = Groups::new();
        for (name, source) in &snapshot.target_groups {
            let group = groups.entry(name.clone()).or_insert_with(|| Arc::new(Group::new(name)));
            rejections.extend(apply_group(group, source, now));
            current.insert(name.clone(), Arc::clone(group));
        }
        let (table, rejected) = Table::build(snapshot, &current, &self.table.load());
        rejections.extend(rejected);
        self.table.store(Arc::new(table));
        self.applied.send_replace(snapshot.version);
        rejections
    }

    /// Ends groups that left the snapshot, once the listeners know their new rules: until then requests go to them.
    pub fn retire(&self, snapshot: &Snapshot, now: Instant) {
        retire_groups(&mut self.groups.lock(), snapshot, &self.table.load(), now);
    }

    /// Once a second: closes what is left at drained targets past their limit, and forgets what is gone and idle.
    pub fn sweep(&self, now: Instant) {
        for group in self.groups() {
            group.sweep(now);
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

/// Empties the groups that left the snapshot, unless a listener that was rejected still leads there; forgets the idle.
fn retire_groups(groups: &mut Groups, snapshot: &Snapshot, table: &Table, now: Instant) {
    let in_use: BTreeSet<&str> =
        table.listeners.values().flat_map(|listener| listener.groups()).map(|group| group.name()).collect();
    groups.retain(|name, group| {
        if snapshot.target_groups.contains_key(name) || in_use.contains(name.as_str()) {
            return true;
        }
        group.apply(None, &[], now);
        !group.endpoints().is_empty()
    });
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
        self.core.retire(snapshot, Instant::now());
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
