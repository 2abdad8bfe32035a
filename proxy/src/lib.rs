//! The data plane: a load balancer's proxy.

pub mod access_log;
pub mod args;
pub mod errors;
pub mod headers;
pub mod metrics;
pub mod retry;
pub mod stream;
