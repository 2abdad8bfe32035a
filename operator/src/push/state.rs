//! What the proxies of each load balancer have in force.

use std::collections::{BTreeMap, VecDeque};

use evenkeel_proxy_api::report::{Ack, Rejection};
use evenkeel_proxy_api::snapshot::Version;
use evenkeel_proxy_api::trust::{Fingerprint, Trust};
use futures::Stream;
use parking_lot::RwLock;

use crate::changes::Changes;
use crate::object_key::ObjectKey;

/// Generations of a load balancer that are remembered with the version they were first in.
const REMEMBERED_GENERATIONS: usize = 64;

/// What the proxies of each load balancer acknowledged.
#[derive(Debug, Default)]
pub struct PushState {
    balancers: RwLock<BTreeMap<ObjectKey, Balancer>>,
    changes: Changes,
}

#[derive(Debug, Default)]
struct Balancer {
    /// Rising in both; a version contains the last generation at or below it.
    generations: VecDeque<(Version, i64)>,
    proxies: BTreeMap<String, Proxy>,
}

#[derive(Debug, Default)]
struct Proxy {
    pod_name: String,
    /// Streams that are open now: a new one may begin before the old one was noticed to be dead.
    streams: u32,
    applied: Option<Version>,
    rejections: Vec<Rejection>,
    trust: Trust,
}

/// What one proxy has in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyView {
    /// UID of its pod.
    pub pod_uid: String,
    /// Name of its pod.
    pub pod_name: String,
    /// Its stream is open.
    pub connected: bool,
    /// The last version that it acknowledged.
    pub applied: Option<Version>,
    /// The generation of the LoadBalancer that is in force there; absent before its first acknowledgement in this term.
    pub generation: Option<i64>,
    /// What it could not take over.
    pub rejections: Vec<Rejection>,
}

impl PushState {
    /// The proxies of a load balancer that connected in this term and whose pods still exist, by UID.
    pub fn proxies(&self, load_balancer: &ObjectKey) -> Vec<ProxyView> {
        let balancers = self.balancers.read();
        let Some(balancer) = balancers.get(load_balancer) else { return Vec::new() };
        balancer.proxies.iter().map(|(uid, proxy)| balancer.view(uid, proxy)).collect()
    }

    /// Load balancers of which a proxy connected, disconnected or acknowledged something else than before.
    pub fn changes(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        self.changes.subscribe()
    }

    /// Whether a proxy has said in this term that it trusts an authority.
    pub fn trusts(&self, load_balancer: &ObjectKey, pod_uid: &str, authority: &Fingerprint) -> bool {
        let balancers = self.balancers.read();
        let proxy = balancers.get(load_balancer).and_then(|balancer| balancer.proxies.get(pod_uid));
        proxy.is_some_and(|proxy| proxy.trust.authorities.contains(authority))
    }

    /// Number of open streams.
    pub fn connected(&self) -> usize {
        let balancers = self.balancers.read();
        let proxies = balancers.values().flat_map(|balancer| balancer.proxies.values());
        proxies.filter(|proxy| proxy.streams > 0).count()
    }

    /// Notes that from `version` on, what is published contains `generation`.
    pub(super) fn published(&self, load_balancer: &ObjectKey, version: Version, generation: i64) {
        let mut balancers = self.balancers.write();
        let generations = &mut balancers.entry(load_balancer.clone()).or_default().generations;
        if generations.back().is_some_and(|(_, last)| *last == generation) {
            return;
        }
        generations.push_back((version, generation));
        if generations.len() > REMEMBERED_GENERATIONS {
            generations.pop_front();
        }
        drop(balancers);
        self.changes.send(load_balancer);
    }

    pub(super) fn connect(&self, load_balancer: &ObjectKey, pod_uid: &str, pod_name: &str) {
        let mut balancers = self.balancers.write();
        let balancer = balancers.entry(load_balancer.clone()).or_default();
        let proxy = balancer.proxies.entry(pod_uid.to_owned()).or_default();
        if proxy.streams == 0 {
            // It may be another process than the one that acknowledged before.
            *proxy = Proxy::default();
        }
        pod_name.clone_into(&mut proxy.pod_name);
        proxy.streams += 1;
        drop(balancers);
        self.changes.send(load_balancer);
    }

