//! The certificate authority with which the operator shows proxies who it is.
//!
//! ```text
//! Secret ──► Authorities ─┬─ bundle ──────────────► ConfigMap in each namespace with a load balancer ──► proxies
//!   ▲                     └─ serving certificate ─► push server
//!   └── rotation::decide ◄── what proxies say they trust, age, a person's wish
//! ```
//!
//! The Secret `evenkeel-ca` in the operator's namespace is the one source of truth: any leader goes on where the last
//! one stopped. Its key signs a serving certificate for each term, and another before that one expires.

mod authority;
mod keeper;
mod metrics;
mod publish;
mod rotation;
mod secret;

pub use authority::{Authority, Identity, Unusable};
pub use keeper::{Around, Keeper, keep};
pub use metrics::Metrics;
pub use publish::publish;
pub use rotation::{Pace, Phase};
pub use secret::Authorities;

/// Name of the Secret and of the ConfigMaps.
pub const NAME: &str = "evenkeel-ca";
/// On the Secret: somebody asks for another authority. Whatever it says, it is taken away when the rotation begins.
pub const ROTATE: &str = "evenkeel.dev/rotate";
/// Key of the bundle in the ConfigMaps.
pub const BUNDLE: &str = "ca.crt";
/// Name of the Service that proxies dial.
pub const PUSH_SERVICE: &str = "evenkeel-operator-push";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, failed, or did not answer.
    #[error(transparent)]
    Api(#[from] crate::error::Error),
    /// Somebody changed the Secret.
    #[error("Secret {NAME} has no {0}: delete it; it is put back as it was, or anew when no operator led")]
    Incomplete(&'static str),
    /// Somebody changed the Secret.
    #[error(
        "Secret {NAME} cannot be used: {0}; delete it; it is put back as it was, or anew when no operator led"
    )]
    Unusable(#[from] Unusable),
    /// No serving certificate.
    #[error("cannot sign or show a certificate: {0}")]
    Serving(#[from] rustls::Error),
}
