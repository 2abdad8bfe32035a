//! What both carriers are given.

/// What may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Target,
    /// Of the answers.
    Status,
    /// All of the answers.
    Client,
    Record,
}

/// An exchange.
pub struct Case {
    pub name: &'static str,
    pub request: fn() -> String,
    /// What the target says to each request; with `<close>` it closes the connection after it.
    pub answer: &'static str,
    /// Lines of the access log.
    pub records: usize,
    /// Differences that are meant, and why.
    pub differs: Differences,
}

type Differences = &'static [(Part, &'static str)];

/// Both carriers refuse it; Pingora before it asks anyone.
const IN_OTHER_WORDS: Differences = &[(Part::Client, "Pingora refuses it itself, in its own words")];

/// Both carriers refuse it, the other one when it has read more.
const UNREAD: Differences = &[(Part::Record, "nothing is noted of a head that is refused")];

/// Pingora takes it.
const REFUSED_HERE: Differences = &[
    (Part::Target, "Pingora passes it on, in a form of its own; not every reader would read the same"),
    (Part::Status, "it is refused"),
    (Part::Client, "it is refused"),
    (Part::Record, "it is refused"),
];

/// Both carriers refuse it, with another status.
const SAID_BETTER: Differences = &[
    (Part::Status, "the status says what is wrong"),
    (Part::Client, "the status says what is wrong"),
    (Part::Record, "the status says what is wrong"),
];

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Own: 1\r\n\r\nok";

const fn case(name: &'static str, request: fn() -> String, answer: &'static str) -> Case {
    Case { name, request, answer, records: 1, differs: &[] }
}

const fn refused(name: &'static str, request: fn() -> String) -> Case {
    case(name, request, OK)
}

impl Case {
    const fn records(self, records: usize) -> Self {
        Self { records, ..self }
    }

    const fn differs(self, differs: Differences) -> Self {
        Self { differs, ..self }
    }
}

/// A request that is the last one: a line, fields and what follows.
fn last(line: &str, fields: &str, body: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n{body}")
}

