//! Pure: what a load balancer consists of, one kind of object per file. No client.
//!
//! Nothing in the pod template depends on listeners or on the operator's version: any byte of it is a rollout.

mod deployment;
mod disruption_budget;
mod network_policy;
mod service;
mod service_account;

pub use deployment::deployment;
pub use disruption_budget::disruption_budget;
pub use network_policy::network_policy;
pub use service::{Port, ports, service};
pub use service_account::service_account;

#[cfg(test)]
pub mod tests;
