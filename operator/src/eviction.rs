//! Evictions of replicas: whoever asks for one waits until the replica was drained, and loses nothing.
//!
//! ```text
//! kubectl drain ─► pods/eviction ─► API server ─► here: noted on the pod, 429 "try again"
//!                                                   └─► another replica serves in its place ─► drained ─► removed
//! kubectl drain ─► pods/eviction ─► API server: there is no such pod any more
//! ```
//!
//! The operator that leads answers: it knows what is in flight, and nobody else writes. Who finds no operator goes on
//! without it, as the configuration of the webhook says; a sleep before the replica's end covers short requests then.

mod decide;
mod holds;
mod metrics;
mod server;
mod trust;

pub use decide::{Answer, answer};
pub use holds::Holds;
pub use metrics::Metrics;
pub use server::{Warden, serve};
pub use trust::trust;

/// Name of the ValidatingWebhookConfiguration.
pub const NAME: &str = "evenkeel-eviction";
/// Name of the one webhook in it.
pub const WEBHOOK: &str = "eviction.evenkeel.dev";
/// Where it is asked.
pub const PATH: &str = "/evictions";
