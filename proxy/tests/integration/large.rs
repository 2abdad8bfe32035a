//! Large bodies, whose middle the proxy does not see.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Collected, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{get_in_turn, send, try_send};
use crate::harness::{PATIENCE, forwarding, free_port, local, serve, target};
use crate::target::Target;

/// Much more than sockets, buffers and pipes hold.
const LARGE: usize = 20 << 20;

/// Bytes that do not repeat where a buffer ends.
fn body() -> Bytes {
    (0..LARGE).map(|place| (place % 251) as u8 ^ (place >> 16) as u8).collect()
}

fn get() -> Request<Bytes> {
    Request::get("/").body(Bytes::new()).expect("a request")
}

/// Says this to every request that fits into one read, and waits for the end of the connection.
async fn saying(answer: Vec<u8>, then_ends: bool) -> Target {
    Target::tcp(move |mut socket| {
        let answer = answer.clone();
        async move {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(&answer).await;
            if !then_ends {
                let _ = socket.read(&mut [0; 1]).await;
            }
        }
    })
    .await
}

fn answer(length: usize, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_arrives_whole_in_both_directions_and_is_counted() {
    let echo = Target::http(|request| async {
        let body = request.into_body().collect().await.map(Collected::to_bytes);
        Response::new(Full::from(body.unwrap_or_default()))
    })
    .await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let sent = body();
    for _ in 0..2 {
        let answer = send(local(port), Request::post("/").body(sent.clone()).expect("a request")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == sent, "{} bytes come back", answer.body.len());
    }
    let listener = proxy.metrics.listener("web");
    let all = 2 * LARGE as u64;
    for counted in [listener.received.get(), listener.sent.get()] {
        assert!((all..all + 2_000).contains(&counted), "{counted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_connections_go_on() {
    let steady = Target::tcp(|mut socket| async move {
        let answer = answer(LARGE, &body());
        while socket.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
            let _ = socket.write_all(&answer).await;
        }
    })
    .await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", steady.port)])).await;
    for answer in get_in_turn(local(port), &["/"; 3]).await {
        assert!(answer.body == body());
    }
    assert_eq!(steady.served(), 1, "connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_says_behind_it_reaches_nobody() {
    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let talkative = saying([&answer(LARGE, &body()), &evil[..]].concat(), false).await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", talkative.port)])).await;
    for answer in get_in_turn(local(port), &["/"; 3]).await {
        assert!(answer.body == body());
    }
    assert_eq!(talkative.served(), 3, "connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_it_is_not_taken_for_the_whole() {
    let breaking = saying(answer(LARGE, &body()[..LARGE / 2]), true).await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", breaking.port)])).await;
    let answer = tokio::time::timeout(PATIENCE, try_send(local(port), get())).await;
    assert!(answer.expect("in time").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_gets_no_whole_request_of_a_client_that_breaks_off() {
    let (heard, hears) = tokio::sync::oneshot::channel();
    let heard = std::sync::Arc::new(parking_lot::Mutex::new(Some(heard)));
    let listening = Target::tcp(move |mut socket| {
        let heard = heard.clone();
        async move {
            let mut all = Vec::new();
            let _ = socket.read_to_end(&mut all).await;
            if let Some(heard) = heard.lock().take() {
                let _ = heard.send(all);
            }
        }
    })
    .await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", listening.port)])).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&body()[..LARGE / 2]).await.unwrap();
    drop(socket);
    let heard = tokio::time::timeout(PATIENCE, hears).await.expect("in time").unwrap();
    let start = heard.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    assert!(body()[..LARGE / 2].starts_with(&heard[start..]), "{} bytes", heard.len());
}
