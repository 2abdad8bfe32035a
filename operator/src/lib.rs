//! The control plane.
//!
//! ```text
//! custom resource ─validate─► registry ─┬─build─► apply ─► cluster
//!                 pods, endpoint slices ┴─snapshot─► push ─► proxies
//! proxies' reports, pod metrics ─► scale::decide ─► desired ─► drain ─► Deployment's scale
//! ```

pub mod admin;
pub mod args;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod registry;
pub mod telemetry;
