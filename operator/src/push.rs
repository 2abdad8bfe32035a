//! Tells the proxies what they must know, and hears what they have in force.
//!
//! ```text
//! pods, slices, registry ─publisher─► watch per load balancer ─session─► stream of updates ─► proxy
//!                         PushState, Reports ◄─────────────────session─── acks, reports ◄──────┘
//! ```

pub mod endpoint;
mod metrics;
pub(crate) mod publisher;
mod server;
mod session;
mod state;
mod tls;

pub use metrics::Metrics;
pub use publisher::{Published, Publisher, publish};
pub use server::{Service, serve};
pub use state::{ProxyView, PushState};
pub use tls::{Door, Serving};
