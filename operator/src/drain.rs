//! Takes replicas away without losing what is in flight there, brings the Deployment to the wanted number, and says when
//! a replica counts as ready.
//!
//! ```text
//! it serves ─► its gate opens: Kubernetes counts it as ready
//! desired < replicas: choose victims ─► annotate ─► (snapshot marks them, proxies report 0 in flight) ─► deletion cost
//!                     ─► shut the gate ─► (its ReplicaSet counts it as not ready) ─► lower the Deployment's scale
//!                     ─► whoever was marked and survived serves again
//! desired > replicas: victims serve again ─► raise the Deployment's scale
//! a node is emptied:  one more is started for each replica there ─► it serves ─► the one there leaves as above
//! another template:   as many old replicas leave that way as new ones serve; then the new ones' gates open, and the
//!                     Deployment controller removes the old ones
//! ```
//!
//! [`plan`] is pure and looks only at what is in the cluster, so that a new leader goes on where the old one stopped.

mod gate;
mod look;
mod metrics;
mod plan;
mod progress;
mod rollout;
mod shell;
#[cfg(test)]
mod simulation;
mod situation;
mod story;
#[cfg(test)]
mod succession;
mod tell;
mod write;

pub use gate::{Gate, Readiness, SILENCE, Silence, Way, passes};
pub(crate) use look::forwards;
pub use metrics::Metrics;
pub use plan::plan;
pub use progress::{Age, Forward, Progress, progress};
pub use shell::{Drain, run};
pub use situation::{Action, ActionKind, Draining, Move, Phase, Replica, Set, Situation};
pub use story::News;
pub use tell::{BACKLOG, tell};

/// On a replica's pod: how readily its ReplicaSet removes it.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Below what anybody else writes there.
pub const LEAVES_FIRST: &str = "-2147483647";
