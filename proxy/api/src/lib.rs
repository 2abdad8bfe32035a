//! What operator and proxy say to each other.
//!
//! ```text
//! Snapshot ─delta─► Update… ─stream─► Assembler ─► Snapshot      (operator → proxy)
//! Report, Ack ◄─────────────stream──────────────── Report, Ack   (proxy → operator)
//! ```
//!
//! [`snapshot`], [`report`] and [`trust`] are the domain: plain values. [`proto`] is the wire, [`convert`] leads from one to the other,
//! and [`validate`] says what a resource must fulfil beyond its types.
//! A [`snapshot::Snapshot`] written as YAML is what `evenkeel-proxy --snapshot FILE` reads.

pub mod convert;
pub mod delta;
/// The wire. Generated from `proto/push.proto`; a test fails when it is stale and says how to renew it.
#[allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated code")]
pub mod proto {
    include!("generated/evenkeel.push.v1.rs");
}
pub mod report;
pub mod snapshot;
pub mod trust;
pub mod validate;
