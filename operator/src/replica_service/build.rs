//! Pure: what a ReplicaService consists of, one kind of object per file. No client.

mod deployment;
mod disruption_budget;
mod network_policy;

pub use deployment::{deployment, scale, template, with_replicas};
pub use disruption_budget::{competes, disruption_budget};
pub use network_policy::network_policy;

#[cfg(test)]
pub(crate) mod tests;
