//! What a failed attempt means: for the target, and for the request.

use std::sync::Arc;

use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::context::{Context, Stage};
use super::upstream_peer;
use crate::errors::Reason;
use crate::pick::{Outcome, pick};
use crate::retry::{Body, Failure, MAX_ATTEMPTS, may_resend};

/// There was no connection. It is of no use to try at once where it was refused. Whether the request is tried again.
pub(super) fn after_connect(session: &Session, ctx: &mut Context, error: &Error) -> bool {
    if let Some(picked) = &ctx.picked {
        picked.failed_to_connect();
    }
    ctx.reason = Some(Reason::of(error, false));
    if !may_retry(session, ctx, Failure::Connect) {
        return false;
    }
    move_on(ctx) || ctx.reason == Some(Reason::ConnectTimeout) && start_over(ctx)
}

/// There was a connection, and it broke, or the client's did. Whether the request is sent again.
pub(super) fn after_exchange(session: &mut Session, ctx: &mut Context, error: &Error) -> bool {
    if *error.esource() != ErrorSource::Upstream {
        return false;
    }
    let reason = reason(session, error);
    ctx.reason = Some(reason);
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
        move_on(ctx);
    }
    again
}

fn may_retry(session: &Session, ctx: &Context, failure: Failure) -> bool {
    let method = &session.req_header().method;
    if ctx.attempts >= MAX_ATTEMPTS || !may_resend(failure, method, body(session)) {
        return false;
    }
    ctx.group.as_ref().is_some_and(|group| group.grants_retry(ctx.shared.started.elapsed()))
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

/// Goes to a target that was tried before, the same one if there is no other: packets that were lost may pass by now.
fn start_over(ctx: &mut Context) -> bool {
    ctx.tried.clear();
    move_on(ctx) || ctx.picked.is_some()
}

/// Goes to a target that was not tried. False when there is none: then the request stays where it is.
fn move_on(ctx: &mut Context) -> bool {
    let (Some(group), Some(current)) = (ctx.group.clone(), ctx.picked.take()) else { return false };
    ctx.tried.push(Arc::clone(current.endpoint()));
    let Ok(other) = pick(&group, &ctx.tried) else {
        ctx.picked = Some(current);
        return false;
    };
    current.finish(Outcome::Failed, None);
    upstream_peer::take(ctx, other);
    true
}
