//! The data plane: a load balancer's proxy.
//!
//! ```text
//! snapshot ──► apply ──► in force: table (listeners, rules) ┐
//!                             └──► groups (targets, cells)  ├── read by each request: route → action → pick → finish
//!                        health ──► cells ──► lineups       ┘
//!            signs ──► cells: others are picked before a suspect
//! cells, groups ──► load ──► report
//! ```

pub mod access_log;
pub mod action;
pub mod admin;
pub mod admission;
mod answer;
pub mod apply;
pub mod args;
pub mod balance;
pub mod carrier;
pub mod cells;
mod connect;
pub mod control;
pub mod drain;
pub mod errors;
pub mod group;
pub mod headers;
pub mod health;
pub mod http;
pub mod http1;
mod idle;
pub mod in_force;
pub mod listeners;
pub mod load;
pub mod metrics;
pub mod pattern;
pub mod pick;
pub mod port;
pub mod proxy;
mod record;
pub mod request;
pub mod retry;
pub mod route;
mod signs;
pub mod snapshot_file;
mod sniff;
pub mod stream;
pub mod table;
pub mod tcp;
