//! The head has arrived: is it one that can be passed on, and what is to be done with it?

use http::{Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::answer;
use super::context::Context;
use super::view::View;
use crate::action::Action;
use crate::answer::Answer;
use crate::errors::{MAX_HEAD, MAX_REQUEST_LINE, Reason};
use crate::headers;
use crate::record::Described;
use crate::route::route;

/// Routes the request. `Ok(true)` when it has been answered here.
pub(super) async fn execute(session: &mut Session, ctx: &mut Context) -> Result<bool> {
    describe(session, ctx);
    set_timeouts(session, ctx);
    if let Err(reason) = check(session) {
        return refuse(ctx, reason);
    }
    let listening = ctx.record.listening.clone();
    let view = View { head: session.req_header(), source: ctx.scope.connection.client.ip() };
    let route = route(&listening.table, &view);
    ctx.record.rule = route.priority;
    match route.action {
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
fn check(session: &Session) -> std::result::Result<(), Reason> {
    let head = session.req_header();
    let Some(http1) = session.as_http1() else { return Ok(()) };
    let raw = http1.get_headers_raw_bytes();
    // Empty lines before the request line are skipped (RFC 9112 §2.2).
    let raw = raw.trim_ascii_start();
    if raw.iter().take(MAX_REQUEST_LINE).all(|byte| *byte != b'\n') {
        return Err(Reason::UriTooLong);
    }
    if raw.len() > MAX_HEAD {
        return Err(Reason::HeadTooLarge);
    }
    let two_framings = head.headers.contains_key(header::TRANSFER_ENCODING) && headers::has_two_framings(raw);
    if two_framings || !has_legal_host(head) { Err(Reason::BadRequest) } else { Ok(()) }
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
