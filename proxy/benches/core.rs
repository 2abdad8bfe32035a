//! What a request costs in the core: the table is loaded, the rules are tried, a group and a target are chosen, the
//! outcome is recorded.
//!
//! `cargo bench -p evenkeel-proxy --bench core`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people who measure")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_proxy::action::Action;
use evenkeel_proxy::cells::Verdict;
use evenkeel_proxy::in_force::Core;
use evenkeel_proxy::pick::{Outcome, pick};
use evenkeel_proxy::request::RequestView;
use evenkeel_proxy::route::route;
use evenkeel_proxy_api::report::Health;
use evenkeel_proxy_api::snapshot::Snapshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Request;

impl RequestView for Request {
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &'static str {
        "/api/v1/users/42"
    }
    fn query(&self) -> &'static str {
        "page=2"
    }
    fn authority(&self) -> &'static str {
        "shop.example.com"
    }
    fn header(&self, _name: &str) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }
    fn source(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
}

/// A core whose last rule matches the request.
fn core(rules: usize, targets: usize, algorithm: &str) -> Arc<Core> {
    let rule = |index: usize| {
        let path = if index + 1 == rules { "/api/*".to_owned() } else { format!("/other-{index}/*") };
        format!(
            "{{priority: {}, conditions: [path: {{values: ['{path}']}}], action: {{forward: {{targetGroups: [name: api]}}}}}}",
            index + 1
        )
    };
    let target = |index: usize| format!("{{id: 'target-{index}', address: 10.0.0.1, port: {}}}", index + 1);
    let rules: Vec<_> = (0..rules).map(rule).collect();
    let targets: Vec<_> = (0..targets).map(target).collect();
    let text = format!(
        "{{listeners: {{http: {{port: 80, rules: [{}], defaultAction: {{forward: {{targetGroups: [name: api]}}}}}}}},
           targetGroups: {{api: {{algorithm: {algorithm}, targets: [{}]}}}}}}",
        rules.join(","),
        targets.join(",")
    );
    let snapshot: Snapshot = serde_saphyr::from_str(&text).unwrap();
    let core = Arc::new(Core::default());
    assert!(core.apply(&snapshot, tokio::time::Instant::now()).is_empty());
    for group in core.groups() {
        for endpoint in group.current_endpoints() {
            group.set_health(&endpoint.cell, Health::Healthy, Verdict::default());
        }
    }
    core
}

fn one_request(core: &Core, rng: &mut fastrand::Rng) {
    let table = core.table();
    let listener = table.listeners.get("http").unwrap();
    let found = route(listener, &Request);
    let Action::Forward(forward) = found.action else { return };
    let picked = pick(forward.choose(rng).unwrap(), &[]).unwrap();
    black_box(picked.endpoint().address);
    picked.finish(Outcome::Succeeded, Some(Duration::from_millis(3)));
}

fn nanoseconds(core: &Arc<Core>, threads: usize, count: u32) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for seed in 0..threads {
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed as u64);
                for _ in 0..count {
                    one_request(core, &mut rng);
                }
            });
        }
    });
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

fn main() {
    println!("{:>14} {:>6} {:>8} {:>8} {:>12}", "algorithm", "rules", "targets", "threads", "ns/request");
    for (algorithm, rules, targets) in [
        ("RoundRobin", 0, 2),
        ("RoundRobin", 5, 10),
        ("RoundRobin", 100, 10),
        ("RoundRobin", 1_000, 10),
        ("RoundRobin", 5, 1_000),
        ("LeastRequest", 5, 10),
        ("LeastRequest", 5, 64),
        ("LeastRequest", 5, 1_000),
    ] {
        let core = core(rules, targets, algorithm);
        let count = if rules > 100 { 100_000 } else { 1_000_000 };
        for threads in [1, 2] {
            nanoseconds(&core, threads, count / 10);
            let took = nanoseconds(&core, threads, count);
            println!("{algorithm:>14} {rules:>6} {targets:>8} {threads:>8} {took:>12.0}");
        }
    }
}
