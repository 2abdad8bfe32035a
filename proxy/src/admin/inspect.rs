//! What is in force, for people who debug.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_proxy_api::report::Health;
use evenkeel_proxy_api::snapshot::{self, Version};
use serde::Serialize;

use crate::group::{Endpoint, Group};
use crate::in_force::Core;
use crate::listeners::Listeners;

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    version: Version,
    /// Addresses of the ports that are open, by listener.
    bound: BTreeMap<String, SocketAddr>,
    /// As applied; a listener that was rejected is shown as it was before.
    listeners: BTreeMap<String, snapshot::Listener>,
    target_groups: BTreeMap<String, TargetGroup>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetGroup {
    requests: u64,
    no_target: u64,
    /// Also those that left the snapshot with something in flight.
    targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    id: String,
    address: SocketAddr,
    zone: String,
    weight: u16,
    health: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    draining: bool,
    in_flight: u32,
    completed: u64,
    failed: u64,
}

/// Looks at everything.
pub(super) fn inspect(core: &Core, listeners: &Listeners) -> State {
    let table = core.table();
    State {
        version: table.version,
        bound: listeners.bound().into_iter().collect(),
        listeners: table
            .listeners
            .iter()
            .map(|(name, listener)| (name.clone(), listener.source().clone()))
            .collect(),
        target_groups: core
            .groups()
            .iter()
            .map(|group| (group.name().to_owned(), target_group(group)))
            .collect(),
    }
}

fn target_group(group: &Group) -> TargetGroup {
    TargetGroup {
        requests: group.stats().requests(),
        no_target: group.stats().no_target(),
        targets: group.endpoints().iter().map(target).collect(),
    }
}

fn target(endpoint: &Arc<Endpoint>) -> Target {
    let counts = endpoint.cell.counts();
    let verdict = endpoint.cell.verdict();
    Target {
        id: endpoint.id().to_owned(),
        address: endpoint.address,
        zone: endpoint.target.zone.clone(),
        weight: endpoint.target.weight,
        health: word(endpoint.cell.health()),
        reason: verdict.reason,
        description: verdict.description,
        draining: endpoint.cell.draining(),
        in_flight: counts.in_flight,
        completed: counts.completed,
        failed: counts.failed,
    }
}

/// As in Elastic Load Balancing.
pub(crate) fn word(health: Health) -> &'static str {
    match health {
        Health::Initial => "initial",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}
