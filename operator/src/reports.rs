//! What the proxies saw, merged: the health of each target and what is in flight there.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use evenkeel_proxy_api::report::{Health, Report, TargetReport};
use evenkeel_proxy_api::snapshot::Version;
use futures::Stream;
use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::changes::Changes;
use crate::object_key::ObjectKey;

/// A proxy that reported within so long is live.
pub const FRESH: Duration = Duration::from_secs(3);
/// Targets of one proxy that are kept at most; what it reports beyond is left out.
const TARGETS_LIMIT: usize = 20_000;

/// What each proxy saw last.
#[derive(Debug, Default)]
pub struct Reports {
    proxies: RwLock<HashMap<ProxyKey, ProxyReports>>,
    changes: Changes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ProxyKey {
    load_balancer: ObjectKey,
    pod_uid: String,
}

#[derive(Debug)]
struct ProxyReports {
    /// When the last report came.
    at: Instant,
    /// The version that was in force when the last report was sampled.
    version: Version,
    targets: HashMap<(String, String), Seen>,
}

#[derive(Debug)]
struct Seen {
    report: TargetReport,
    /// The version in force when this target was last sampled.
    version: Version,
    since: Timestamp,
}

/// The health of a target, as the majority of the live proxies sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetView {
    /// What most of them say; of as many, the worse.
    pub health: Health,
    /// Why, in one word; empty when healthy.
    pub reason: String,
    /// Why, in a sentence; empty when healthy.
    pub description: String,
    /// Since when, as seen by the proxy that says so for longest.
    pub since: Timestamp,
    /// In flight at all proxies together, those included that are not live.
    pub in_flight: u64,
}

/// What one proxy says of a target that drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The version in force when it was sampled.
    pub version: Version,
    /// How many.
    pub count: u32,
}

/// What the live proxies of a load balancer say of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    /// How many are live.
    pub live: usize,
    /// How many of them find it healthy.
    pub healthy: usize,
}

impl Reports {
    /// The targets of a target group by id, as far as any proxy has seen them.
    pub fn targets(&self, group: &ObjectKey, now: Instant) -> BTreeMap<String, TargetView> {
        let proxies = self.proxies.read();
        let mut seen: BTreeMap<&str, Vec<(bool, &Seen)>> = BTreeMap::new();
        for (_, proxy) in proxies.iter().filter(|(key, _)| key.load_balancer.namespace == group.namespace) {
            let live = proxy.is_live(now);
            for ((of, id), target) in &proxy.targets {
                if *of == group.name {
                    seen.entry(id).or_default().push((live, target));
                }
            }
        }
        seen.into_iter().filter_map(|(id, seen)| Some((id.to_owned(), merge(&seen)?))).collect()
    }

    /// What a proxy says of what is in flight at a target.
    pub fn in_flight(
        &self,
        load_balancer: &ObjectKey,
        pod_uid: &str,
        group: &str,
        id: &str,
    ) -> Option<InFlight> {
        let key = ProxyKey { load_balancer: load_balancer.clone(), pod_uid: pod_uid.to_owned() };
        let proxies = self.proxies.read();
        let seen = proxies.get(&key)?.targets.get(&(group.to_owned(), id.to_owned()))?;
        Some(InFlight { version: seen.version, count: seen.report.in_flight })
    }

    /// Whether a proxy has reported within [`FRESH`].
    pub fn is_live(&self, load_balancer: &ObjectKey, pod_uid: &str, now: Instant) -> bool {
        let key = ProxyKey { load_balancer: load_balancer.clone(), pod_uid: pod_uid.to_owned() };
        self.proxies.read().get(&key).is_some_and(|proxy| proxy.is_live(now))
    }

    /// Whether any proxy of a load balancer has reported within [`FRESH`].
    pub fn has_live(&self, load_balancer: &ObjectKey, now: Instant) -> bool {
        let proxies = self.proxies.read();
        let mut ours = proxies.iter().filter(|(key, _)| key.load_balancer == *load_balancer);
        ours.any(|(_, proxy)| proxy.is_live(now))
    }

