//! The show: a load balancer in front of replicas that multiply under load and go home afterwards, without losing a
//! request.
//!
//! ```text
//! manifest ─apply─► cluster ─observe─► Observed ─┐
//! script ─► traffic ─► Recorder ─────────────────┴─► Story ─► screen | plain lines ─► summary, picture
//! ```

pub mod manifest;
pub mod observe;
pub mod picture;
pub mod plain;
pub mod screen;
pub mod script;
pub mod show;
pub mod story;
