//! Heads, written for the next connection: what belongs to the one they came on is left out (RFC 9110 §7.6.1), what
//! belongs to the next is added.

use super::Version;
use super::fields::{Field, Name, nominates};
use super::framing::Framing;
use super::request::RequestHead;
use super::response::ResponseHead;
use crate::headers::{self, Origin};

/// How the client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http1) struct Client {
    /// It may send another request.
    pub(in crate::http1) keep_alive: bool,
    /// What it speaks.
    pub(in crate::http1) version: Version,
}

/// Writes a request for the target.
pub(in crate::http1) fn request(head: &RequestHead<'_, '_>, origin: &Origin, out: &mut Vec<u8>) {
    put(out, &[head.method.as_bytes(), b" ", head.path().as_bytes()]);
    if let Some(query) = head.query() {
        put(out, &[b"?", query.as_bytes()]);
    }
    put(out, &[b" HTTP/1.1\r\n"]);
    // RFC 9112 §3.2: every request has one, be it empty.
    if head.host.is_none() {
        field(out, "Host", head.authority().as_bytes());
    }
    let left_out = Nominated::of(head.fields, head.nominating);
    for each in head.fields {
        match Name::of(each.name) {
            Name::Host | Name::ContentLength => field(out, each.name, each.value),
            Name::TransferEncoding => field(out, "Transfer-Encoding", b"chunked"),
            Name::Upgrade if head.upgrade => put(out, &[b"Connection: upgrade\r\nUpgrade: websocket\r\n"]),
            Name::Expect if head.version == Version::Http10 => {}
            Name::Other | Name::Expect if !left_out.has(each.name) => field(out, each.name, each.value),
            _ => {}
        }
    }
    forwarded(head, origin, out);
    put(out, &[b"\r\n"]);
}

/// Tells the target where the request comes from. What the client claims is appended to in `X-Forwarded-For`, and
/// replaced elsewhere.
fn forwarded(head: &RequestHead<'_, '_>, origin: &Origin, out: &mut Vec<u8>) {
    let claimed = head.fields.iter().filter(|field| Name::of(field.name) == Name::ForwardedFor);
    put(out, &[b"X-Forwarded-For: "]);
    headers::join_forwarded_for(out, claimed.map(|field| field.value), &origin.client);
    put(out, &[b"\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: ", origin.port.as_bytes(), b"\r\n"]);
    if head.host.is_some() || head.target.authority.is_some() {
        field(out, "X-Forwarded-Host", head.authority().as_bytes());
    }
}

/// Writes an answer for the client.
pub(in crate::http1) fn response(head: &ResponseHead<'_, '_>, client: Client, out: &mut Vec<u8>) {
    status_line(out, head.status, head.reason);
    let left_out = Nominated::of(head.fields, head.nominating);
    for each in head.fields {
        let passes = match Name::of(each.name) {
            Name::Connection | Name::Upgrade => head.is_switch(),
            Name::ContentLength | Name::TransferEncoding | Name::HopByHop => is_end_to_end(each.name),
            _ => headers::may_not_be_nominated(each.name) || !left_out.has(each.name),
        };
        if passes {
            field(out, each.name, each.value);
        }
    }
    if head.status >= 200 {
        framing(head, client, out);
    }
    put(out, &[b"\r\n"]);
}

/// Of the fields that a request leaves behind, those that mean the client when a target says them.
fn is_end_to_end(name: &str) -> bool {
    name.eq_ignore_ascii_case("proxy-authenticate")
}

fn framing(head: &ResponseHead<'_, '_>, client: Client, out: &mut Vec<u8>) {
    if let Some(length) = head.length.filter(|_| head.status != 204) {
        put(out, &[b"Content-Length: "]);
        number(out, length);
        put(out, &[b"\r\n"]);
    }
    if head.framing == Framing::Chunked && client.version == Version::Http11 {
        put(out, &[b"Transfer-Encoding: chunked\r\n"]);
    }
    connection(out, client.keep_alive);
}

/// Writes what becomes of the client's connection.
pub(in crate::http1) fn connection(out: &mut Vec<u8>, keep_alive: bool) {
    put(out, &[if keep_alive { b"Connection: keep-alive\r\n" as &[u8] } else { b"Connection: close\r\n" }]);
}

/// Writes the first line of an answer.
pub(in crate::http1) fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    let digit = |place: u16| b'0' + (status / place % 10) as u8;
    put(out, &[b"HTTP/1.1 ", &[digit(100), digit(10), digit(1), b' '], reason.as_bytes(), b"\r\n"]);
}

/// Writes a field.
pub(in crate::http1) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    put(out, &[name.as_bytes(), b": ", value, b"\r\n"]);
}

/// Writes a number in decimal.
pub(in crate::http1) fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let (mut left, mut length) = (number, 0);
    for place in digits.iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        left /= 10;
        length += 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The fields that `Connection` nominates.
struct Nominated<'h, 'b>(Option<&'h [Field<'b>]>);

impl<'h, 'b> Nominated<'h, 'b> {
    fn of(fields: &'h [Field<'b>], nominating: bool) -> Self {
        Self(nominating.then_some(fields))
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_some_and(|fields| nominates(fields, name))
    }
}