    /// What the live proxies of a load balancer say of a target.
    pub fn votes(&self, load_balancer: &ObjectKey, group: &str, id: &str, now: Instant) -> Votes {
        let target = (group.to_owned(), id.to_owned());
        let mut votes = Votes::default();
        for (key, proxy) in self.proxies.read().iter() {
            if key.load_balancer == *load_balancer && proxy.is_live(now) {
                let seen = proxy.targets.get(&target);
                votes.live += 1;
                votes.healthy += usize::from(seen.is_some_and(|seen| seen.report.health == Health::Healthy));
            }
        }
        votes
    }

    /// Target groups of which a proxy sees the health of a target change.
    pub fn changes(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        self.changes.subscribe()
    }

    /// Takes over what a proxy reports.
    pub fn take(
        &self,
        load_balancer: &ObjectKey,
        pod_uid: &str,
        report: Report,
        (now, time): (Instant, Timestamp),
    ) {
        let key = ProxyKey { load_balancer: load_balancer.clone(), pod_uid: pod_uid.to_owned() };
        let Report { version, targets, target_groups: _ } = report;
        let mut changed = Vec::new();
        let mut proxies = self.proxies.write();
        let proxy =
            proxies.entry(key).or_insert_with(|| ProxyReports { at: now, version, targets: HashMap::new() });
        proxy.at = now;
        proxy.version = version;
        for target in targets {
            if let Some(group) = proxy.take(target, version, time) {
                changed.push(load_balancer.sibling(group));
            }
        }
        drop(proxies);
        for group in changed {
            self.changes.send(&group);
        }
    }

    /// Forgets what a proxy saw of targets that `known` does not know, where nothing is in flight: they are gone from the
    /// version that the proxy reported last. Not before, for what returns before the proxy looks is not reported again.
    pub fn retain_targets(
        &self,
        load_balancer: &ObjectKey,
        pod_uid: &str,
        known: impl Fn(&str, &str) -> bool,
    ) {
        let key = ProxyKey { load_balancer: load_balancer.clone(), pod_uid: pod_uid.to_owned() };
        if let Some(proxy) = self.proxies.write().get_mut(&key) {
            proxy.targets.retain(|(group, id), seen| seen.report.in_flight > 0 || known(group, id));
        }
    }

    /// Forgets proxies that do not exist any more.
    pub fn retain_proxies(&self, exists: impl Fn(&ObjectKey, &str) -> bool) {
        self.proxies.write().retain(|key, _| exists(&key.load_balancer, &key.pod_uid));
    }
}

impl ProxyReports {
    fn is_live(&self, now: Instant) -> bool {
        now.duration_since(self.at) <= FRESH
    }

    /// Returns the target's group when its health is another than before.
    fn take(&mut self, report: TargetReport, version: Version, time: Timestamp) -> Option<String> {
        let key = (report.target_group.clone(), report.id.clone());
        if let Some(seen) = self.targets.get_mut(&key) {
            let changed = seen.report.health != report.health || seen.report.reason != report.reason;
            if seen.report.health != report.health {
                seen.since = time;
            }
            seen.report = report;
            seen.version = version;
            return changed.then_some(key.0);
        }
        if self.targets.len() >= TARGETS_LIMIT {
            return None;
        }
        let group = key.0.clone();
        self.targets.insert(key, Seen { report, version, since: time });
        Some(group)
    }
}

