//! Takes replicas away without losing what is in flight there, and brings the Deployment to the wanted number.
//!
//! ```text
//! desired < replicas: choose victims ─► annotate ─► (snapshot marks them, proxies report 0 in flight) ─► deletion cost
//!                     ─► lower the Deployment's scale ─► whoever was marked and survived serves again
//! desired > replicas: victims serve again ─► raise the Deployment's scale
//! ```
//!
//! [`plan`] is pure and looks only at what is in the cluster, so that a new leader goes on where the old one stopped.

mod plan;
mod progress;
mod shell;

pub use plan::{Action, Phase, Replica, Situation, plan};
pub use progress::{Forward, is_drained};
pub(crate) use shell::forwards;
pub use shell::{Drain, SCALE_MANAGER, run};

/// On a replica's pod: how readily its ReplicaSet removes it.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Below what anybody else writes there.
pub const LEAVES_FIRST: &str = "-2147483647";
