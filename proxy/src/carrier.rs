//! What every carrier needs from the rest of the proxy.

use std::time::Instant;

use crate::access_log::AccessLog;

/// The same for all carriers.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The access log.
    pub access_log: AccessLog,
    /// When the proxy started; retry budgets count from there.
    pub started: Instant,
}
