//! More of the request's body has come.

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};

use super::context::Context;

/// Counts it, and ends the request when it is too much.
///
/// Nothing at the end is made no piece at all: Pingora would write it as a last chunk and then the last chunk, which the target
/// would take for the beginning of the next request.
pub(super) fn passes(body: &mut Option<Bytes>, is_last: bool, ctx: &mut Context) -> Result<()> {
    let length = body.as_ref().map_or(0, Bytes::len) as u64;
    if is_last && length == 0 {
        *body = None;
    }
    ctx.record.receive(length).map_err(|reason| {
        ctx.record.reason = Some(reason);
        Error::explain(ErrorType::HTTPStatus(reason.status()), reason.as_str()).into_down()
    })
}
