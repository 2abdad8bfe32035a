//! Version `v1alpha1` of the API, one kind per file.

mod common;
mod limits;
mod load_balancer;
mod replica_service;
mod target_group;

pub use common::*;
pub use limits::*;
pub use load_balancer::*;
pub use replica_service::*;
pub use target_group::*;
