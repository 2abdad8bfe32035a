//! What the core counts of target groups and targets, shown at each scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use evenkeel_proxy_api::report::Health;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode_latency;
use crate::group::{Group, GroupStats};
use crate::in_force::Core;

type Count = fn(&GroupStats) -> u64;

/// Name, help and count.
const COUNTERS: &[(&str, &str, Count)] = &[
    ("target_group_requests", "Requests, retries not counted", GroupStats::requests),
    ("target_group_no_target", "Requests that found no target", GroupStats::no_target),
    ("target_group_retries", "Attempts beyond a request's first", GroupStats::retries),
    (
        "target_group_retries_over_budget",
        "Retries that would have been safe but were beyond the budget",
        GroupStats::retries_over_budget,
    ),
    (
        "target_group_connect_failures",
        "Attempts to connect to a target that failed",
        GroupStats::connect_failures,
    ),
    (
        "target_group_suspicions",
        "Times that a target was put behind the others because it did not answer or connect",
        GroupStats::suspicions,
    ),
];

/// Shows the groups of a core. It is the one who shows them, so it may as well look when asked.
#[derive(Debug)]
pub struct GroupCollector(pub Arc<Core>);

impl Collector for GroupCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let groups = self.0.groups();
        for (name, help, count) in COUNTERS {
            counter(&mut encoder, name, help, &groups, *count)?;
        }
        latency(&mut encoder, &groups)?;
        in_flight(&mut encoder, &groups)?;
        targets(&mut encoder, &groups)
    }
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    groups: &[Arc<Group>],
    count: Count,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for group in groups {
        let labels = [("target_group", group.name())];
        ConstCounter::new(count(group.stats())).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn latency(encoder: &mut DescriptorEncoder<'_>, groups: &[Arc<Group>]) -> fmt::Result {
    let (name, help) = ("target_group_latency_seconds", "From an attempt's start to the head of its answer");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for group in groups {
        let labels = [("target_group", group.name())];
        let encoder: MetricEncoder<'_> = family.encode_family(&labels)?;
        encode_latency(encoder, group.stats().latency_sum().as_secs_f64(), &group.stats().latency())?;
    }
    Ok(())
}

fn in_flight(encoder: &mut DescriptorEncoder<'_>, groups: &[Arc<Group>]) -> fmt::Result {
    let help = "Requests, streams, tunnels and sessions at targets now";
    let mut family = encoder.encode_descriptor("target_group_in_flight", help, None, MetricType::Gauge)?;
    for group in groups {
        let labels = [("target_group", group.name())];
        let sum: i64 = group.endpoints().iter().map(|endpoint| i64::from(endpoint.cell.in_flight())).sum();
        ConstGauge::new(sum).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn targets(encoder: &mut DescriptorEncoder<'_>, groups: &[Arc<Group>]) -> fmt::Result {
    let help = "Targets by what checks say, or draining";
    let mut family = encoder.encode_descriptor("targets", help, None, MetricType::Gauge)?;
    for group in groups {
        for (state, count) in states(group) {
            let labels = [("target_group", group.name()), ("state", state)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Each state is shown, be it with 0, so that a series does not vanish when it should alarm.
fn states(group: &Group) -> BTreeMap<&'static str, i64> {
    let mut states = BTreeMap::from([("initial", 0), ("healthy", 0), ("unhealthy", 0), ("draining", 0)]);
    for endpoint in group.endpoints() {
        let state = match endpoint.cell.health() {
            _ if endpoint.cell.draining() => "draining",
            Health::Initial => "initial",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        };
        states.entry(state).and_modify(|count| *count += 1);
    }
    states
}
