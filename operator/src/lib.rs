//! The control plane.
//!
//! ```text
//! custom resource ─validate─► registry ─┬─build─► apply ─► cluster
//!                 pods, endpoint slices ┴─snapshot─► push ─► proxies
//! proxies' reports, pod metrics ─► scale::decide ─► desired ─► drain ─► Deployment's scale
//! ```

pub mod admin;
pub mod apply;
pub mod args;
pub mod auth;
pub mod autoscaler;
pub mod ca;
pub mod caches;
pub mod changes;
pub mod conditions;
pub mod context;
pub mod controller;
pub mod deletion;
pub mod drain;
pub mod error;
pub mod events;
pub mod eviction;
#[cfg(test)]
mod fake;
pub mod finalizer;
#[cfg(test)]
mod golden;
pub mod labels;
pub mod last_accepted;
pub mod leader;
pub mod lease;
pub mod load_balancer;
pub mod lost;
pub mod metrics;
pub mod nodes;
pub mod noticed;
pub mod object_key;
pub mod plane;
pub mod pod_metrics;
pub mod push;
pub mod reconciled;
pub mod registry;
pub mod replica_service;
pub mod reports;
pub mod revision;
pub mod scale;
pub mod snapshot;
pub mod status;
pub mod target_group;
pub mod targets;
pub mod telemetry;
pub mod validation;
pub mod wakes;
pub mod watches;
pub mod world;

#[cfg(test)]
mod tests;
