//! Health checks: every target in service is asked again and again, and the result written to its cell.
//!
//! One task for each (target, address, check), however many groups share it; a semaphore bounds how many ask at once.
//! A new target is asked at once, and again a second after each failure until it first passes, but its failures count only
//! at the check's interval: it may just be starting. Where thousands are new they take turns, so that checking them does not
//! hold up requests. Later checks begin an interval apart, from a random point on, so that those of many targets spread over
//! time.

pub mod probe;
pub mod state;
mod turns;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_proxy_api::report::Health;
use evenkeel_proxy_api::snapshot::HealthCheck;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cells::Verdict;
use crate::group::{Endpoint, Group};
use crate::in_force::Core;
use probe::Probe;
use state::{Failure, State};
use turns::Turns;

/// So many checks at once: 1,000 targets that do not answer within 2 s still leave room for those that do.
const MAX_CONCURRENT: usize = 512;
/// A target that has yet to pass for the first time is asked this often, or at its interval where that is shorter.
const EAGER_INTERVAL: Duration = Duration::from_secs(1);
/// After so many failures a new target is asked at its interval like any other.
const EAGER_CHECKS: u32 = 60;

/// Checks the targets of whatever is in force. Ends never.
pub async fn run(core: Arc<Core>, probe: impl Probe, mut rng: fastrand::Rng) {
    let mut applied = core.applied();
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut checker =
        Checker { probe, tasks: HashMap::new(), permits, turns: Turns::beginning(Instant::now()) };
    loop {
        applied.borrow_and_update();
        checker.reconcile(&core.current_groups(), Instant::now(), &mut rng);
        if applied.changed().await.is_err() {
            return;
        }
    }
}

struct Checker<P> {
    probe: P,
    tasks: HashMap<Key, Task>,
    permits: Arc<Semaphore>,
    /// Of targets that are new.
    turns: Turns,
}

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    id: String,
    address: SocketAddr,
    check: Arc<HealthCheck>,
}

/// Whoever wants to know.
type Subscribers = Vec<(Arc<Group>, Arc<Endpoint>)>;

/// A check that is to go on.
struct Wanted {
    subscribers: Subscribers,
    /// How many targets come before this one in the group where these are the fewest.
    rank: usize,
}

struct Task {
    shared: Arc<Shared>,
    handle: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// What the task and the checker both see.
struct Shared {
    key: Key,
    state: Mutex<(State, Verdict)>,
    subscribers: Mutex<Subscribers>,
}

impl<P: Probe> Checker<P> {
    /// Starts what is new, stops what is gone, and tells everyone in between what is known already.
    fn reconcile(&mut self, groups: &[Arc<Group>], now: Instant, rng: &mut fastrand::Rng) {
        let mut wanted = wanted(groups);
        self.tasks.retain(|key, task| match wanted.remove(key) {
            Some(Wanted { subscribers, .. }) => {
                task.shared.subscribe(subscribers);
                true
            }
            None => false,
        });
        let mut new: Vec<_> = wanted.into_iter().collect();
        // The first targets of every group before the second ones: no group waits for a large one.
        new.sort_unstable_by_key(|(_, wanted)| wanted.rank);
        for (key, Wanted { subscribers, .. }) in new {
            let wait = self.turns.wait(now);
            let task = self.start(key.clone(), subscribers, wait, rng);
            self.tasks.insert(key, task);
        }
    }

