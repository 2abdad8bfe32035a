//! What is to be done with a request whose head has arrived. Pure: bytes and rules in, a decision out.

use std::net::IpAddr;

use http::Method;

use super::buffer::Scratch;
use super::exchange::Terms;
use super::message::{Asked, Fields, Framing, Refusal, RequestHead, Version, rewrite};
use crate::access_log::AccessLog;
use crate::action::Action;
use crate::answer::Answer;
use crate::errors::Reason;
use crate::record::{Described, Record};
use crate::request::RequestView;
use crate::route::route;
use crate::stream::Connection;
use crate::table::Listener;

/// A request, and what is to be done with it.
pub(super) struct Order<'t> {
    pub(super) method: Method,
    pub(super) framing: Framing,
    pub(super) terms: Terms,
    pub(super) deed: Deed<'t>,
}

/// What is to be done.
pub(super) enum Deed<'t> {
    /// Pass it on, with this head, to a target of the group that the record has.
    Forward(Scratch),
    /// Answer it here.
    Answer(Answer<'t>),
}

/// Where requests of a connection come from, and where they are told of.
pub(super) struct Desk<'a> {
    pub(super) connection: &'a Connection,
    pub(super) log: &'a AccessLog,
}

impl Desk<'_> {
    /// Reads a head and finds what the rules say.
    pub(super) fn order<'t>(
        &self,
        head: &[u8],
        listener: &'t Listener,
        begin: impl FnOnce() -> Record,
    ) -> Result<(Order<'t>, Record), Refusal> {
        let mut room = Fields::room();
        let head = RequestHead::parse(head, &mut room)?;
        if head.field_count() > listener.limits.header_count as usize {
            return Err(Refusal::TooManyFields);
        }
        let method = Method::from_bytes(head.method.as_bytes()).map_err(|_| Refusal::Syntax)?;
        let mut record = begin();
        let view = View { head: &head, source: self.connection.client.ip() };
        if self.log.is_on() {
            record.described = Some(Box::new(Described::of(&view, protocol(head.version))));
        }
        let route = route(listener, &view);
        record.routed(&route);
        let deed = match route.action {
            Action::Forward(_) if !record.takes(announced(head.framing)) => {
                record.reason = Some(Reason::BodyTooLarge);
                Deed::Answer(Answer::error(Reason::BodyTooLarge))
            }
            Action::Forward(forward) => {
                record.group = forward.choose(&mut fastrand::Rng::new()).cloned();
                let mut out = Scratch::take();
                rewrite::request(&head, &self.connection.origin, out.end());
                Deed::Forward(out)
            }
            Action::Redirect(redirect) => {
                Deed::Answer(Answer::redirect(redirect.status(), redirect.location(&view, "http")))
            }
            Action::FixedResponse(response) => Deed::Answer(Answer::fixed(response)),
        };
        let terms = Terms {
            asked: Asked { head: method == Method::HEAD, upgrade: head.upgrade },
            version: head.version,
            expects_continue: head.expects_continue,
            keep_alive: head.keep_alive,
        };
        Ok((Order { method, framing: head.framing, terms, deed }, record))
    }
}

/// Bytes of the body, as far as they are known from the start.
fn announced(framing: Framing) -> u64 {
    match framing {
        Framing::Length(length) => length,
        Framing::None | Framing::Chunked | Framing::UntilEnd => 0,
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// The core's view of a request.
struct View<'a> {
    head: &'a RequestHead<'a, 'a>,
    source: IpAddr,
}

impl RequestView for View<'_> {
    fn method(&self) -> &str {
        self.head.method
    }

    fn path(&self) -> &str {
        self.head.path()
    }

    fn query(&self) -> &str {
        self.head.query().unwrap_or_default()
    }

    fn authority(&self) -> &str {
        self.head.authority()
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.head.values(name)
    }

    fn source(&self) -> IpAddr {
        self.source
    }
}
