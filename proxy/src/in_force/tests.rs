use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use evenkeel_proxy_api::report::Health;

use super::*;
use crate::cells::Verdict;
use crate::group::Endpoint;
use crate::pick::{NoTarget, Picked, pick};

/// A core and what was applied to it.
#[derive(Default)]
struct Scene {
    core: Core,
    counter: u64,
}

impl Scene {
    /// Applies listeners and target groups; gives what was rejected.
    fn apply(&mut self, listeners: &str, groups: &str) -> Vec<String> {
        self.counter += 1;
        let version = self.counter;
        let text = format!(
            "{{version: {{epoch: 1, counter: {version}}}, listeners: {{{listeners}}}, targetGroups: {{{groups}}}}}"
        );
        let snapshot: Snapshot = serde_saphyr::from_str(&text).unwrap();
        let rejections = self.core.apply(&snapshot, Instant::now());
        self.core.settle(&snapshot, &[], Instant::now());
        rejections.into_iter().map(|rejection| format!("{}: {}", rejection.name, rejection.reason)).collect()
    }

    /// Applies one group, `api`, whose targets all are healthy, and says which.
    fn targets(&mut self, targets: &[(&str, &str)]) -> Arc<Group> {
        let targets: Vec<_> = targets
            .iter()
            .map(|(id, more)| format!("{{id: {id}, address: 10.0.0.1, port: 80{more}}}"))
            .collect();
        assert!(self.apply("", &format!("api: {{targets: [{}]}}", targets.join(","))).is_empty());
        let group = self.group("api");
        set_all(&group, Health::Healthy);
        group
    }

    fn group(&self, name: &str) -> Arc<Group> {
        self.core.groups().into_iter().find(|group| group.name() == name).unwrap()
    }
}

fn set_all(group: &Group, health: Health) {
    for endpoint in group.current_endpoints() {
        group.set_health(&endpoint.cell, health, Verdict::default());
    }
}

fn endpoint(group: &Group, id: &str) -> Arc<Endpoint> {
    group.current_endpoints().into_iter().find(|endpoint| endpoint.id() == id).unwrap()
}

fn picks(group: &Group, count: usize) -> BTreeMap<String, usize> {
    let mut picks = BTreeMap::new();
    for _ in 0..count {
        *picks.entry(pick(group, &[]).unwrap().endpoint().id().to_owned()).or_default() += 1;
    }
    picks
}

fn shares(picks: &BTreeMap<String, usize>) -> Vec<(&str, usize)> {
    picks.iter().map(|(id, count)| (id.as_str(), *count)).collect()
}

const FORWARD: &str = "defaultAction: {forward: {targetGroups: [{name: api}]}}";

#[test]
fn targets_share_exactly_and_by_weight() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", ""), ("b", ""), ("c", "")]);
    assert_eq!(shares(&picks(&group, 300)), [("a", 100), ("b", 100), ("c", 100)]);
    scene.targets(&[("a", ", weight: 3"), ("b", "")]);
    assert_eq!(shares(&picks(&group, 400)), [("a", 300), ("b", 100)]);
}

#[test]
fn turns_go_on_over_any_number_of_changes() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", ""), ("b", ""), ("c", "")]);
    let mut counts = BTreeMap::<String, usize>::new();
    for round in 0..300 {
        for (id, count) in picks(&group, 1) {
            *counts.entry(id).or_default() += count;
        }
        // The same again, or with another zone, or with one more target that is not healthy.
        match round % 3 {
            0 => scene.targets(&[("a", ""), ("b", ""), ("c", "")]),
            1 => scene.targets(&[("a", ", zone: z"), ("b", ""), ("c", "")]),
            _ => {
                scene.apply("", "api: {targets: [{id: a, address: 10.0.0.1, port: 80}, {id: aa, address: 10.0.0.9, port: 80},
                    {id: b, address: 10.0.0.1, port: 80}, {id: c, address: 10.0.0.1, port: 80}]}");
                scene.group("api")
            }
        };
    }
    assert_eq!(shares(&counts), [("a", 100), ("b", 100), ("c", 100)]);
}

#[test]
fn only_healthy_targets_are_picked() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", ""), ("b", ""), ("c", ", drain: 300s")]);
    let b = endpoint(&group, "b");
    group.set_health(&b.cell, Health::Unhealthy, Verdict::default());
    assert_eq!(shares(&picks(&group, 10)), [("a", 10)]);
    group.set_health(&b.cell, Health::Healthy, Verdict::default());
    assert_eq!(shares(&picks(&group, 10)), [("a", 5), ("b", 5)]);
}