    fn start(&self, key: Key, subscribers: Subscribers, wait: Duration, rng: &mut fastrand::Rng) -> Task {
        // After a change of the check a target goes on from the health it has.
        let health = subscribers.first().map(|(_, endpoint)| endpoint.cell.health()).unwrap_or_default();
        let verdict = subscribers.first().map(|(_, endpoint)| endpoint.cell.verdict()).unwrap_or_default();
        let shared = Arc::new(Shared {
            key,
            state: Mutex::new((State::new(health), verdict)),
            subscribers: Mutex::default(),
        });
        shared.subscribe(subscribers);
        let checks =
            check_for_ever(Arc::clone(&shared), self.probe.clone(), Arc::clone(&self.permits), rng.fork());
        let checks = async move {
            if !wait.is_zero() {
                sleep(wait).await;
            }
            checks.await;
        };
        Task { shared, handle: tokio::spawn(checks).abort_handle() }
    }
}

/// Every target in service and who wants to know of it. One that drains needs no checks.
fn wanted(groups: &[Arc<Group>]) -> HashMap<Key, Wanted> {
    let mut wanted: HashMap<Key, Wanted> = HashMap::new();
    for group in groups {
        let check = Arc::new(group.settings().health_check);
        for (rank, endpoint) in group.current_endpoints().into_iter().enumerate() {
            if endpoint.target.drain.is_some() {
                continue;
            }
            let address =
                SocketAddr::new(endpoint.target.address, check.port.unwrap_or(endpoint.target.port));
            let key = Key { id: endpoint.target.id.clone(), address, check: Arc::clone(&check) };
            let known = wanted.entry(key).or_insert_with(|| Wanted { subscribers: Vec::new(), rank });
            known.rank = known.rank.min(rank);
            known.subscribers.push((Arc::clone(group), endpoint));
        }
    }
    wanted
}

async fn check_for_ever(
    shared: Arc<Shared>,
    probe: impl Probe,
    permits: Arc<Semaphore>,
    mut rng: fastrand::Rng,
) {
    let check = &shared.key.check;
    let eager_interval = EAGER_INTERVAL.min(check.interval);
    let eager_per_interval = check.interval.div_duration_f64(eager_interval).round() as u32;
    let mut eager = 0_u32;
    let mut spread = true;
    loop {
        // The semaphore is never closed.
        let permit = permits.acquire().await;
        let began = Instant::now();
        let outcome = probe.probe(shared.key.address, check).await;
        drop(permit);
        let counts = eager.is_multiple_of(eager_per_interval) || eager == EAGER_CHECKS;
        if shared.observe(&outcome, counts) && eager < EAGER_CHECKS {
            eager += 1;
            sleep(eager_interval).await;
            continue;
        }
        let share = if std::mem::take(&mut spread) { rng.f64() } else { 1.0 };
        sleep_until(began + check.interval.mul_f64(share)).await;
    }
}

impl Shared {
    /// Replaces who wants to know, and tells those who know nothing.
    fn subscribe(&self, subscribers: Subscribers) {
        let state = self.state.lock();
        let (known, verdict) = &*state;
        for (group, endpoint) in &subscribers {
            if known.health() != Health::Initial && endpoint.cell.health() == Health::Initial {
                group.set_health(&endpoint.cell, known.health(), verdict.clone());
            }
        }
        *self.subscribers.lock() = subscribers;
    }

    /// Takes a result into account and tells everyone; whether the target has yet to pass for the first time. Where
    /// failures do not count, only the reason is kept.
    fn observe(&self, outcome: &Result<(), Failure>, failures_count: bool) -> bool {
        let mut guard = self.state.lock();
        let (state, verdict) = &mut *guard;
        let before = state.health();
        if outcome.is_ok() {
            self.subscribers.lock().iter().for_each(|(_, endpoint)| endpoint.cell.signs.trust());
        }
        if outcome.is_ok() || failures_count {
            state.observe(outcome.is_ok(), &self.key.check);
        }
        let found = match (outcome, state.health()) {
            (_, Health::Healthy) => Verdict::default(),
            (Err(failure), _) => failure.verdict(&self.key.check),
            // It passes, but not often enough yet: what was wrong before still counts.
            (Ok(()), _) => verdict.clone(),
        };
        if before == state.health() && *verdict == found {
            return state.is_new();
        }
        *verdict = found;
        for (group, endpoint) in self.subscribers.lock().iter() {
            if group.set_health(&endpoint.cell, state.health(), verdict.clone()) {
                log(group.name(), &self.key, state.health(), verdict);
            }
        }
        state.is_new()
    }
}

fn log(group: &str, key: &Key, health: Health, Verdict { reason, description }: &Verdict) {
    let (target, address) = (&key.id, key.address);
    if health == Health::Healthy {
        tracing::info!(target_group = group, %target, %address, "the target is healthy: it gets requests");
    } else {
        tracing::warn!(
            target_group = group, %target, %address, reason, description,
            "the target is unhealthy: it gets requests only while no other target is healthy"
        );
    }
}

#[cfg(test)]
mod tests;
