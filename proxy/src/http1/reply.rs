//! Answers that come from the proxy itself, and how a connection ends on which something is left unread.

use std::future::poll_fn;
use std::task::Poll;

use http::StatusCode;
use pingora_core::protocols::http::date::get_cached_date;
use tokio::time::Instant;

use super::buffer::Scratch;
use super::exchange::Terms;
use super::message::{Body, rewrite};
use super::session::{After, Request, Session};
use crate::answer::{Answer, PATIENCE, SERVER, SWALLOWED};
use crate::errors::Reason;

impl Session<'_> {
    /// Answers a request of whose body this is left. A client that waits to be asked for it is not asked.
    pub(super) async fn reply(
        &mut self,
        answer: &Answer<'_>,
        terms: Terms,
        rest: Body,
        request: &mut Request<'_>,
    ) -> After {
        request.record.status = Some(answer.status);
        let clean = rest.is_done() || (!terms.expects_continue && self.swallow(rest).await);
        let keep_alive = clean && terms.keep_alive;
        let mut out = Scratch::take();
        write_head(answer, keep_alive, out.end());
        if !terms.asked.head && !answer.forbids_body() {
            out.end().extend_from_slice(&answer.body);
            request.record.sent_bytes = answer.body.len() as u64;
        }
        if !self.write(out).await {
            request.record.reason = Some(Reason::ClientClosed);
            return After::End;
        }
        request.over();
        if !clean {
            self.linger().await;
        }
        if keep_alive { After::GoOn } else { After::End }
    }

    /// Answers why a request is not served; the connection ends.
    pub(super) async fn reject(&mut self, reason: Reason) {
        let answer = Answer::error(reason);
        let mut out = Scratch::take();
        write_head(&answer, false, out.end());
        out.end().extend_from_slice(&answer.body);
        if self.write(out).await {
            self.linger().await;
        }
    }

    /// Writes all of it; false when the client does not take it.
    async fn write(&mut self, mut out: Scratch) -> bool {
        self.timer.set(Instant::now() + self.idle_timeout());
        poll_fn(|cx| {
            while !out.unsent().is_empty() {
                match self.client.poll_write(cx, out.unsent()) {
                    Poll::Ready(Ok(written)) => out.advance(written),
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending => return self.timer.poll(cx).map(|()| false),
                }
            }
            Poll::Ready(true)
        })
        .await
    }

    /// Reads over the rest of a body, so that the connection can go on; false when that would take too long.
    pub(super) async fn swallow(&mut self, mut rest: Body) -> bool {
        self.timer.set(Instant::now() + PATIENCE);
        let mut swallowed = 0;
        poll_fn(|cx| {
            loop {
                let Ok(passed) = rest.pass(self.client.inbound.bytes_mut()) else {
                    return Poll::Ready(false);
                };
                self.client.inbound.consume(passed.taken);
                swallowed += passed.taken as u64;
                if rest.is_done() {
                    return Poll::Ready(true);
                }
                if swallowed > SWALLOWED {
                    return Poll::Ready(false);
                }
                match self.client.poll_read(cx) {
                    Poll::Ready(Ok(read)) if read > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return self.timer.poll(cx).map(|()| false),
                }
            }
        })
        .await
    }

    /// Ends the connection. What the client is still sending is read for a while: bytes that nobody reads would make the
    /// kernel reset the connection, and the client might lose its answer.
    pub(super) async fn linger(&mut self) {
        self.client.finish().await;
        self.timer.set(Instant::now() + PATIENCE);
        poll_fn(|cx| {
            loop {
                self.client.inbound.clear();
                match self.client.poll_read(cx) {
                    Poll::Ready(Ok(read)) if read > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx),
                }
            }
        })
        .await;
    }
}

fn write_head(answer: &Answer<'_>, keep_alive: bool, out: &mut Vec<u8>) {
    let phrase = StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    rewrite::status_line(out, answer.status, phrase.unwrap_or_default());
    rewrite::field(out, "Server", SERVER.as_bytes());
    rewrite::field(out, "Date", get_cached_date().as_bytes());
    if !answer.forbids_body() {
        let length = answer.body.len().to_string();
        rewrite::field(out, "Content-Length", length.as_bytes());
    }
    if let Some(location) = &answer.location {
        rewrite::field(out, "Location", location.as_bytes());
    }
    if let Some(content_type) = answer.content_type {
        rewrite::field(out, "Content-Type", content_type.as_bytes());
    }
    if answer.passing {
        rewrite::field(out, "Cache-Control", b"no-store");
    }
    rewrite::connection(out, keep_alive);
    out.extend_from_slice(b"\r\n");
}
