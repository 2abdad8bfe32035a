//! More of the request's body has come.

use bytes::Bytes;
use pingora_core::{Error, ErrorType, Result};

use super::context::Context;

/// Counts it, and ends the request when it is too much.
pub(super) fn passes(body: Option<&Bytes>, ctx: &mut Context) -> Result<()> {
    let length = body.map_or(0, Bytes::len) as u64;
    ctx.record.receive(length).map_err(|reason| {
        ctx.record.reason = Some(reason);
        Error::explain(ErrorType::HTTPStatus(reason.status()), reason.as_str()).into_down()
    })
}