    pub(super) fn disconnect(&self, load_balancer: &ObjectKey, pod_uid: &str) {
        let known = self.with_proxy(load_balancer, pod_uid, |proxy| {
            proxy.streams = proxy.streams.saturating_sub(1);
        });
        if known.is_some() {
            self.changes.send(load_balancer);
        }
    }

    /// Notes whom a proxy trusts.
    pub(super) fn trusts_now(&self, load_balancer: &ObjectKey, pod_uid: &str, trust: Trust) {
        self.with_proxy(load_balancer, pod_uid, |proxy| proxy.trust = trust);
    }

    /// Notes what a proxy acknowledged, and returns the rejections that were not known before.
    pub(super) fn acknowledge(&self, load_balancer: &ObjectKey, pod_uid: &str, ack: Ack) -> Vec<Rejection> {
        let mut balancers = self.balancers.write();
        let Some(balancer) = balancers.get_mut(load_balancer) else { return Vec::new() };
        let before = balancer.generation_of(pod_uid);
        let Some(proxy) = balancer.proxies.get_mut(pod_uid) else { return Vec::new() };
        if proxy.applied > Some(ack.version) {
            return Vec::new(); // by an older stream that was not noticed to be dead
        }
        proxy.applied = Some(ack.version);
        let known = std::mem::replace(&mut proxy.rejections, ack.rejections);
        let changed = known != proxy.rejections;
        let new = proxy.rejections.iter().filter(|rejection| !known.contains(rejection)).cloned().collect();
        let changed = changed || before != balancer.generation_of(pod_uid);
        drop(balancers);
        if changed {
            self.changes.send(load_balancer);
        }
        new
    }

    /// Forgets proxies whose pods are gone, and load balancers that are.
    pub(super) fn retain(&self, exists: impl Fn(&ObjectKey, &str) -> bool) {
        let mut gone = Vec::new();
        self.balancers.write().retain(|key, balancer| {
            let count = balancer.proxies.len();
            balancer.proxies.retain(|uid, proxy| proxy.streams > 0 || exists(key, uid));
            if balancer.proxies.len() < count {
                gone.push(key.clone());
            }
            true
        });
        for key in gone {
            self.changes.send(&key);
        }
    }

    pub(super) fn remove(&self, load_balancer: &ObjectKey) {
        self.balancers.write().remove(load_balancer);
    }

    fn with_proxy<T>(
        &self,
        load_balancer: &ObjectKey,
        pod_uid: &str,
        work: impl FnOnce(&mut Proxy) -> T,
    ) -> Option<T> {
        let mut balancers = self.balancers.write();
        balancers.get_mut(load_balancer)?.proxies.get_mut(pod_uid).map(work)
    }
}

impl Balancer {
    fn view(&self, uid: &str, proxy: &Proxy) -> ProxyView {
        ProxyView {
            pod_uid: uid.to_owned(),
            pod_name: proxy.pod_name.clone(),
            connected: proxy.streams > 0,
            applied: proxy.applied,
            generation: proxy.applied.and_then(|version| self.generation_at(version)),
            rejections: proxy.rejections.clone(),
        }
    }

    fn generation_of(&self, uid: &str) -> Option<i64> {
        self.generation_at(self.proxies.get(uid)?.applied?)
    }

