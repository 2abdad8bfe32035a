//! Answers that come from the proxy itself.

use http::header;
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, Session};

use super::context::{Context, Stage};
use crate::answer::{Answer, PATIENCE, SERVER, SWALLOWED};
use crate::errors::Reason;

/// Answers that no target can take the request. The connection goes on: to close it would only bring new ones.
pub(super) async fn no_target(session: &mut Session, ctx: &mut Context) -> Result<()> {
    ctx.record.reason = Some(Reason::NoTarget);
    write(session, ctx, Answer::error(Reason::NoTarget)).await?;
    Ok(())
}

/// Answers an error, where the client can still be told, and lets the connection end.
pub(super) async fn fail(session: &mut Session, failure: &Error, ctx: &mut Context) -> FailToProxy {
    let reason =
        *ctx.record.reason.get_or_insert_with(|| Reason::of(failure, ctx.stage != Stage::Connecting));
    if reason != Reason::ClientClosed && session.response_written().is_none() {
        ctx.record.status = Some(reason.status());
        let answer = Answer::error(reason);
        if let Ok(head) = head(&answer) {
            ctx.record.sent_bytes = answer.body.len() as u64;
            // The client may be gone meanwhile: there is nobody left to tell.
            let _ = session.write_error_response(head, answer.body).await;
        }
    }
    FailToProxy { error_code: reason.status(), can_reuse_downstream: false }
}

fn head(answer: &Answer<'_>) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(answer.status, Some(6))?;
    head.insert_header(header::SERVER, SERVER)?;
    if !answer.forbids_body() {
        head.insert_header(header::CONTENT_LENGTH, answer.body.len())?;
    }
    if let Some(location) = &answer.location {
        head.insert_header(header::LOCATION, location)?;
    }
    if let Some(content_type) = answer.content_type {
        head.insert_header(header::CONTENT_TYPE, content_type)?;
    }
    if answer.passing {
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
    }
    Ok(head)
}

/// Writes an answer; the connection goes on if nothing of the request is left on it.
pub(super) async fn write(session: &mut Session, ctx: &mut Context, answer: Answer<'_>) -> Result<bool> {
    if !swallow_body(session).await || ctx.scope.port.is_leaving() {
        session.set_keepalive(None);
    }
    let is_head = session.req_header().method == http::Method::HEAD;
    ctx.record.status = Some(answer.status);
    let empty = answer.body.is_empty() || is_head || answer.forbids_body();
    session.write_response_header(Box::new(head(&answer)?), empty).await?;
    if empty {
        session.as_mut().finish_body().await?;
    } else {
        ctx.record.sent_bytes = answer.body.len() as u64;
        session.write_response_body(Some(answer.body), true).await?;
    }
    Ok(true)
}

/// Whether nothing of the request's body is left that would be taken for the next request. A client that waits to be asked
/// for its body (`Expect`) is not asked.
async fn swallow_body(session: &mut Session) -> bool {
    if session.as_mut().is_body_done() {
        return true;
    }
    if session.req_header().headers.contains_key(header::EXPECT) {
        return false;
    }
    tokio::time::timeout(PATIENCE, read_body(session)).await.unwrap_or(false)
}

async fn read_body(session: &mut Session) -> bool {
    let mut read = 0;
    while read <= SWALLOWED {
        match session.as_mut().read_request_body().await {
            Ok(Some(bytes)) => read += bytes.len() as u64,
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    false
}
