//! What is particular to HTTP/1: connections that are used again, and the order in which the two sides speak.

use std::time::{Duration, Instant};

use evenkeel_proxy::errors::Reason;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{get_in_turn, raw, send};
use crate::harness::{PATIENCE, forwarding, free_port, group, in_flight, local, serve, target, until};
use crate::target::Target;

/// Reads until what was read ends like this.
async fn hear(socket: &mut TcpStream, end: &str) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) {
        let more = tokio::time::timeout(PATIENCE, socket.read_buf(&mut heard)).await.expect("in time");
        let text = String::from_utf8_lossy(&heard).into_owned();
        assert_ne!(more.unwrap_or(0), 0, "it ends after {text:?}");
    }
    String::from_utf8_lossy(&heard).into_owned()
}

async fn say(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.expect("to write");
}

/// A proxy before this target; its port.
async fn before(target_: &Target) -> (evenkeel_proxy::proxy::Proxy, u16) {
    let port = free_port();
    (serve(&forwarding(port, &[target("t", target_.port)])).await, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_to_the_target_serves_many_requests() {
    let steady = Target::tcp(|mut socket| async move {
        loop {
            hear(&mut socket, "\r\n\r\n").await;
            say(&mut socket, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let (_proxy, port) = before(&steady).await;
    let answers = get_in_turn(local(port), &["/"; 20]).await;
    assert!(answers.iter().all(|answer| answer.text() == "ok"));
    assert_eq!(steady.served(), 1, "connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_says_beyond_its_answer_reaches_nobody() {
    let talkative = Target::tcp(|mut socket| async move {
        hear(&mut socket, "\r\n\r\n").await;
        say(
            &mut socket,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        )
        .await;
        let _ = socket.read(&mut [0; 1]).await;
    })
    .await;
    let (_proxy, port) = before(&talkative).await;
    let answers = get_in_turn(local(port), &["/"; 5]).await;
    assert!(answers.iter().all(|answer| answer.text() == "ok"));
    assert_eq!(talkative.served(), 5, "connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let asking = Target::tcp(|mut socket| async move {
        hear(&mut socket, "\r\n\r\n").await;
        say(&mut socket, "HTTP/1.1 100 Continue\r\n\r\n").await;
        hear(&mut socket, "hello").await;
        say(&mut socket, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let (_proxy, port) = before(&asking).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    say(&mut socket, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(hear(&mut socket, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    say(&mut socket, "hello").await;
    assert!(hear(&mut socket, "ok").await.contains("Connection: keep-alive"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_not_asked_for_its_body_cannot_go_on() {
    let refusing = Target::tcp(|mut socket| async move {
        hear(&mut socket, "\r\n\r\n").await;
        say(&mut socket, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await;
        let _ = socket.read(&mut [0; 1]).await;
    })
    .await;
    let (_proxy, port) = before(&refusing).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let answer = raw(local(port), request).await;
    assert!(answer.starts_with("HTTP/1.1 417 ") && answer.contains("Connection: close"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let early = Target::tcp(|mut socket| async move {
        let _ = socket.read(&mut [0; 4096]).await;
        say(&mut socket, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
    })
    .await;
    let (proxy, port) = before(&early).await;
    for _ in 0..5 {
        let mut socket = TcpStream::connect(local(port)).await.unwrap();
        say(&mut socket, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await;
        let (mut reader, mut writer) = socket.split();
        let mut answer = Vec::new();
        let sending = async { while writer.write_all(&[b'x'; 8_192]).await.is_ok() {} };
        tokio::select! {
            _ = reader.read_to_end(&mut answer) => {}
            () = sending => {}
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("big"), "{answer:?}");
    }
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_flow_at_the_same_time_and_nothing_waits_for_more() {
    let echo = Target::tcp(|mut socket| async move {
        hear(&mut socket, "\r\n\r\n").await;
        say(&mut socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = socket.read(&mut buffer).await {
            if socket.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    })
    .await;
    let (_proxy, port) = before(&echo).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    say(&mut socket, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    hear(&mut socket, "\r\n\r\n").await;
    for chunk in ["3\r\none\r\n", "3\r\ntwo\r\n", "5\r\nthree\r\n", "0\r\n\r\n"] {
        say(&mut socket, chunk).await;
        assert_eq!(hear(&mut socket, chunk).await, chunk);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_side_gets_its_answer() {
    let quick = Target::saying("quick").await;
    let (_proxy, port) = before(&quick).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    say(&mut socket, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with("quick"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_too_slowly_is_not_waited_for() {
    let quick = Target::saying("quick").await;
    let (proxy, port) = before(&quick).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    let began = Instant::now();
    let mut answer = Vec::new();
    for byte in b"GET /a-path-that-comes-byte-by-byte HTTP/1.1\r\n".iter().cycle() {
        let _ = socket.write_all(&[*byte]).await;
        let pause = Duration::from_millis(100);
        if tokio::time::timeout(pause, socket.read_buf(&mut answer)).await.is_ok() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it is waited for");
    }
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(proxy.metrics.listener("web").errors(Reason::ClientTimeout), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let generous = Target::http(|_| async { http::Response::new(vec![0; 1 << 24].into()) }).await;
    let (proxy, port) = before(&generous).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    say(&mut socket, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("it is under way", || in_flight(&proxy) == 1).await;
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
    assert_eq!(proxy.metrics.listener("web").errors(Reason::ClientClosed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_sent_in_vain_is_sent_again_where_that_is_safe() {
    // Answers one request on each connection and closes it when the next has come.
    let forgetful = Target::tcp(|mut socket| async move {
        let heard = hear(&mut socket, "hello").await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{heard}", heard.len());
        say(&mut socket, &answer).await;
        let _ = socket.read(&mut [0; 4096]).await;
    })
    .await;
    let (proxy, port) = before(&forgetful).await;
    // Whether a connection is kept depends on how fast the client goes on: go on until one was.
    while group(&proxy).stats().retries() < 2 {
        let answer = send(local(port), Request::put("/").body("hello").unwrap()).await;
        assert!(answer.text().starts_with("PUT / ") && answer.text().ends_with("hello"), "{}", answer.text());
    }
}

/// A target that says this, and breaks off when it hears more.
async fn breaking(says: &'static str) -> Target {
    Target::tcp(move |mut socket| async move {
        hear(&mut socket, "\r\n\r\n").await;
        say(&mut socket, says).await;
        // The client has the beginning before the end comes: it is told by what it says next.
        let _ = socket.read(&mut [0; 1]).await;
        let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_breaks_off_an_answer_that_the_end_would_end_is_not_taken_for_one_that_ended() {
    for (version, says) in [
        ("HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\nhalf"),
        ("HTTP/1.0", "HTTP/1.1 200 OK\r\n\r\nhalf"),
        ("HTTP/1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf"),
    ] {
        let breaking = breaking(says).await;
        let (_proxy, port) = before(&breaking).await;
        let mut socket = TcpStream::connect(local(port)).await.unwrap();
        say(&mut socket, &format!("POST / {version}\r\nHost: a\r\nContent-Length: 2\r\n\r\n")).await;
        hear(&mut socket, "half").await;
        say(&mut socket, "x").await;
        let end = tokio::time::timeout(PATIENCE, socket.read(&mut [0; 8])).await.expect("in time");
        assert!(end.is_err(), "{version} {says:?}: {end:?}");
    }
}
