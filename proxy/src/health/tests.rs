use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use evenkeel_proxy_api::snapshot::{Snapshot, Target, TargetGroup};
use tokio::time::Instant;

use super::*;
use crate::pick::pick;
use crate::signs::Doubt;

/// A network in which ports answer as they are told to, and which remembers who was asked when.
#[derive(Clone, Default)]
struct Network {
    broken: Arc<Mutex<BTreeMap<u16, Failure>>>,
    asked: Arc<Mutex<Vec<(u16, Instant)>>>,
}

impl Probe for Network {
    async fn probe(&self, address: SocketAddr, check: &HealthCheck) -> Result<(), Failure> {
        self.asked.lock().push((address.port(), Instant::now()));
        let outcome = self.broken.lock().get(&address.port()).cloned().map_or(Ok(()), Err);
        if outcome == Err(Failure::Timeout) {
            sleep(check.timeout).await;
        }
        outcome
    }
}

impl Network {
    fn set_broken(&self, port: u16, failure: Option<Failure>) {
        self.broken.lock().remove(&port);
        self.broken.lock().extend(failure.map(|failure| (port, failure)));
    }

    fn asked(&self, port: u16) -> usize {
        self.asked.lock().iter().filter(|(asked, _)| *asked == port).count()
    }
}

fn snapshot(groups: &[(&str, &[u16])]) -> Snapshot {
    let target = |port: &u16| Target {
        id: format!("target-{port}"),
        address: Ipv4Addr::LOCALHOST.into(),
        port: *port,
        zone: String::new(),
        node: String::new(),
        weight: 1,
        drain: None,
    };
    let group = |ports: &[u16]| TargetGroup {
        protocol: evenkeel_proxy_api::snapshot::TargetProtocol::Http,
        algorithm: evenkeel_proxy_api::snapshot::Algorithm::RoundRobin,
        health_check: HealthCheck::default(),
        targets: ports.iter().map(target).collect(),
    };
    let groups = groups.iter().map(|(name, ports)| ((*name).to_owned(), group(ports)));
    Snapshot { target_groups: groups.collect(), ..Snapshot::default() }
}

struct Scene {
    core: Arc<Core>,
    network: Network,
}

impl Scene {
    fn new(groups: &[(&str, &[u16])]) -> Self {
        let scene = Self { core: Arc::default(), network: Network::default() };
        scene.apply(groups);
        let checks = run(Arc::clone(&scene.core), scene.network.clone(), fastrand::Rng::with_seed(1));
        tokio::spawn(checks);
        scene
    }

    fn apply(&self, groups: &[(&str, &[u16])]) {
        assert!(self.core.apply(&snapshot(groups), Instant::now()).is_empty());
    }

    fn health(&self, group: &str) -> Vec<Health> {
        let groups = self.core.groups();
        let group = groups.iter().find(|known| known.name() == group).unwrap();
        group.current_endpoints().iter().map(|endpoint| endpoint.cell.health()).collect()
    }

    fn reason(&self, group: &str) -> &'static str {
        let groups = self.core.groups();
        let group = groups.iter().find(|known| known.name() == group).unwrap();
        group.current_endpoints()[0].cell.verdict().reason
    }
}

/// Lets time pass; whatever is due happens.
async fn pass(duration: Duration) {
    sleep(duration).await;
}

