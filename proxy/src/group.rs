//! A target group as it lives: its targets come and go and change health, its counts go on.
//!
//! Requests read the [`Lineup`]: the immutable list of those that may be picked right now. It is made anew, under the
//! group's lock, only when that list changes: by a snapshot or by a check's result.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use evenkeel_proxy_api::report::Health;
use evenkeel_proxy_api::snapshot::{Algorithm, HealthCheck, Target, TargetGroup, TargetProtocol};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::balance::Lineup;
use crate::cells::{Cell, Verdict};
use crate::idle::IdleConnections;
use crate::retry::Budget;
use crate::signs::{Doubt, Look, Pace, silent};

mod stats;

pub use stats::GroupStats;

/// A target as a snapshot describes it, and its cell.
#[derive(Debug)]
pub struct Endpoint {
    /// As in the snapshot.
    pub target: Target,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its state.
    pub cell: Arc<Cell>,
    /// Its group's counts.
    pub(crate) stats: Arc<GroupStats>,
    /// Connections to it that wait for a request.
    pub(crate) idle: Arc<IdleConnections>,
}

impl Endpoint {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.target.id
    }

    /// Others are picked before it from now on.
    pub(crate) fn suspect(&self, doubt: Doubt) {
        if self.cell.signs.suspect(doubt) {
            self.stats.count_suspicion();
            let (target, address) = (self.id(), self.address);
            tracing::info!(%target, %address, ?doubt, "others are picked before the target until it answers or a check passes");
        }
    }
}

/// A target group.
#[derive(Debug)]
pub struct Group {
    name: String,
    lineup: ArcSwap<Lineup>,
    stats: Arc<GroupStats>,
    budget: Budget,
    pace: Mutex<Pace>,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    settings: Settings,
    /// Those of the snapshot, ordered by id.
    endpoints: Vec<Arc<Endpoint>>,
    /// Those that left the snapshot with something in flight.
    retired: Vec<Arc<Endpoint>>,
}

/// What a group says of all its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What they speak.
    pub protocol: TargetProtocol,
    /// How one is chosen.
    pub algorithm: Algorithm,
    /// How they are checked.
    pub health_check: HealthCheck,
}

impl From<&TargetGroup> for Settings {
    fn from(group: &TargetGroup) -> Self {
        let TargetGroup { protocol, algorithm, health_check, targets: _ } = group;
        Self { protocol: *protocol, algorithm: *algorithm, health_check: health_check.clone() }
    }
}

impl Group {
    /// A group without targets.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            lineup: ArcSwap::from_pointee(Lineup::default()),
            stats: Arc::default(),
            budget: Budget::default(),
            pace: Mutex::default(),
            members: Mutex::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What may be picked right now.
    #[inline]
    pub fn lineup(&self) -> Guard<Arc<Lineup>> {
        self.lineup.load()
    }

    /// Its counts.
    pub fn stats(&self) -> &GroupStats {
        &self.stats
    }

    /// Retries that its requests may cost.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes a retry from the budget, if there is one left; either is counted. `now` is counted from the proxy's start.
    pub fn grants_retry(&self, now: Duration) -> bool {
        let granted = self.budget.withdraw(now);
        if granted {
            self.stats.count_retry();
        } else {
            self.stats.count_retry_over_budget();
        }
        granted
    }

    /// How its targets are spoken to, chosen and checked.
    pub fn settings(&self) -> Settings {
        self.members.lock().settings.clone()
    }

    /// What its targets speak.
    pub fn protocol(&self) -> TargetProtocol {
        self.members.lock().settings.protocol
    }

