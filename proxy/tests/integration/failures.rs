//! Targets that fail, and what the client is told.

use std::time::Instant;

use http::{Request, Response};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{get, raw, send};
use crate::harness::{forwarding, free_port, group, in_flight, local, serve, target, until};
use crate::target::{Target, nobody};

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_there_costs_no_request() {
    let alive = Target::saying("alive").await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("dead", nobody().await), target("live", alive.port)])).await;
    for _ in 0..10 {
        let request = Request::post("/").body("a body that nobody has read yet").unwrap();
        assert_eq!(send(local(port), request).await.text(), "alive");
    }
    assert_eq!(alive.served(), 10);
    let stats = || (group(&proxy).stats().retries(), group(&proxy).stats().connect_failures());
    assert_eq!(stats(), (1, 1), "after its first failure others are picked");
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_targets_the_answer_is_503_and_the_connection_goes_on() {
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[])).await;
    let answer = get(local(port), "/").await;
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (503, Some("keep-alive")));
    assert!(answer.text().starts_with("503 "), "{}", answer.text());
    assert_eq!(answer.header("retry-after"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_reached_is_502() {
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("dead", nobody().await)])).await;
    let answer = get(local(port), "/").await;
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (502, Some("close")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_answer_is_502_and_is_not_asked_for_again() {
    let nonsense = &b"nonsense\r\n\r\n"[..];
    let [bad, other] = [Target::raw(nonsense).await, Target::raw(nonsense).await];
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", bad.port), target("u", other.port)])).await;
    assert_eq!(get(local(port), "/").await.status, 502);
    assert_eq!(bad.served() + other.served(), 1);
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_dies_before_it_answers_costs_no_idempotent_request_and_no_other_is_repeated() {
    for begun in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Le"] {
        let [dying, alive] = [Target::raw(begun).await, Target::saying("alive").await];
        let port = free_port();
        let proxy = serve(&forwarding(port, &[target("t", dying.port), target("u", alive.port)])).await;
        for _ in 0..4 {
            assert_eq!(get(local(port), "/").await.text(), "alive", "{begun:?}");
        }
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let request = Request::post("/").body("a body").unwrap();
            statuses.push(send(local(port), request).await.status.as_u16());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 502], "{begun:?}: each target has its turn");
        until("nothing is in flight", || in_flight(&proxy) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_silent_is_504_after_the_idle_timeout() {
    let silent = Target::http(|_| async { std::future::pending().await }).await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", silent.port)])).await;
    let began = Instant::now();
    assert_eq!(get(local(port), "/").await.status, 504);
    assert!(began.elapsed().as_secs_f64() > 1.9, "{:?}", began.elapsed());
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_target_closed_meanwhile_costs_no_idempotent_request() {
    // Answers one request on each connection and closes it with the next one, as servers do whose keep-alive just ended.
    let forgetful = Target::tcp(|mut socket| async move {
        let mut buffer = [0; 4096];
        let _ = socket.read(&mut buffer).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let _ = socket.read(&mut buffer).await;
    })
    .await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", forgetful.port)])).await;
    // Whether a connection is kept depends on how fast the client before went away: go on until one was.
    while group(&proxy).stats().retries() == 0 {
        assert_eq!(get(local(port), "/").await.status, 200);
    }
    loop {
        assert_eq!(get(local(port), "/").await.status, 200);
        let granted = group(&proxy).stats().retries();
        if send(local(port), Request::post("/").body("").unwrap()).await.status == 502 {
            assert_eq!(
                group(&proxy).stats().retries(),
                granted,
                "what may not be done twice is not sent again"
            );
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_end_with_their_budget() {
    let port = free_port();
    let alive = Target::saying("alive").await;
    let closing = Target::raw(&b""[..]).await;
    let targets = [target("closing", closing.port), target("live", alive.port)];
    let proxy = serve(&forwarding(port, &targets)).await;
    let mut refused = 0;
    for _ in 0..400 {
        refused += u32::from(get(local(port), "/").await.status == 502);
    }
    // Half of the requests need a retry; a fifth, three a second and a reserve of thirty are granted.
    assert!(refused > 0, "retries are without bound");
    assert_eq!(u64::from(refused), group(&proxy).stats().retries_over_budget());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_send_its_body_is_told() {
    let reading = Target::http(|request| async {
        use http_body_util::BodyExt;
        let _ = request.into_body().collect().await;
        Response::new(Full::from("read"))
    })
    .await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", reading.port)])).await;
    let answer = raw(local(port), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_connection_is_closed() {
    let alive = Target::saying("alive").await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", alive.port)])).await;
    let answer = raw(local(port), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.ends_with("alive"), "{answer}");
    assert_eq!(raw(local(port), "").await, "");
}
