//! Whole messages: what is read of them, what is refused, what is passed on.

use super::Version;
use super::fields::Fields;
use super::framing::Framing;
use super::refusal::Refusal;
use super::request::RequestHead;
use super::response::{Asked, ResponseHead};
use super::rewrite::{self, Client};
use super::scan::HeadScan;
use crate::errors::MAX_HEAD;
use crate::headers::Origin;

fn origin() -> Origin {
    Origin::new("192.0.2.1".parse().unwrap(), 80)
}

/// The head as the target gets it.
fn forwarded(head: &str) -> Result<String, Refusal> {
    let length = HeadScan::request(MAX_HEAD).find(head.as_bytes())?.expect("a whole head");
    let mut room = Fields::room();
    let head = RequestHead::parse(&head.as_bytes()[..length], &mut room)?;
    let mut out = Vec::new();
    rewrite::request(&head, &origin(), &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// What every target is told, at the end of a head for this host.
fn told(host: &str) -> String {
    format!(
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Host: {host}\r\n\r\n"
    )
}

/// Heads of requests, and what is wrong with them.
const REFUSED: &[(&str, Refusal)] = &[
    ("GET / HTTP/1.1\r\n\r\n", Refusal::Host),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refusal::Host),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Refusal::Host),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refusal::Host),
    ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", Refusal::Host),
    ("GET / HTTP/1.1\r\nHost: sh\u{f6}p\r\n\r\n", Refusal::Host),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Authority),
    ("GET http://a/ HTTP/1.1\r\n\r\n", Refusal::Host),
    ("GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", Refusal::Target),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
    ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", Refusal::Connect),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refusal::Version),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refusal::Version),
    ("GET / HTTP/1.x\r\nHost: a\r\n\r\n", Refusal::Syntax),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", Refusal::Syntax),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Syntax),
    ("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Syntax),
    ("GET\r\nHost: a\r\n\r\n", Refusal::Syntax),
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", Refusal::BareNewline),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", Refusal::BareNewline),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n", Refusal::Syntax),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\0\r\n\r\n", Refusal::Syntax),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", Refusal::Syntax),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refusal::Syntax),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refusal::Syntax),
    ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Refusal::Syntax),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Refusal::Syntax),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        Refusal::TwoFramings,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", Refusal::ContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", Refusal::ContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", Refusal::ContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", Refusal::ContentLength),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Refusal::TransferEncoding),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Refusal::Coding),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        Refusal::TransferEncoding,
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Refusal::Syntax),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::TransferEncoding),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", Refusal::Connection),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Content-Length\r\n\r\n", Refusal::Connection),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n", Refusal::Connection),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: \"x\"\r\n\r\n", Refusal::Connection),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: 1,2,3,4,5,6,7,8,9,10,11\r\n\r\n", Refusal::Connection),
];

#[test]
fn requests_that_two_readers_could_read_differently_are_refused() {
    for (head, refusal) in REFUSED {
        assert_eq!(forwarded(head), Err(*refusal), "{head}");
    }
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(256));
    assert_eq!(forwarded(&many), Err(Refusal::TooManyFields));
}

#[test]
fn a_request_is_written_anew_for_the_target() {
    for (head, expected) in [
        (
            "GET /a?b HTTP/1.1\r\nHost: shop\r\nX-One:  1 \r\n\r\n",
            "GET /a?b HTTP/1.1\r\nHost: shop\r\nX-One: 1\r\n",
        ),
        ("GET http://shop?b HTTP/1.1\r\nhost: shop\r\n\r\n", "GET /?b HTTP/1.1\r\nhost: shop\r\n"),
        ("OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: shop\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
             Trailer: x\r\nProxy-Authorization: secret\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nX-End: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: shop\r\nX-End: 1\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: CHUNKED\r\nExpect: 100-continue\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
        ),
        (
            "POST / HTTP/1.0\r\nHost: shop\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: keep-alive\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: shop\r\n",
        ),
    ] {
        assert_eq!(forwarded(head), Ok(format!("{expected}{}", told("shop"))), "{head}");
    }
    let chain = forwarded("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nX-Forwarded-For: 2, 3\r\n\r\n")
        .unwrap();
    assert!(chain.contains("X-Forwarded-For: 1, 2, 3, 192.0.2.1\r\n"), "{chain}");
    let hostless = forwarded("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(hostless.starts_with("GET / HTTP/1.1\r\nHost: \r\n"), "{hostless}");
    assert!(!hostless.contains("X-Forwarded-Host"), "{hostless}");
}

#[test]
fn what_becomes_of_the_connection_is_read_from_the_head() {
    for (head, keep_alive, upgrade, expects, framing) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false, false, Framing::None),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", false, false, false, Framing::None),
        ("GET / HTTP/1.0\r\n\r\n", false, false, false, Framing::None),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, false, false, Framing::None),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", true, false, false, Framing::None),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            true,
            true,
            false,
            Framing::None,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true, false, false, Framing::Length(0)),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n",
            true,
            false,
            true,
            Framing::Length(5),
        ),
    ] {
        let mut room = Fields::room();
        let head = RequestHead::parse(head.as_bytes(), &mut room).unwrap();
        assert_eq!(
            (head.keep_alive, head.upgrade, head.expects_continue, head.framing),
            (keep_alive, upgrade, expects, framing),
            "{head:?}"
        );
    }
}