#[test]
fn with_nobody_healthy_the_unhealthy_are_picked_but_not_those_that_drain_or_were_never_checked() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", ""), ("b", ""), ("c", ", drain: 300s")]);
    set_all(&group, Health::Unhealthy);
    assert!(group.lineup().fails_open());
    assert_eq!(shares(&picks(&group, 10)), [("a", 5), ("b", 5)]);
    let text = "api: {targets: [{id: c, address: 10.0.0.1, port: 80, drain: 300s}, {id: new, address: 10.0.0.2, port: 80}]}";
    scene.apply("", text);
    assert_eq!(pick(&group, &[]).unwrap_err(), NoTarget::NoneInService);
    assert_eq!(group.stats().no_target(), 1);
}

#[test]
fn a_retry_goes_elsewhere_until_all_were_tried() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", ""), ("b", "")]);
    let first = Arc::clone(pick(&group, &[]).unwrap().endpoint());
    let second = Arc::clone(pick(&group, std::slice::from_ref(&first)).unwrap().endpoint());
    assert_ne!(first.id(), second.id());
    assert_eq!(pick(&group, &[first, second]).unwrap_err(), NoTarget::AllTried);
    assert_eq!((group.stats().requests(), group.stats().no_target()), (1, 0));
}

#[test]
fn the_fewest_in_flight_are_picked_where_that_is_the_algorithm() {
    let mut scene = Scene::default();
    let text = "api: {algorithm: LeastRequest, targets: [{id: a, address: 10.0.0.1, port: 80}, {id: b, address: 10.0.0.2, port: 80}]}";
    scene.apply("", text);
    let group = scene.group("api");
    set_all(&group, Health::Healthy);
    let held: Vec<Picked> = (0..4).map(|_| pick(&group, &[]).unwrap()).collect();
    let on_a: Vec<_> = held.into_iter().filter(|picked| picked.endpoint().id() == "a").collect();
    assert_eq!(on_a.len(), 2);
    assert_eq!(shares(&picks(&group, 5)), [("b", 5)]);
}

#[test]
fn a_drain_counts_what_was_there_and_lets_nothing_in() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", ""), ("b", "")]);
    let held: Vec<_> = (0..2).map(|_| pick(&group, &[]).unwrap()).collect();
    scene.targets(&[("a", ", drain: 300s"), ("b", "")]);
    let a = endpoint(&group, "a");
    assert_eq!(a.cell.in_flight(), 1);
    assert_eq!(shares(&picks(&group, 10)), [("b", 10)]);
    drop(held);
    assert_eq!(a.cell.in_flight(), 0);
    scene.targets(&[("a", ""), ("b", "")]);
    assert_eq!(shares(&picks(&group, 10)), [("a", 5), ("b", 5)], "the drain was cancelled");
}

#[test]
fn once_a_drain_is_in_force_no_pick_begins_there_however_many_threads_pick() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", ""), ("b", "")]);
    let (stop, late) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Odd while a drain is in force.
    let drains = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let before = drains.load(SeqCst);
                    let picked = pick(&group, &[]).unwrap();
                    let in_force = before % 2 == 1 && drains.load(SeqCst) == before;
                    late.fetch_add(usize::from(in_force && picked.endpoint().id() == "a"), SeqCst);
                }
            });
        }
        for _ in 0..100 {
            scene.targets(&[("a", ", drain: 300s"), ("b", "")]);
            drains.fetch_add(1, SeqCst);
            std::thread::yield_now();
            drains.fetch_add(1, SeqCst);
            scene.targets(&[("a", ""), ("b", "")]);
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(late.into_inner(), 0);
    assert!(group.endpoints().iter().all(|endpoint| endpoint.cell.in_flight() == 0));
}

#[test]
fn what_left_the_snapshot_is_known_until_nothing_is_in_flight() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", "")]);
    let held = pick(&group, &[]).unwrap();
    scene.apply("", "");
    assert!(scene.core.current_groups().is_empty());
    scene.core.sweep(Instant::now() + LINGER);
    assert_eq!(group.endpoints().len(), 1);
    assert_eq!(scene.core.groups().len(), 1);
    drop(held);
    scene.core.sweep(Instant::now());
    assert!(scene.core.groups().is_empty());
}

#[test]
fn a_group_that_returns_is_the_same() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", "")]);
    scene.apply("", "");
    assert!(Arc::ptr_eq(&group, &scene.targets(&[("a", "")])));
    scene.core.sweep(Instant::now() + LINGER);
    assert_eq!(shares(&picks(&group, 1)), [("a", 1)]);
}

#[test]
fn a_target_that_returns_while_known_keeps_its_counts() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", ""), ("b", "")]);
    let held = pick(&group, &[]).unwrap();
    let id = held.endpoint().id().to_owned();
    scene.targets(&[]);
    scene.targets(&[("a", ""), ("b", "")]);
    assert_eq!(endpoint(&group, &id).cell.in_flight(), 1);
    drop(held);
    assert_eq!(endpoint(&group, &id).cell.in_flight(), 0);
}