pub const CASES: &[Case] = &[
    case("a plain request", || last("GET /a?b=c", "X-One: 1\r\n", ""), OK),
    case("lengths", || last("POST /", "Content-Length: 5\r\n", "hello"), OK),
    case("chunks", || last("POST /", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), OK),
    case(
        "extensions and trailers",
        || last("POST /", "Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"),
        OK,
    ),
    case("an empty body", || last("POST /", "Content-Length: 0\r\n", ""), OK),
    case("HEAD", || last("HEAD /", "", ""), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
    case("an unknown method", || last("BREW /", "", ""), OK),
    case("OPTIONS for the server", || last("OPTIONS *", "", ""), OK),
    case(
        "hop-by-hop fields",
        || last("GET /", "TE: trailers\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\n", ""),
        OK,
    ),
    case(
        "nominated fields",
        || "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 1\r\n\r\n".to_owned(),
        OK,
    ),
    case(
        "forwarded before",
        || last("GET /", "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n", ""),
        OK,
    ),
    case("another upgrade", || last("GET /", "Upgrade: h2c\r\nHTTP2-Settings: AA\r\n", ""), OK),
    case("obscure bytes in a value", || last("GET /", "X-Odd: \u{fc}\t\"x\r\n", ""), OK),
    case("a field twice", || last("GET /", "X: 1\r\nx: 2\r\n", ""), OK),
    case("a path of slashes", || last("GET //a//b/../c", "", ""), OK),
    case("a colon and a percent", || last("GET /a:b%2Fc%zz", "", ""), OK),
    case("an empty query", || last("GET /a?", "", ""), OK),
    case("pipelining", || format!("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n{}", last("GET /2", "", "")), OK)
        .records(2),
    case(
        "pipelining behind bodies",
        || {
            format!(
                "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc{}",
                last("POST /2", "Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n")
            )
        },
        OK,
    )
    .records(2),
    case("an empty line first", || format!("\r\n{}", last("GET /", "", "")), OK),
    case(
        "chunks come down",
        || last("GET /", "", ""),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    case("the end is the end", || last("GET /", "", ""), "HTTP/1.1 200 OK\r\n\r\nok<close>"),
    case("no content", || last("GET /", "", ""), "HTTP/1.1 204 No Content\r\n\r\n"),
    case("not modified", || last("GET /", "", ""), "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    case(
        "an error of the target",
        || last("GET /", "", ""),
        "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
    ),
    case(
        "hop-by-hop fields of an answer",
        || last("GET /", "", ""),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nok",
    ),
    case(
        "hints",
        || last("GET /", "", ""),
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    case(
        "cookies",
        || last("GET /", "", ""),
        "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    ),
    case(
        "an answer that is cut",
        || last("GET /", "", ""),
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut<close>",
    ),
    case("no answer", || last("GET /", "", ""), "<close>"),
    case("half a head", || last("GET /", "", ""), "HTTP/1.1 200 OK\r\nContent-Le<close>"),
    case("nonsense", || last("GET /", "", ""), "nonsense\r\n\r\n<close>"),
    case(
        "two lengths in an answer",
        || last("GET /", "", ""),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok<close>",
    ),
    case(
        "bad chunks in an answer",
        || last("GET /", "", ""),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n<close>",
    )
    .differs(&[
        (Part::Status, "nothing of the answer had been passed on"),
        (Part::Client, "nothing of the answer had been passed on"),
        (Part::Record, "nothing of the answer had been passed on"),
    ]),
    case("silence", || last("GET /", "", ""), ""),
    case("HTTP/1.0", || "GET / HTTP/1.0\r\nHost: a\r\n\r\n".to_owned(), OK),
    case("HTTP/1.0 without Host", || "GET / HTTP/1.0\r\n\r\n".to_owned(), OK)
        .differs(&[(Part::Target, "HTTP/1.1 requires a Host, be it empty")]),
    case(
        "HTTP/1.0 and chunks",
        || "GET / HTTP/1.0\r\nHost: a\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    case("an absolute target", || last("GET http://a/x?y", "", ""), OK)
        .differs(&[(Part::Target, "targets are origins: they get the origin form")]),
    case("a body that does not come", || last("POST /", "Content-Length: 9\r\n", "abc"), OK),
    refused("no Host", || "GET / HTTP/1.1\r\n\r\n".to_owned()).differs(UNREAD),
    refused("two Hosts", || last("GET /", "Host: b\r\n", "")).differs(IN_OTHER_WORDS),
    refused("another authority", || last("GET http://b/", "", "")).differs(IN_OTHER_WORDS),
    refused("two framings", || {
        last("POST /", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")
    })
    .differs(UNREAD),
    refused("two lengths", || last("POST /", "Content-Length: 3\r\nContent-Length: 4\r\n", "abc"))
        .differs(IN_OTHER_WORDS),
    refused("the same length twice", || last("POST /", "Content-Length: 3\r\nContent-Length: 3\r\n", "abc"))
        .differs(REFUSED_HERE),
    refused("an odd length", || last("POST /", "Content-Length: +3\r\n", "abc")).differs(IN_OTHER_WORDS),
    refused("gzip", || last("POST /", "Transfer-Encoding: gzip\r\n", "")).differs(IN_OTHER_WORDS),
    refused("gzip and chunks", || last("POST /", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"))
        .differs(REFUSED_HERE),
    refused("chunks twice", || last("POST /", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"))
        .differs(REFUSED_HERE),
    refused("chunks in HTTP/1.0", || {
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()
    })
    .differs(IN_OTHER_WORDS),
    refused("a folded line", || last("GET /", "X: a\r\n b\r\n", "")).differs(IN_OTHER_WORDS),
    refused("a bare line feed", || "GET / HTTP/1.1\nHost: a\nConnection: close\n\n".to_owned())
        .differs(REFUSED_HERE),
    refused("a bare carriage return", || last("GET /", "X: a\rb\r\n", "")).differs(IN_OTHER_WORDS),
    refused("NUL", || last("GET /", "X: a\0b\r\n", "")).differs(IN_OTHER_WORDS),
    refused("white space before a colon", || last("GET /", "X : a\r\n", "")).differs(IN_OTHER_WORDS),
    refused("nominating Host", || "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, host\r\n\r\n".to_owned())
        .differs(UNREAD),
    refused("nominating the length", || {
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close, content-length\r\nContent-Length: 3\r\n\r\nabc"
            .to_owned()
    })
    .differs(REFUSED_HERE),
    refused("a fragment", || last("GET /a#b", "", "")).differs(REFUSED_HERE),
    refused("CONNECT", || "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n".to_owned())
        .differs(SAID_BETTER),
    refused("HTTP/1.2", || "GET / HTTP/1.2\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned())
        .differs(SAID_BETTER),
    refused("a version of another name", || {
        "GET / HTCPCP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned()
    })
    .differs(IN_OTHER_WORDS),
    refused("garbage", || "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()).differs(IN_OTHER_WORDS),
    refused("a long line", || last(&format!("GET /{}", "x".repeat(17_000)), "", "")).differs(UNREAD),
    refused("a large head", || last("GET /", &format!("X: {}\r\n", "x".repeat(70_000)), "")).differs(UNREAD),
    refused("many fields", || last("GET /", &"x: y\r\n".repeat(300), "")).differs(SAID_BETTER),
    refused("a bad chunk", || last("POST /", "Transfer-Encoding: chunked\r\n", "zz\r\nabc\r\n0\r\n\r\n")),
    refused("a chunk with a bare line feed", || {
        last("POST /", "Transfer-Encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n")
    }),
    refused("a chunk that is longer than it says", || {
        last("POST /", "Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n")
    }),
];
