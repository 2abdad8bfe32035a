//! From a snapshot to what is in force: groups first, then the table, then the listeners' sockets. Groups to which no listener
//! leads any more end a little later.
//!
//! ```text
//! snapshot ─► groups: targets, drains (always)  ─► table: listeners, rules ─► sockets ─► Ack ··· groups that left
//!                    └─ settings (if valid)              (if valid)           (if bound)
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use evenkeel_proxy_api::report::{Ack, Rejection};
use evenkeel_proxy_api::snapshot::Snapshot;
use tokio::time::Instant;

use crate::in_force::Core;
use crate::metrics::Metrics;
use crate::table::{Listener, Table};

/// Whoever binds and closes the listeners' sockets.
pub trait Reconcile: Send + Sync + 'static {
    /// Opens, changes and closes sockets so that they are those of the table; says which listeners could not be.
    fn reconcile(&self, table: Arc<Table>) -> impl Future<Output = Vec<Rejection>> + Send;

    /// What is open: a listener that could not be changed is here as it was.
    fn open(&self) -> Vec<Arc<Listener>>;
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
        self.core.settle(snapshot, &self.listeners.open(), Instant::now());
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
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    use evenkeel_proxy_api::report::Health;

    use super::*;
    use crate::cells::Verdict;
    use crate::in_force::LINGER;
    use crate::pick::{NoTarget, pick};

    /// Listeners that are slow to follow: they still take requests by their old rules after a long time.
    #[derive(Default)]
    struct SlowListeners {
        core: Arc<Core>,
        picked: AtomicUsize,
    }

    impl Reconcile for Arc<SlowListeners> {
        async fn reconcile(&self, _: Arc<Table>) -> Vec<Rejection> {
            self.core.sweep(Instant::now() + 9 * LINGER);
            let groups = self.core.groups();
            let picked = groups.iter().filter(|group| pick(group, &[]).is_ok()).count();
            self.picked.fetch_add(picked, SeqCst);
            Vec::new()
        }

        fn open(&self) -> Vec<Arc<Listener>> {
            Vec::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_takes_requests_until_some_seconds_after_no_listener_leads_there() {
        let listeners = Arc::new(SlowListeners::default());
        let core = &listeners.core;
        let applier = Applier::new(Arc::clone(core), Arc::clone(&listeners), Arc::default());
        let snapshot = |text: &str| -> Snapshot { serde_saphyr::from_str(text).unwrap() };
        let with = "{version: {epoch: 1, counter: 1}, targetGroups: {api: {targets: [{id: a, address: 10.0.0.1, port: 80}]}}}";
        applier.apply(&snapshot(with), Vec::new()).await;
        let group = core.groups()[0].clone();
        group.set_health(&group.current_endpoints()[0].cell, Health::Healthy, Verdict::default());
        applier.apply(&snapshot("{version: {epoch: 1, counter: 2}}"), Vec::new()).await;
        assert_eq!(listeners.picked.load(SeqCst), 1, "while listeners follow the old rules");
        let followed = Instant::now();
        core.sweep(followed + LINGER - Duration::from_millis(1));
        assert!(pick(&group, &[]).is_ok(), "who took the old rules may still pick");
        core.sweep(followed + LINGER);
        assert_eq!(pick(&group, &[]).unwrap_err(), NoTarget::NoneInService);
        assert!(core.groups().is_empty());
    }
}