#[test]
fn a_target_of_another_address_is_checked_anew() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", "")]);
    scene.apply("", "api: {targets: [{id: a, address: 10.0.0.7, port: 80}]}");
    assert_eq!(endpoint(&group, "a").cell.health(), Health::Initial);
    assert!(!scene.core.is_checked());
}

#[test]
fn a_rejected_listener_stays_as_it_was_and_spoils_no_other() {
    let mut scene = Scene::default();
    let group = "api: {targets: []}";
    assert!(scene.apply(&format!("http: {{port: 80, {FORWARD}}}"), group).is_empty());
    let broken = "defaultAction: {forward: {targetGroups: [{name: nowhere}]}}";
    let rejected =
        scene.apply(&format!("http: {{port: 81, {broken}}}, other: {{port: 82, {FORWARD}}}"), group);
    assert_eq!(rejected, ["http: defaultAction: there is no target group nowhere"]);
    let table = scene.core.table();
    assert_eq!(table.listeners.values().map(|listener| listener.port).collect::<Vec<_>>(), [80, 82]);
    assert_eq!(table.version.counter, 2);
}

#[test]
fn a_rejected_listener_keeps_the_group_that_it_leads_to() {
    let mut scene = Scene::default();
    scene.apply(
        &format!("http: {{port: 80, {FORWARD}}}"),
        "api: {targets: [{id: a, address: 10.0.0.1, port: 80}]}",
    );
    let group = scene.group("api");
    set_all(&group, Health::Healthy);
    let rejected = scene.apply(&format!("http: {{port: 80, {FORWARD}}}"), "");
    assert_eq!(rejected, ["http: defaultAction: there is no target group api"]);
    scene.core.sweep(Instant::now() + LINGER);
    assert_eq!(scene.core.current_groups().len(), 1);
    assert_eq!(shares(&picks(&group, 2)), [("a", 2)]);
}

#[test]
fn a_group_with_bad_settings_keeps_its_old_ones_but_takes_over_its_targets() {
    let mut scene = Scene::default();
    let group = scene.targets(&[("a", "")]);
    let rejected = scene.apply(
        "",
        "api: {healthCheck: {path: nowhere}, targets: [{id: a, address: 10.0.0.1, port: 80, drain: 300s}]}",
    );
    assert_eq!(rejected, ["api: healthCheck.path: must begin with a slash and be ASCII without blanks"]);
    assert!(endpoint(&group, "a").cell.draining());
    assert_eq!(group.settings().health_check.path, "/");
}

#[test]
fn a_listener_and_targets_that_speak_differently_are_kept_apart() {
    let mut scene = Scene::default();
    let http = format!("http: {{port: 80, {FORWARD}}}");
    assert!(scene.apply(&http, "api: {targets: []}").is_empty());
    let rejected = scene.apply(&http, "api: {protocol: TCP, targets: []}");
    assert_eq!(
        rejected,
        ["http: defaultAction: an HTTP listener cannot forward to api, whose targets speak TCP"]
    );
}

#[test]
fn what_did_not_change_is_not_made_again() {
    let mut scene = Scene::default();
    let http = format!("http: {{port: 80, {FORWARD}}}");
    scene.apply(&http, "api: {targets: []}");
    let before = Arc::clone(&scene.core.table().listeners["http"]);
    scene.apply(&http, "api: {targets: [{id: a, address: 10.0.0.1, port: 80}]}");
    assert!(Arc::ptr_eq(&before, &scene.core.table().listeners["http"]));
}

#[test]
fn rules_are_tried_by_priority_whatever_their_order() {
    let mut scene = Scene::default();
    let rule = |priority: u32, status: u16| {
        format!(
            "{{priority: {priority}, conditions: [path: {{values: ['/*']}}],
               action: {{fixedResponse: {{statusCode: {status}, contentType: text/plain}}}}}}"
        )
    };
    let rules = [rule(20, 202), rule(10, 201)].join(",");
    assert!(
        scene
            .apply(&format!("http: {{port: 80, rules: [{rules}], {FORWARD}}}"), "api: {targets: []}")
            .is_empty()
    );
    let table = scene.core.table();
    assert_eq!(table.listeners["http"].rules.iter().map(|rule| rule.priority).collect::<Vec<_>>(), [10, 20]);
}

#[test]
fn who_may_connect_is_checked_by_network() {
    let mut scene = Scene::default();
    scene.apply(
        &format!("http: {{port: 80, allowedSources: [10.0.0.0/8], {FORWARD}}}, all: {{port: 81, {FORWARD}}}"),
        "api: {}",
    );
    let table = scene.core.table();
    for (source, expected) in
        [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("192.168.0.1", false), ("::1", false)]
    {
        assert_eq!(table.listeners["http"].allows(source.parse().unwrap()), expected, "{source}");
        assert!(table.listeners["all"].allows(source.parse().unwrap()));
    }
}
