//! What a failed attempt means: for the target, and for the request.

use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::context::{Context, Stage};
use super::upstream_peer;
use crate::errors::Reason;
use crate::retry::{Body, Failure};

/// There was no connection. Whether the request is tried again.
pub(super) fn after_connect(session: &Session, ctx: &mut Context, error: &Error) -> bool {
    ctx.record.not_connected(Reason::of(error, false));
    let again = may_retry(session, ctx, Failure::Connect) && ctx.record.try_elsewhere();
    upstream_peer::watch(ctx);
    again
}

/// There was a connection, and it broke, or the client's did. Whether the request is sent again.
pub(super) fn after_exchange(session: &mut Session, ctx: &mut Context, error: &Error) -> bool {
    if *error.esource() != ErrorSource::Upstream {
        return false;
    }
    let reason = reason(session, error);
    ctx.record.reason = Some(reason);
    retry_closed(session, ctx, reason)
}

/// A target that waits for the rest of the request is not the one that is late.
fn reason(session: &mut Session, error: &Error) -> Reason {
    if *error.etype() == ErrorType::ReadTimedout && !session.as_mut().is_body_done() {
        return Reason::ClientTimeout;
    }
    Reason::of(error, true)
}

/// A target that is slow or talks nonsense will do so again. But where one closed a connection, because it is gone or the
/// request came when it closed an idle one, another may serve, or the same one over another connection.
fn retry_closed(session: &Session, ctx: &mut Context, reason: Reason) -> bool {
    let failure = Failure::Exchange { answer_begun: ctx.stage == Stage::Answered };
    let again = reason == Reason::TargetClosed && may_retry(session, ctx, failure);
    if again {
        ctx.record.move_on();
        upstream_peer::watch(ctx);
    }
    again
}

fn may_retry(session: &Session, ctx: &Context, failure: Failure) -> bool {
    let method = &session.req_header().method;
    ctx.record.may_retry(failure, method, body(session), ctx.shared.started.elapsed())
}

fn body(session: &Session) -> Body {
    let session = session.as_ref();
    if session.retry_buffer_truncated() {
        Body::Gone
    } else if session.body_bytes_read() == 0 {
        Body::Untouched
    } else {
        Body::Kept
    }
}
