//! Tells the proxies what they must know, and hears what they have in force.

mod metrics;
mod state;

pub use metrics::Metrics;
pub use state::{ProxyView, PushState};
