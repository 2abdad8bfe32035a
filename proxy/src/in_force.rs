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
use crate::table::{Groups, Listener, Table};

/// A group takes requests for so long after the last listener has new rules: one that took the old rules may be about to
/// pick there, or to pick once more, until it has tried as many targets as one may.
pub(crate) const LINGER: Duration = Duration::from_secs(4);

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
    /// Those of the snapshot, and those that a listener still leads to because it could not be changed.
    current: Groups,
    /// Those that no listener leads to any more, and since when: while somebody may pick there or something is in flight.
    left: BTreeMap<String, (Arc<Group>, Instant)>,
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

    /// The groups in force, and those that left while somebody may pick there or something is in flight.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let known = self.groups.lock();
        known.current.values().chain(known.left.values().map(|(group, _)| group)).cloned().collect()
    }

    /// Whether every target in service was checked at least once.
    pub fn is_checked(&self) -> bool {
        let endpoints = self.current_groups().into_iter().flat_map(|group| group.current_endpoints());
        endpoints
            .into_iter()
            .all(|endpoint| endpoint.target.drain.is_some() || endpoint.cell.health() != Health::Initial)
    }

    /// Tells of each version that is in force, and when groups have left since.
    pub fn applied(&self) -> watch::Receiver<Version> {
        self.applied.subscribe()
    }

    /// Takes over a snapshot, but for the listeners' sockets. When this returns, no pick begins at a target that drains. Groups
    /// that are not in the snapshot stay as they are until it is [settled](Self::settle), and some seconds longer.
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
        known.current.append(&mut current);
        self.table.store(Arc::new(table));
        self.applied.send_replace(snapshot.version);
        rejections
    }

    /// Takes note that the listeners follow the table, but for those that could not be changed: `open` is what they all follow.
    pub fn settle(&self, snapshot: &Snapshot, open: &[Arc<Listener>], now: Instant) {
        let table = self.table();
        let listeners = table.listeners.values().chain(open);
        let led_to: BTreeSet<&str> =
            listeners.flat_map(|listener| listener.groups()).map(|group| group.name()).collect();
        let stays = |name: &str| snapshot.target_groups.contains_key(name) || led_to.contains(name);
        if self.groups.lock().let_go(stays, now) {
            self.applied.send_modify(|_| {});
        }
    }

    /// Once a second: closes what is left at drained targets past their limit, and forgets what is gone and idle.
    pub fn sweep(&self, now: Instant) {
        for group in self.groups() {
            group.sweep(now);
        }
        self.groups.lock().left.retain(|_, (group, since)| {
            if now >= *since + LINGER {
                group.apply(None, &[], now);
            }
            !group.endpoints().is_empty()
        });
    }
}

impl Known {
    /// The group of that name: known, or new.
    fn take(&mut self, name: &str) -> Arc<Group> {
        let left = self.left.remove(name).map(|(group, _)| group);
        self.current.remove(name).or(left).unwrap_or_else(|| Arc::new(Group::new(name)))
    }

    /// Those leave that do not stay; whether there are any.
    fn let_go(&mut self, stays: impl Fn(&str) -> bool, now: Instant) -> bool {
        let groups = std::mem::take(&mut self.current);
        let (staying, leaving): (Groups, Groups) = groups.into_iter().partition(|(name, _)| stays(name));
        self.current = staying;
        let any = !leaving.is_empty();
        self.left.extend(leaving.into_iter().map(|(name, group)| (name, (group, now))));
        any
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