    fn generation_at(&self, version: Version) -> Option<i64> {
        let (_, generation) = self.generations.iter().rev().find(|(from, _)| *from <= version)?;
        Some(*generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(counter: u64) -> Version {
        Version { epoch: 1, counter }
    }

    fn ack(counter: u64) -> Ack {
        Ack { version: version(counter), rejections: Vec::new() }
    }

    #[test]
    fn a_proxy_has_the_generation_in_force_that_its_version_contains() {
        let (state, key) = (PushState::default(), ObjectKey::new("default", "shop"));
        state.published(&key, version(3), 1);
        state.published(&key, version(5), 2);
        state.connect(&key, "uid", "shop-proxy-0");
        for (acknowledged, generation) in [(2, None), (3, Some(1)), (4, Some(1)), (5, Some(2)), (9, Some(2))]
        {
            state.acknowledge(&key, "uid", ack(acknowledged));
            assert_eq!(state.proxies(&key)[0].generation, generation, "version {acknowledged}");
        }
    }

    #[test]
    fn a_generation_that_changes_nothing_for_proxies_is_in_force_without_a_new_version() {
        let (state, key) = (PushState::default(), ObjectKey::new("default", "shop"));
        state.published(&key, version(3), 1);
        state.connect(&key, "uid", "shop-proxy-0");
        state.acknowledge(&key, "uid", ack(3));
        state.published(&key, version(3), 2);
        assert_eq!(state.proxies(&key)[0].generation, Some(2));
    }

    #[test]
    fn an_older_acknowledgement_takes_nothing_back_and_a_rejection_is_news_once() {
        let (state, key) = (PushState::default(), ObjectKey::new("default", "shop"));
        let rejection = Rejection {
            kind: evenkeel_proxy_api::report::ResourceKind::Listener,
            name: "http".into(),
            reason: "the port is taken".into(),
        };
        let rejecting = |counter| Ack { version: version(counter), rejections: vec![rejection.clone()] };
        state.published(&key, version(3), 1);
        state.connect(&key, "uid", "p");
        assert_eq!(state.acknowledge(&key, "uid", rejecting(4)).len(), 1);
        assert_eq!(state.acknowledge(&key, "uid", rejecting(5)), []);
        state.acknowledge(&key, "uid", ack(4));
        let proxy = &state.proxies(&key)[0];
        assert_eq!((proxy.applied, proxy.rejections.len()), (Some(version(5)), 1));
    }

    #[test]
    fn a_proxy_that_comes_back_has_nothing_in_force_until_it_says_so() {
        let (state, key) = (PushState::default(), ObjectKey::new("default", "shop"));
        state.published(&key, version(3), 1);
        state.connect(&key, "uid", "p");
        state.acknowledge(&key, "uid", ack(3));
        state.disconnect(&key, "uid");
        state.connect(&key, "uid", "p");
        assert_eq!(state.proxies(&key)[0].generation, None);
    }

    #[test]
    fn a_proxy_trusts_whom_it_named_last_also_while_it_is_away_but_another_process_must_say_it_again() {
        let (state, key) = (PushState::default(), ObjectKey::new("default", "shop"));
        let [old, new] = [1, 2].map(|byte| Fingerprint([byte; 32]));
        let trusts = || [old, new].map(|authority| state.trusts(&key, "uid", &authority));
        state.connect(&key, "uid", "p");
        assert_eq!(trusts(), [false, false]);
        state.trusts_now(&key, "uid", Trust { authorities: [old].into() });
        assert_eq!(trusts(), [true, false]);
        state.trusts_now(&key, "uid", Trust { authorities: [old, new].into() });
        state.disconnect(&key, "uid");
        assert_eq!(trusts(), [true, true]);
        state.connect(&key, "uid", "p");
        assert_eq!(trusts(), [false, false]);
    }

    #[test]
    fn what_the_last_stream_of_a_removed_balancer_says_is_not_remembered() {
        let (state, key) = (PushState::default(), ObjectKey::new("default", "shop"));
        state.connect(&key, "uid", "p");
        state.remove(&key);
        state.acknowledge(&key, "uid", ack(3));
        state.disconnect(&key, "uid");
        assert!(state.balancers.read().is_empty());
    }

    #[test]
    fn a_proxy_is_connected_while_one_of_its_streams_is_open() {
        let (state, key) = (PushState::default(), ObjectKey::new("default", "shop"));
        state.connect(&key, "uid", "p");
        state.connect(&key, "uid", "p");
        state.disconnect(&key, "uid");
        assert!(state.proxies(&key)[0].connected);
        assert_eq!(state.connected(), 1);
        state.disconnect(&key, "uid");
        assert!(!state.proxies(&key)[0].connected);
        state.retain(|_, _| false);
        assert!(state.proxies(&key).is_empty());
    }
}
