//! The target's answer: its head arrives from the target, and leaves to the client.

use http::{StatusCode, Version, header};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::context::{Context, Stage};
use crate::headers;
use crate::stream;

/// Notes when it came, and removes what belongs to the connection it came on.
pub(super) fn arrived(response: &mut ResponseHeader, ctx: &mut Context) {
    ctx.stage = Stage::Answered;
    if is_interim(response.status) {
        return;
    }
    ctx.record.answered(response.status.as_u16());
    headers::strip_hop_by_hop(response);
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        let silent = stream::silent(ctx.scope.connection.clone(), ctx.record.listening.table.idle_timeout);
        ctx.scope.controls.watch_tunnel(Box::pin(silent));
    }
}

/// Decides whether the client's connection goes on, and undoes a coding that an HTTP/1.0 client does not know.
pub(super) fn leaves(session: &mut Session, response: &mut ResponseHeader, ctx: &Context) {
    if is_interim(response.status) {
        return;
    }
    if session.req_header().version < Version::HTTP_11
        && response.headers.contains_key(header::TRANSFER_ENCODING)
    {
        response.remove_header(&header::TRANSFER_ENCODING);
        session.set_keepalive(None);
    }
    if ctx.scope.port.is_leaving() {
        session.set_keepalive(None);
    }
}

/// Another head follows.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
