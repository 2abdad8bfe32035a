//! Tells the proxies what they must know, and hears what they have in force.

mod state;

pub use state::{ProxyView, PushState};
