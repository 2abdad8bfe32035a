//! Headers that are added, headers that do not pass, and requests that are refused.

use evenkeel_proxy::errors::Reason;
use http::Request;

use crate::client::{raw, send};
use crate::harness::{forwarding, free_port, local, serve, target, until};
use crate::target::Target;

#[tokio::test(flavor = "multi_thread")]
async fn the_target_learns_where_a_request_comes_from() {
    let echo = Target::echo().await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let request = Request::get("/")
        .header("host", "shop.example.com")
        .header("x-forwarded-for", "10.1.1.1")
        .header("x-forwarded-proto", "https");
    let seen = send(local(port), request.body("").unwrap()).await;
    for line in [
        "host: shop.example.com\n",
        "x-forwarded-for: 10.1.1.1, 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "x-forwarded-host: shop.example.com\n",
        &format!("x-forwarded-port: {port}\n"),
    ] {
        assert!(seen.text().contains(line), "{line} is missing in\n{}", seen.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_connection_stays_there() {
    let echo = Target::echo().await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let seen = raw(
        local(port),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: secret\r\n\
         TE: trailers\r\nX-End: 1\r\n\r\n",
    )
    .await;
    let body = seen.split_once("\r\n\r\n").expect("a head").1;
    for name in ["x-hop", "keep-alive", "\nte:"] {
        assert!(!body.contains(name), "{name} in\n{body}");
    }
    assert!(body.contains("x-end: 1"), "{body}");

    let talkative = Target::raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 1\r\n\r\nok",
    )
    .await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", talkative.port)])).await;
    let answer = send(local(port), Request::get("/").body("").unwrap()).await;
    assert_eq!(
        (answer.header("x-hop"), answer.header("keep-alive"), answer.header("x-end")),
        (None, None, Some("1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_two_readers_could_read_differently_are_refused() {
    let echo = Target::echo().await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    for (status, request) in [
        ("400", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("400", "GET / HTTP/1.1\r\nHost: sh\u{f6}p\r\n\r\n".to_owned()),
        ("400", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        (
            "400",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
        ),
        ("400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc".to_owned()),
        ("400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: three\r\n\r\nabc".to_owned()),
        ("400", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned()),
        ("400", "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n".to_owned()),
        ("414", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(17 * 1024))),
        ("414", format!("\r\nGET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(17 * 1024))),
        ("431", format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(70 * 1024))),
    ] {
        let answer = raw(local(port), &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.80}\n{answer}");
    }
    assert_eq!(echo.served(), 0);
    let metrics = proxy.metrics.listener("web");
    until("each is counted", || metrics.errors(Reason::BadRequest) == 8).await;
    assert_eq!((metrics.errors(Reason::UriTooLong), metrics.errors(Reason::HeadTooLarge)), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_or_ended_and_reaches_nobody() {
    let echo = Target::echo().await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let mut rng = fastrand::Rng::with_seed(3);
    let garbage = (0..300).map(|number| {
        let begin = ["", "GET ", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: "][number % 4];
        let length = rng.usize(..5_000);
        // The last is no legal field, whatever comes before.
        [
            begin.as_bytes(),
            &std::iter::repeat_with(|| rng.u8(..)).take(length).collect::<Vec<_>>(),
            b"\0\r\n\r\n",
        ]
        .concat()
    });
    let answers = futures::future::join_all(garbage.map(|bytes| raw(local(port), bytes))).await;
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"), "{answer:?}");
    }
    assert_eq!(echo.served(), 0);
    assert_eq!(send(local(port), Request::get("/").body("").unwrap()).await.status, 200);
}
