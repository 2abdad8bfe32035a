//! The control plane.
//!
//! ```text
//! custom resource ─validate─► registry ─┬─build─► apply ─► cluster
//!                 pods, endpoint slices ┴─snapshot─► push ─► proxies
//! proxies' reports, pod metrics ─► scale::decide ─► desired ─► drain ─► Deployment's scale
//! ```

pub mod admin;
pub mod args;
pub mod auth;
pub mod autoscaler;
pub mod ca;
pub mod changes;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod plane;
pub mod push;
pub mod registry;
pub mod reports;
pub mod scale;
pub mod snapshot;
pub mod targets;
pub mod telemetry;
pub mod world;