    /// The targets of the snapshot, and those that left it with something in flight.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let members = self.members.lock();
        members.endpoints.iter().chain(&members.retired).cloned().collect()
    }

    /// The targets of the snapshot.
    pub fn current_endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.members.lock().endpoints.clone()
    }

    /// Takes over targets, and settings where they are given. When this returns, no pick begins at a target that drains
    /// or is gone.
    pub fn apply(&self, settings: Option<Settings>, targets: &[Target], now: Instant) {
        let mut members = self.members.lock();
        let members = &mut *members;
        if let Some(settings) = settings {
            members.settings = settings;
        }
        let mut known: Vec<_> = members.endpoints.drain(..).chain(members.retired.drain(..)).collect();
        members.endpoints = targets.iter().map(|target| self.take_over(&mut known, target)).collect();
        members.endpoints.sort_by(|a, b| a.target.id.cmp(&b.target.id));
        // Those who serve again may be picked only once they say so; those who do not must first be out of the lineup, or
        // picks would find nobody although a successor is there.
        for endpoint in members.endpoints.iter().filter(|endpoint| endpoint.target.drain.is_none()) {
            endpoint.cell.restore();
        }
        self.line_up(members);
        for endpoint in &members.endpoints {
            if let Some(limit) = endpoint.target.drain {
                endpoint.cell.drain(limit, now);
                endpoint.idle.close();
            }
        }
        for gone in &known {
            gone.cell.retire();
            gone.idle.close();
        }
        members.retired = known;
        members.retired.retain(|gone| gone.cell.in_flight() > 0);
    }

    /// The target's endpoint: the known one where nothing changed, else one with the known cell, else a new one.
    fn take_over(&self, known: &mut Vec<Arc<Endpoint>>, target: &Target) -> Arc<Endpoint> {
        let same = known.iter().position(|endpoint| endpoint.target.id == target.id);
        let address = target.socket_address();
        let (cell, idle) = match same.map(|index| known.swap_remove(index)) {
            Some(endpoint) if endpoint.target == *target => return endpoint,
            Some(endpoint) if endpoint.address == address => {
                (Arc::clone(&endpoint.cell), Arc::clone(&endpoint.idle))
            }
            Some(endpoint) => {
                endpoint.cell.set_health(Health::Initial, Verdict::default());
                (Arc::clone(&endpoint.cell), Arc::default())
            }
            None => (Arc::default(), Arc::default()),
        };
        Arc::new(Endpoint { target: target.clone(), address, cell, stats: Arc::clone(&self.stats), idle })
    }

    /// Writes what checks say of a target; whether its health changed.
    pub fn set_health(&self, cell: &Cell, health: Health, verdict: Verdict) -> bool {
        let members = self.members.lock();
        let changed = cell.set_health(health, verdict);
        if changed {
            self.line_up(&members);
        }
        changed
    }

    /// Closes what is left at drained targets past their limit and connections that nobody used for long, and forgets
    /// targets that are gone and idle.
    pub fn sweep(&self, now: Instant) {
        let mut members = self.members.lock();
        for endpoint in members.endpoints.iter().chain(&members.retired) {
            endpoint.cell.close_overdue(now);
            endpoint.idle.expire(now);
        }
        members.retired.retain(|gone| gone.cell.in_flight() > 0);
    }

    /// Looks whether its targets answer. Those that do not while others do are suspects from now on.
    pub(crate) fn look(&self) {
        let usual = {
            let mut pace = self.pace.lock();
            pace.look(self.stats.answers(), self.stats.latency_sum());
            pace.usual()
        };
        let lineup = self.lineup();
        let looks: Vec<Look> = lineup.endpoints().iter().map(|endpoint| endpoint.cell.signs.look()).collect();
        for endpoint in silent(&looks, usual).filter_map(|index| lineup.endpoints().get(index)) {
            endpoint.suspect(Doubt::Silent);
        }
    }

    /// Makes the lineup anew, if it differs.
    fn line_up(&self, members: &Members) {
        let current = self.lineup.load();
        if let Some(next) = current.next(members.settings.algorithm, &members.endpoints) {
            self.lineup.store(Arc::new(next));
        }
    }
}