/// The view of the majority. Proxies that are not live have no say in the health unless none is live.
fn merge(seen: &[(bool, &Seen)]) -> Option<TargetView> {
    let any_live = seen.iter().any(|(live, _)| *live);
    let voters = || seen.iter().filter(|(live, _)| *live || !any_live).map(|(_, seen)| *seen);
    let count = |health| voters().filter(|seen| seen.report.health == health).count();
    // `max_by_key` takes the last of equals: the worse view wins a tie.
    let health = [Health::Initial, Health::Healthy, Health::Unhealthy]
        .into_iter()
        .max_by_key(|health| count(*health))?;
    let speaker = voters().filter(|seen| seen.report.health == health).min_by_key(|seen| seen.since)?;
    Some(TargetView {
        health,
        reason: speaker.report.reason.clone(),
        description: speaker.report.description.clone(),
        since: speaker.since,
        in_flight: seen.iter().map(|(_, seen)| u64::from(seen.report.in_flight)).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(counter: u64, health: Health, in_flight: u32) -> Report {
        Report {
            version: Version { epoch: 1, counter },
            targets: vec![TargetReport {
                target_group: "api".into(),
                id: "pod".into(),
                in_flight,
                completed: 0,
                failed: 0,
                health,
                reason: String::new(),
                description: String::new(),
            }],
            target_groups: Vec::new(),
        }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    #[tokio::test(start_paused = true)]
    async fn the_majority_of_the_live_proxies_decides() {
        let reports = Reports::default();
        let time = Timestamp::UNIX_EPOCH;
        for (uid, health) in [("a", Health::Healthy), ("b", Health::Unhealthy), ("c", Health::Healthy)] {
            reports.take(&key("shop"), uid, report(1, health, 2), (Instant::now(), time));
        }
        let view = |reports: &Reports| reports.targets(&key("api"), Instant::now()).remove("pod").unwrap();
        assert_eq!(view(&reports).health, Health::Healthy);
        assert_eq!(view(&reports).in_flight, 6);

        tokio::time::advance(FRESH + Duration::from_secs(1)).await;
        reports.take(&key("shop"), "b", Report::default(), (Instant::now(), time));
        assert_eq!(view(&reports).health, Health::Unhealthy, "only b is live");
        assert_eq!(view(&reports).in_flight, 6, "but what is in flight at the others still is");
    }

    #[tokio::test(start_paused = true)]
    async fn only_live_proxies_of_the_balancer_have_a_vote() {
        let reports = Reports::default();
        let (shop, time) = (key("shop"), Timestamp::UNIX_EPOCH);
        let votes = |reports: &Reports| reports.votes(&shop, "api", "pod", Instant::now());
        assert_eq!((votes(&reports), reports.has_live(&shop, Instant::now())), (Votes::default(), false));
        for (uid, health) in [("a", Health::Healthy), ("b", Health::Initial)] {
            reports.take(&shop, uid, report(1, health, 0), (Instant::now(), time));
        }
        reports.take(&shop, "c", Report::default(), (Instant::now(), time));
        reports.take(&key("other"), "d", report(1, Health::Healthy, 0), (Instant::now(), time));
        assert_eq!(votes(&reports), Votes { live: 3, healthy: 1 }, "c has not seen it yet");

        tokio::time::advance(FRESH + Duration::from_secs(1)).await;
        reports.take(&shop, "c", Report::default(), (Instant::now(), time));
        assert_eq!(votes(&reports), Votes { live: 1, healthy: 0 });
        assert!(reports.has_live(&shop, Instant::now()) && !reports.has_live(&key("other"), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn targets_that_are_gone_are_forgotten_once_nothing_is_in_flight() {
        let (reports, shop) = (Reports::default(), key("shop"));
        let known = |reports: &Reports| reports.targets(&key("api"), Instant::now()).contains_key("pod");
        for (in_flight, published, stays) in [(0, true, true), (2, false, true), (0, false, false)] {
            let report = report(1, Health::Healthy, in_flight);
            reports.take(&shop, "a", report, (Instant::now(), Timestamp::UNIX_EPOCH));
            reports.retain_targets(&shop, "another proxy", |_, _| false);
            reports.retain_targets(&shop, "a", |_, _| published);
            assert_eq!(known(&reports), stays, "{in_flight} in flight, published {published}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_as_many_votes_the_worse_view_counts() {
        let reports = Reports::default();
        reports.take(
            &key("shop"),
            "a",
            report(1, Health::Healthy, 0),
            (Instant::now(), Timestamp::UNIX_EPOCH),
        );
        reports.take(
            &key("shop"),
            "b",
            report(1, Health::Unhealthy, 0),
            (Instant::now(), Timestamp::UNIX_EPOCH),
        );
        let view = reports.targets(&key("api"), Instant::now()).remove("pod").unwrap();
        assert_eq!(view.health, Health::Unhealthy);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_flight_is_known_with_the_version_it_was_sampled_at() {
        let reports = Reports::default();
        let now = Instant::now();
        reports.take(&key("shop"), "a", report(3, Health::Healthy, 4), (now, Timestamp::UNIX_EPOCH));
        reports.take(
            &key("shop"),
            "a",
            Report { version: Version { epoch: 1, counter: 9 }, ..Report::default() },
            (now, Timestamp::UNIX_EPOCH),
        );
        let in_flight = reports.in_flight(&key("shop"), "a", "api", "pod").unwrap();
        assert_eq!(in_flight, InFlight { version: Version { epoch: 1, counter: 3 }, count: 4 });
    }
}
