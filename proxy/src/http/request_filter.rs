//! The head has arrived: is it one that can be passed on, and what is to be done with it?

use evenkeel_proxy_api::snapshot::Limits;
use http::{Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::answer;
use super::context::Context;
use super::view::View;
use crate::action::Action;
use crate::answer::Answer;
use crate::errors::{MAX_REQUEST_LINE, Reason};
use crate::headers;
use crate::record::Described;
use crate::route::route;

/// Routes the request. `Ok(true)` when it has been answered here.
pub(super) async fn execute(session: &mut Session, ctx: &mut Context) -> Result<bool> {
    describe(session, ctx);
    set_timeouts(session, ctx);
    let listening = ctx.record.listening.clone();
    if let Err(reason) = check(session, &listening.table.limits) {
        return refuse(ctx, reason);
    }
    let view = View { head: session.req_header(), source: ctx.scope.connection.client.ip() };
    let route = route(&listening.table, &view);
    ctx.record.routed(&route);
    match route.action {
        Action::Forward(_) if !ctx.record.takes(announced(view.head)) => refuse(ctx, Reason::BodyTooLarge),
        Action::Forward(forward) => {
            ctx.record.group = forward.choose(&mut fastrand::Rng::new()).cloned();
            Ok(false)
        }
        Action::Redirect(redirect) => {
            let location = redirect.location(&view, "http");
            answer::write(session, ctx, Answer::redirect(redirect.status(), location)).await
        }
        Action::FixedResponse(response) => answer::write(session, ctx, Answer::fixed(response)).await,
    }
}

fn refuse(ctx: &mut Context, reason: Reason) -> Result<bool> {
    ctx.record.reason = Some(reason);
    Err(Error::explain(ErrorType::HTTPStatus(reason.status()), reason.as_str()).into_down())
}

/// Pingora has refused malformed heads, bad lengths, unknown codings and more than one `Host` already.
fn check(session: &Session, limits: &Limits) -> std::result::Result<(), Reason> {
    let head = session.req_header();
    if field_count(head) > limits.header_count as usize {
        return Err(Reason::HeadTooLarge);
    }
    let Some(http1) = session.as_http1() else { return check_length(head, limits) };
    let raw = http1.get_headers_raw_bytes();
    // Empty lines before the request line are skipped (RFC 9112 §2.2).
    let raw = raw.trim_ascii_start();
    if raw.iter().take(MAX_REQUEST_LINE).all(|byte| *byte != b'\n') {
        return Err(Reason::UriTooLong);
    }
    if raw.len() > limits.head_bytes as usize {
        return Err(Reason::HeadTooLarge);
    }
    let two_framings = head.headers.contains_key(header::TRANSFER_ENCODING) && headers::has_two_framings(raw);
    if two_framings || !has_legal_host(head) { Err(Reason::BadRequest) } else { Ok(()) }
}

/// HTTP/2 cuts `Cookie` into as many fields as it likes (RFC 9113 §8.2.3).
fn field_count(head: &RequestHeader) -> usize {
    let cookies = head.headers.get_all(header::COOKIE).iter().count();
    head.headers.len() - cookies.saturating_sub(1)
}

/// An HTTP/2 head, as long as it would be in HTTP/1.1.
fn check_length(head: &RequestHeader, limits: &Limits) -> std::result::Result<(), Reason> {
    const VERSION_AND_ENDS: usize = "  HTTP/1.1\r\n\r\n".len();
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = head.method.as_str().len() + target + VERSION_AND_ENDS;
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if line > MAX_REQUEST_LINE {
        return Err(Reason::UriTooLong);
    }
    let authority = head.uri.authority().filter(|_| !head.headers.contains_key(header::HOST));
    let host = authority.map_or(0, |authority| "Host: \r\n".len() + authority.as_str().len());
    let length = line + host + fields.sum::<usize>();
    if length > limits.head_bytes as usize { Err(Reason::HeadTooLarge) } else { Ok(()) }
}

/// Bytes of the body, where that is said.
fn announced(head: &RequestHeader) -> u64 {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// RFC 9112 §3.2: HTTP/1.1 requires a `Host`. One that conditions cannot read would pass by the rules for its host.
fn has_legal_host(head: &RequestHeader) -> bool {
    match head.headers.get(header::HOST) {
        Some(host) => host.to_str().is_ok(),
        None => head.version < Version::HTTP_11,
    }
}

/// A tunnel is silent only if both directions are, which the flight watches; everything else has a time-out on each side.
fn set_timeouts(session: &mut Session, ctx: &mut Context) {
    let idle = ctx.record.listening.table.idle_timeout;
    ctx.upgrade = session.is_upgrade_req();
    session.set_read_timeout((!ctx.upgrade).then_some(idle));
    session.set_write_timeout(Some(idle));
    session.set_total_drain_timeout(Some(idle));
    // Pingora has set it to "for ever" where the client may keep the connection.
    if session.get_keepalive() == Some(0) {
        session.set_keepalive(Some(super::whole_seconds(idle)));
    }
}

fn describe(session: &Session, ctx: &mut Context) {
    if ctx.shared.access_log.is_on() {
        let head = session.req_header();
        let view = View { head, source: ctx.scope.connection.client.ip() };
        ctx.record.described = Some(Box::new(Described::of(&view, protocol(head))));
    }
}

fn protocol(head: &RequestHeader) -> &'static str {
    match head.version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_11 => "HTTP/1.1",
        _ => "HTTP/1.0",
    }
}
