//! The proxy over loopback: real listeners, real targets, real clients.

mod client;
mod drains;
mod failures;
mod forwarding;
mod harness;
mod hygiene;
mod listeners;
mod routing;
mod target;
mod tcp;
