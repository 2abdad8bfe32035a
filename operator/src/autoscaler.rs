//! Decides each second how many replicas each ReplicaService should have.

mod decisions;

pub use decisions::{DecisionView, Decisions};
