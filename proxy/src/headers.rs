//! Header policy: what a target learns about the client's connection, and what must not pass from one connection to the
//! next (RFC 9110 §7.6.1).
//!
//! `Host` is preserved; `Via` is not added, as Application Load Balancers add none. Pingora removes the request's
//! hop-by-hop fields and those its `Connection` nominates (and refuses to let it nominate `Host` and the like), so here
//! are the fields that are added, and the answer's side.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_http::{RequestHeader, ResponseHeader};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that belong to one connection, besides those that `Connection` nominates. `Transfer-Encoding` is left to the
/// framing, and `Upgrade` to the answer 101.
const HOP_BY_HOP: [HeaderName; 3] =
    [HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection"), header::UPGRADE];

/// See [`may_not_be_nominated`].
const PROTECTED: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_TYPE,
    header::SET_COOKIE,
    header::CACHE_CONTROL,
    header::DATE,
];

/// What targets are told of a client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub client: String,
    /// The port that it connected to.
    pub port: String,
}

impl Origin {
    /// Of a connection between these two.
    pub fn new(client: IpAddr, local_port: u16) -> Self {
        Self { client: client.to_canonical().to_string(), port: local_port.to_string() }
    }
}

/// Tells the target where a request comes from. The client's own `X-Forwarded-For` is appended to, the others replaced.
pub fn add_forwarded(request: &mut RequestHeader, origin: &Origin) -> pingora_core::Result<()> {
    let mut forwarded_for = Vec::with_capacity(48);
    let claimed = request.headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    join_forwarded_for(&mut forwarded_for, claimed, &origin.client);
    request.insert_header(X_FORWARDED_FOR, forwarded_for)?;
    request.insert_header(X_FORWARDED_PROTO, HeaderValue::from_static("http"))?;
    request.insert_header(X_FORWARDED_PORT, origin.port.as_str())?;
    match host(request) {
        Some(host) => request.insert_header(X_FORWARDED_HOST, host)?,
        None => drop(request.remove_header(&X_FORWARDED_HOST)),
    }
    Ok(())
}

/// Joins the client's `X-Forwarded-For` lines into one, and its address behind them.
pub fn join_forwarded_for<'v>(out: &mut Vec<u8>, claimed: impl Iterator<Item = &'v [u8]>, client: &str) {
    for value in claimed {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(client.as_bytes());
}

/// Whether this is a field of an answer that `Connection` cannot have removed, whatever it says.
pub fn may_not_be_nominated(name: &str) -> bool {
    PROTECTED.iter().any(|protected| protected.as_str().eq_ignore_ascii_case(name))
}

/// `Host`, or in HTTP/2 `:authority`.
fn host(request: &RequestHeader) -> Option<HeaderValue> {
    if let Some(host) = request.headers.get(header::HOST) {
        return Some(host.clone());
    }
    request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
}

/// Removes from an answer what belongs to the connection it came on.
pub fn strip_hop_by_hop(response: &mut ResponseHeader) {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    for name in nominated(&response.headers) {
        response.remove_header(&name);
    }
    response.remove_header(&header::CONNECTION);
    for name in &HOP_BY_HOP {
        response.remove_header(name);
    }
}

/// What `Connection` nominates, without what it may not.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| !may_not_be_nominated(name.as_str()))
        .collect()
}

/// Whether a raw HTTP/1 head has both `Content-Length` and `Transfer-Encoding`, which Pingora would quietly repair: such a
/// request means one thing to one reader and another to the next, so it is refused.
pub fn has_two_framings(head: &[u8]) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n').skip(1).map(name_of);
    let (mut length, mut coding) = (false, false);
    lines.any(|name| {
        length |= name.eq_ignore_ascii_case(b"content-length");
        coding |= name.eq_ignore_ascii_case(b"transfer-encoding");
        length && coding
    })
}

fn name_of(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_client_is_appended_to_what_it_says_it_forwards() {
        for (sent, client, expected) in [
            (vec![], "192.0.2.1", "192.0.2.1"),
            (vec![("x-forwarded-for", "10.1.1.1")], "192.0.2.1", "10.1.1.1, 192.0.2.1"),
            (vec![("x-forwarded-for", "a"), ("x-forwarded-for", "b, c")], "::1", "a, b, c, ::1"),
            (vec![], "::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            let mut request = request(&sent);
            add_forwarded(&mut request, &Origin::new(client.parse().unwrap(), 80)).unwrap();
            assert_eq!(values(&request.headers, "x-forwarded-for"), [expected]);
        }
    }

    #[test]
    fn what_the_client_claims_of_proto_port_and_host_is_replaced() {
        let mut request = request(&[
            ("host", "shop.example.com"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-host", "evil too"),
        ]);
        add_forwarded(&mut request, &Origin::new("192.0.2.1".parse().unwrap(), 8080)).unwrap();
        assert_eq!(values(&request.headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(&request.headers, "x-forwarded-port"), ["8080"]);
        assert_eq!(values(&request.headers, "x-forwarded-host"), ["shop.example.com"]);
        assert_eq!(values(&request.headers, "host"), ["shop.example.com"]);
    }

    #[test]
    fn an_answer_loses_what_belongs_to_its_connection_and_nothing_else() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("connection", "close, X-Trace"),
            ("connection", "content-length"),
            ("x-trace", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("content-length", "3"),
            ("x-other", "kept"),
        ] {
            response.append_header(name, value).unwrap();
        }
        strip_hop_by_hop(&mut response);
        let left: Vec<_> = response.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["content-length", "x-other"]);
    }

    #[test]
    fn an_upgrade_keeps_its_handshake() {
        let mut response = ResponseHeader::build(101, None).unwrap();
        response.append_header("connection", "upgrade").unwrap();
        response.append_header("upgrade", "websocket").unwrap();
        strip_hop_by_hop(&mut response);
        assert_eq!(values(&response.headers, "upgrade"), ["websocket"]);
    }

    #[test]
    fn two_framings_are_seen_however_they_are_written() {
        for (head, expected) in [
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:3\r\n\r\n", true),
            ("POST / HTTP/1.1\nContent-Length: 3\nTransfer-Encoding: chunked\n\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nX: Transfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ] {
            assert_eq!(has_two_framings(head.as_bytes()), expected, "{head}");
        }
    }
}
