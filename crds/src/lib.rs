//! The Kubernetes API of Evenkeel: [`v1alpha1::LoadBalancer`], [`v1alpha1::TargetGroup`] and
//! [`v1alpha1::ReplicaService`] in the group `evenkeel.dev`.
//!
//! ```text
//! types ──derive──► schema ──definition──► CustomResourceDefinition ──generate──► YAML, chart templates, reference
//! ```
//!
//! `make crds` writes the generated files; a test fails when they differ from the types.

pub mod definition;
pub mod generate;
mod reference;
pub mod v1alpha1;
