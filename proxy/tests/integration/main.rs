//! The proxy over loopback: real listeners, real targets, real clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by failing"
)]

mod bodies;
mod client;
mod differential;
mod drains;
mod failures;
mod forwarding;
mod h2;
mod hanging;
mod harness;
mod http1;
mod hygiene;
mod large;
mod limits;
mod listeners;
mod process;
mod routing;
mod target;
mod tcp;