/// An answer as the client gets it, and how its body is delimited.
fn answered(head: &str, asked: Asked, client: Client) -> Result<(String, Framing, bool), Refusal> {
    let length = HeadScan::response().find(head.as_bytes())?.expect("a whole head");
    let mut room = Fields::room();
    let head = ResponseHead::parse(&head.as_bytes()[..length], asked, &mut room)?;
    let mut out = Vec::new();
    rewrite::response(&head, client, &mut out);
    Ok((String::from_utf8_lossy(&out).into_owned(), head.framing, head.keep_alive))
}

const CURRENT: Client = Client { keep_alive: true, version: Version::Http11 };

const GET: Asked = Asked { head: false, upgrade: false };
const HEAD: Asked = Asked { head: true, upgrade: false };
const UPGRADE: Asked = Asked { head: false, upgrade: true };

/// To what was asked for: a target's head, what the client gets, where the body ends, and whether the target's connection
/// can take another request.
const ANSWERS: &[(Asked, &str, &str, Framing, bool)] = &[
    (
        GET,
        "HTTP/1.1 200 Fine\r\ncontent-length: 3\r\nContent-Length: 3\r\nDate: now\r\n\r\n",
        "HTTP/1.1 200 Fine\r\nDate: now\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
        Framing::Length(3),
        true,
    ),
    (
        GET,
        "HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\n\r\n",
        "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
        Framing::Chunked,
        true,
    ),
    (
        GET,
        "HTTP/1.1 200 OK\nConnection: close, X-Hop, Date\nX-Hop: 1\nDate: now\nKeep-Alive: 5\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        Framing::Length(0),
        false,
    ),
    (
        GET,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
        Framing::Chunked,
        false,
    ),
    (
        GET,
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n",
        Framing::UntilEnd,
        false,
    ),
    (
        GET,
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n",
        Framing::Length(1),
        true,
    ),
    (
        HEAD,
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
        Framing::None,
        true,
    ),
    (
        GET,
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n",
        Framing::None,
        true,
    ),
    (
        GET,
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
        Framing::None,
        true,
    ),
    (
        GET,
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        Framing::None,
        true,
    ),
    (
        UPGRADE,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: k\r\n\r\n",
        Framing::None,
        true,
    ),
];

#[test]
fn an_answer_is_written_anew_for_the_client() {
    for (asked, text, expected, framing, keep_alive) in ANSWERS {
        let expected = Ok(((*expected).to_owned(), *framing, *keep_alive));
        assert_eq!(answered(text, *asked, CURRENT), expected, "{text}");
    }
}

#[test]
fn an_http_1_0_client_is_not_told_of_chunks() {
    let client = Client { keep_alive: false, version: Version::Http10 };
    let (head, ..) =
        answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Asked::default(), client).unwrap();
    assert_eq!(head, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

#[test]
fn answers_that_two_readers_could_read_differently_are_refused() {
    for (text, refusal) in [
        ("nonsense\r\n\r\n", Refusal::Version),
        ("HTTP/2.0 200 OK\r\n\r\n", Refusal::Version),
        ("HTTP/1.1 099 Low\r\n\r\n", Refusal::Status),
        ("HTTP/1.1 20 OK\r\n\r\n", Refusal::Syntax),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Refusal::Status),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", Refusal::ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Refusal::ContentLength),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Refusal::TransferEncoding),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::TransferEncoding),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", Refusal::Syntax),
    ] {
        assert_eq!(answered(text, Asked::default(), CURRENT), Err(refusal), "{text}");
    }
}
