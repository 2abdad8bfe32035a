//! What is sent to the target instead of what the client sent.

use pingora_core::Result;
use pingora_http::RequestHeader;

use super::context::Context;
use crate::headers;

/// Pingora has removed the hop-by-hop fields and put `Host` in the place of `:authority`.
pub(super) fn execute(request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
    headers::add_forwarded(request, &ctx.scope.connection.origin)
}
