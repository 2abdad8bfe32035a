//! What operator and proxy say to each other.
//!
//! ```text
//! Snapshot ─delta─► Update… ─stream─► Assembler ─► Snapshot      (operator → proxy)
//! Report, Ack ◄─────────────stream──────────────── Report, Ack   (proxy → operator)
//! ```
//!
//! [`snapshot`] and [`report`] are the domain: plain values, checked once when they are made. [`proto`] is the wire.
//! A [`snapshot::Snapshot`] written as YAML is what `evenkeel-proxy --snapshot FILE` reads.

/// The wire. Generated from `proto/push.proto`; a test fails when it is stale and says how to renew it.
#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]
pub mod proto {
    include!("generated/evenkeel.push.v1.rs");
}
pub mod report;
pub mod snapshot;
pub mod validate;