const MOMENT: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_new_target_is_checked_at_once_and_needs_one_pass() {
    let scene = Scene::new(&[("api", &[1, 2])]);
    assert_eq!(scene.health("api"), [Health::Initial; 2]);
    assert!(!scene.core.is_checked());
    pass(MOMENT).await;
    assert_eq!(scene.health("api"), [Health::Healthy; 2]);
    assert!(scene.core.is_checked());
    scene.apply(&[("api", &[1, 2, 3])]);
    pass(MOMENT).await;
    assert_eq!(scene.health("api"), [Health::Healthy; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_just_starts_is_asked_each_second() {
    let scene = Scene::new(&[("api", &[])]);
    scene.network.set_broken(1, Some(Failure::Unreachable("refused".into())));
    scene.apply(&[("api", &[1])]);
    pass(Duration::from_millis(4_500)).await;
    assert_eq!(scene.network.asked(1), 5);
    assert_eq!(
        (scene.health("api"), scene.reason("api")),
        (vec![Health::Initial], "Target.FailedHealthChecks")
    );
    pass(Duration::from_secs(1)).await;
    assert_eq!(scene.health("api"), [Health::Unhealthy], "twice in two intervals");
    scene.network.set_broken(1, None);
    pass(Duration::from_millis(600)).await;
    assert_eq!(scene.health("api"), [Health::Healthy]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_leaves_and_one_that_recovers_returns() {
    let scene = Scene::new(&[("api", &[1])]);
    pass(MOMENT).await;
    scene.network.set_broken(1, Some(Failure::Timeout));
    pass(Duration::from_secs(20)).await;
    assert_eq!(scene.health("api"), [Health::Unhealthy]);
    assert_eq!(scene.reason("api"), "Target.Timeout");
    scene.network.set_broken(1, Some(Failure::Status(503)));
    pass(Duration::from_secs(10)).await;
    assert_eq!(scene.reason("api"), "Target.ResponseCodeMismatch");
    scene.network.set_broken(1, None);
    pass(Duration::from_secs(12)).await;
    assert_eq!(scene.health("api"), [Health::Healthy]);
    assert_eq!(scene.reason("api"), "");
}

#[tokio::test(start_paused = true)]
async fn groups_that_share_a_target_share_its_checks() {
    let scene = Scene::new(&[("api", &[1]), ("api-next", &[1])]);
    pass(MOMENT).await;
    assert_eq!(scene.network.asked(1), 1);
    assert_eq!(
        (scene.health("api"), scene.health("api-next")),
        (vec![Health::Healthy], vec![Health::Healthy])
    );
    scene.apply(&[("api", &[1]), ("api-next", &[1]), ("late", &[1])]);
    pass(MOMENT).await;
    assert_eq!(scene.network.asked(1), 1, "what is known is told, not asked again");
    assert_eq!(scene.health("late"), [Health::Healthy]);
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_is_not_asked_any_more() {
    let scene = Scene::new(&[("api", &[1, 2])]);
    pass(MOMENT).await;
    scene.apply(&[("api", &[2])]);
    pass(Duration::from_secs(30)).await;
    assert_eq!(scene.network.asked(1), 1);
    assert!(scene.network.asked(2) >= 6);
    scene.apply(&[]);
    pass(MOMENT).await;
    scene.core.settle(&snapshot(&[]), &[], Instant::now());
    let before = scene.network.asked(2);
    pass(Duration::from_secs(30)).await;
    assert_eq!(scene.network.asked(2), before, "its group left");
}

#[tokio::test(start_paused = true)]
async fn checks_begin_an_interval_apart_however_long_they_take() {
    let scene = Scene::new(&[("api", &[1])]);
    pass(Duration::from_secs(6)).await;
    scene.network.set_broken(1, Some(Failure::Timeout));
    let before = scene.network.asked(1);
    pass(Duration::from_secs(12)).await;
    assert_eq!(scene.health("api"), [Health::Unhealthy], "two intervals and a time-out later");
    pass(Duration::from_secs(38)).await;
    assert_eq!(scene.network.asked(1) - before, 10);
}

#[tokio::test(start_paused = true)]
async fn others_are_picked_before_a_suspect_until_a_check_passes() {
    let scene = Scene::new(&[("api", &[1, 2, 3])]);
    pass(MOMENT).await;
    let group = scene.core.groups().remove(0);
    let picks = || -> BTreeMap<u16, usize> {
        let mut picks = BTreeMap::new();
        for _ in 0..12 {
            *picks.entry(pick(&group, &[]).unwrap().endpoint().target.port).or_default() += 1;
        }
        picks
    };
    let endpoints = group.current_endpoints();
    for endpoint in &endpoints {
        endpoint.cell.signs.suspect(Doubt::Unreachable);
    }
    assert_eq!(picks(), [(1, 4), (2, 4), (3, 4)].into(), "a suspect is better than nobody");
    endpoints[2].cell.signs.trust();
    assert_eq!(picks(), [(3, 12)].into());
    scene.network.set_broken(1, Some(Failure::Status(503)));
    pass(Duration::from_secs(11)).await;
    assert_eq!(picks(), [(2, 6), (3, 6)].into());
}

#[tokio::test(start_paused = true)]
async fn a_changed_check_starts_from_the_health_that_is_known() {
    let scene = Scene::new(&[("api", &[1])]);
    pass(MOMENT).await;
    let mut changed = snapshot(&[("api", &[1])]);
    changed.target_groups.get_mut("api").unwrap().health_check.path = "/other".into();
    scene.network.set_broken(1, Some(Failure::Status(404)));
    scene.core.apply(&changed, Instant::now());
    pass(MOMENT).await;
    assert_eq!(scene.network.asked(1), 2);
    assert_eq!(scene.health("api"), [Health::Healthy], "one failure is not enough");
    pass(Duration::from_secs(10)).await;
    assert_eq!(scene.health("api"), [Health::Unhealthy]);
}

#[tokio::test(start_paused = true)]
async fn checks_of_many_targets_spread_over_the_interval() {
    let ports: Vec<u16> = (1..=1_000).collect();
    let scene = Scene::new(&[("api", &ports)]);
    let start = Instant::now();
    pass(Duration::from_secs(10)).await;
    assert_eq!(scene.health("api"), vec![Health::Healthy; 1_000]);
    let mut seconds = [0; 5];
    for (_, asked) in scene.network.asked.lock().iter() {
        let after = asked.duration_since(start).as_secs() as usize;
        if (5..10).contains(&after) {
            seconds[after - 5] += 1;
        }
    }
    assert!(seconds.iter().all(|count| (140..260).contains(count)), "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_silent_targets_do_not_keep_others_waiting_longer_than_an_interval() {
    let ports: Vec<u16> = (1..=1_001).collect();
    let scene = Scene::new(&[("api", &[])]);
    for port in 1..=1_000 {
        scene.network.set_broken(port, Some(Failure::Timeout));
    }
    scene.apply(&[("api", &ports)]);
    pass(Duration::from_secs(5)).await;
    assert_eq!(scene.health("api").iter().filter(|health| **health == Health::Healthy).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_small_group_does_not_wait_for_a_large_one() {
    let ports: Vec<u16> = (11..=1_010).collect();
    let scene = Scene::new(&[("large", &ports), ("small", &[1, 2, 3])]);
    pass(MOMENT).await;
    assert_eq!(scene.health("small"), [Health::Healthy; 3]);
    let healthy = |health: &Health| *health == Health::Healthy;
    assert!(scene.health("large").into_iter().filter(healthy).count() < 300);
    pass(Duration::from_millis(310)).await;
    assert!(scene.health("large").iter().all(healthy));
}
