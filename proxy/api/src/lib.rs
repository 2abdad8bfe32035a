//! What operator and proxy say to each other.
//!
//! ```text
//! Snapshot ─delta─► Update… ─stream─► Assembler ─► Snapshot      (operator → proxy)
//! Report, Ack ◄─────────────stream──────────────── Report, Ack   (proxy → operator)
//! ```
//!
//! [`snapshot`] and [`report`] are the domain: plain values, checked once when they are made. [`proto`] is the wire.
//! A [`snapshot::Snapshot`] written as YAML is what `evenkeel-proxy --snapshot FILE` reads.

pub mod report;
pub mod snapshot;
