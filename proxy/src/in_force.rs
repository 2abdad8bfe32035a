//! What is in force: the table that requests are routed by, and the groups that it leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use evenkeel_proxy_api::report::{Health, Rejection, ResourceKind};
use evenkeel_proxy_api::snapshot::{Snapshot, TargetGroup, Version};
use evenkeel_proxy_api::validate;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::group::{Group, Settings};
use crate::signs;
use crate::table::{Groups, Table};

/// A group takes requests for so long after the last listener has new rules: one that took the old rules may be about to
/// pick there.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

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

#[cfg(test)]
mod tests;
