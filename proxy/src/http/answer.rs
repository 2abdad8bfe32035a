//! Answers that come from the proxy itself.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, Session};

use super::context::{Context, Stage};
use crate::action::FixedResponse;
use crate::errors::Reason;

/// Who says so, as far as the client is told.
const SERVER: &str = "evenkeel";

/// A request's body up to this many bytes is read before it is answered here, so that the connection can go on; one that
/// is longer, or slower than [`PATIENCE`], costs its connection.
const SWALLOWED: u64 = 64 * 1024;
/// See [`SWALLOWED`].
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends the client elsewhere.
pub(super) async fn redirect(
    session: &mut Session,
    ctx: &mut Context,
    status: u16,
    location: String,
) -> Result<bool> {
    let mut head = head(status, 0)?;
    head.insert_header(header::LOCATION, location)?;
    write(session, ctx, head, Bytes::new()).await
}

/// Answers what a rule says.
pub(super) async fn fixed(
    session: &mut Session,
    ctx: &mut Context,
    response: &FixedResponse,
) -> Result<bool> {
    let mut head = head(response.status, response.body.len())?;
    if !response.body.is_empty() {
        head.insert_header(header::CONTENT_TYPE, response.content_type.as_str())?;
    }
    write(session, ctx, head, response.body.clone()).await
}

/// Answers that no target can take the request. The connection goes on: to close it would only bring new ones.
pub(super) async fn no_target(session: &mut Session, ctx: &mut Context) -> Result<()> {
    ctx.reason = Some(Reason::NoTarget);
    let (head, body) = error(Reason::NoTarget)?;
    write(session, ctx, head, body).await?;
    Ok(())
}

/// Answers an error, where the client can still be told, and lets the connection end.
pub(super) async fn fail(session: &mut Session, failure: &Error, ctx: &mut Context) -> FailToProxy {
    let reason = *ctx.reason.get_or_insert_with(|| Reason::of(failure, ctx.stage != Stage::Connecting));
    if reason != Reason::ClientClosed && session.response_written().is_none() {
        ctx.status = Some(reason.status());
        if let Ok((head, body)) = error(reason) {
            ctx.sent_bytes = body.len() as u64;
            // The client may be gone meanwhile: there is nobody left to tell.
            let _ = session.write_error_response(head, body).await;
        }
    }
    FailToProxy { error_code: reason.status(), can_reuse_downstream: false }
}

fn error(reason: Reason) -> Result<(ResponseHeader, Bytes)> {
    let body = Bytes::from_static(reason.sentence().as_bytes());
    let mut head = head(reason.status(), body.len())?;
    head.insert_header(header::CONTENT_TYPE, "text/plain; charset=utf-8")?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    Ok((head, body))
}

fn head(status: u16, length: usize) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::SERVER, SERVER)?;
    if !forbids_body(status) {
        head.insert_header(header::CONTENT_LENGTH, length)?;
    }
    Ok(head)
}

/// RFC 9110 §6.4.1: there is no content, and not even a length of zero is said.
fn forbids_body(status: u16) -> bool {
    status == 204 || status == 304
}

async fn write(session: &mut Session, ctx: &mut Context, head: ResponseHeader, body: Bytes) -> Result<bool> {
    if !swallow_body(session).await || ctx.scope.port.is_leaving() {
        session.set_keepalive(None);
    }
    let is_head = session.req_header().method == http::Method::HEAD;
    let status = head.status.as_u16();
    ctx.status = Some(status);
    let empty = body.is_empty() || is_head || forbids_body(status);
    session.write_response_header(Box::new(head), empty).await?;
    if empty {
        session.as_mut().finish_body().await?;
    } else {
        ctx.sent_bytes = body.len() as u64;
        session.write_response_body(Some(body), true).await?;
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
