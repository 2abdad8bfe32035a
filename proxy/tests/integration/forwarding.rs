//! What passes between client and target.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{get_h2, get_in_turn, raw, send};
use crate::harness::{forwarding, free_port, group, in_flight, local, serve, target, until};
use crate::target::Target;

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_both_directions() {
    let echo = Target::http(|request| async move {
        Response::new(Full::new(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let body: Bytes = (0..8 * 1024 * 1024_u32).map(|i| (i % 251) as u8).collect();
    let answer = send(local(port), Request::post("/").body(body.clone()).unwrap()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "the body came back changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_pass_in_both_directions() {
    let echo = Target::echo().await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let answer = raw(
        local(port),
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("\n\nhello world"), "{answer}");
    let streaming = Target::raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    )
    .await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", streaming.port)])).await;
    assert_eq!(send(local(port), Request::get("/").body("").unwrap()).await.text(), "abcdef");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_gets_no_chunks() {
    let streaming =
        Target::raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", streaming.port)])).await;
    // Shorter than the preface of HTTP/2, too.
    let answer = raw(local(port), "GET / HTTP/1.0\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body, "abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_share_the_port_with_http1() {
    let echo = Target::echo().await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let answers = get_h2(local(port), &["/1", "/2", "/3", "/4"]).await;
    for (answer, path) in answers.iter().zip(["/1", "/2", "/3", "/4"]) {
        assert_eq!(answer.status, 200);
        assert!(answer.text().starts_with(&format!("GET {path}\n")), "{}", answer.text());
        assert!(answer.text().contains(&format!("host: 127.0.0.1:{port}\n")), "{}", answer.text());
    }
    assert_eq!(send(local(port), Request::get("/").body("").unwrap()).await.status, 200);
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_get_each_their_own_answers() {
    let targets = [Target::echo().await, Target::echo().await];
    let port = free_port();
    let lines: Vec<_> = targets.iter().enumerate().map(|(i, t)| target(&format!("t{i}"), t.port)).collect();
    let proxy = serve(&forwarding(port, &lines)).await;
    let clients = (0..40).map(|client| {
        tokio::spawn(async move {
            let paths: Vec<_> = (0..20).map(|request| format!("/{client}/{request}")).collect();
            let paths: Vec<_> = paths.iter().map(String::as_str).collect();
            let answers = if client % 2 == 0 {
                get_h2(local(port), &paths).await
            } else {
                get_in_turn(local(port), &paths).await
            };
            for (answer, path) in answers.iter().zip(paths) {
                assert_eq!(answer.status, 200, "{path}: {}", answer.text());
                assert!(answer.text().starts_with(&format!("GET {path}\n")), "{path}: {}", answer.text());
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let [a, b] = targets.each_ref().map(Target::served);
    // On a machine that is busy enough, connections may take too long: those requests go to the other one.
    let elsewhere = group(&proxy).stats().connect_failures();
    assert!(a + b == 800 && a.abs_diff(b) <= 2 * elsewhere, "{a} and {b}, {elsewhere} elsewhere");
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_messages_and_counts_as_in_flight() {
    let echo = Target::tcp(|socket| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(socket).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}/chat")).await.unwrap();
    for text in ["one", "two", "three"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    assert_eq!(in_flight(&proxy), 1);
    socket.close(None).await.unwrap();
    until("the tunnel is closed", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_begin_however_quick_the_target_is() {
    // As quick as can be: it agrees before it is asked.
    let hasty = Target::tcp(|mut socket| async move {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = socket.write_all(head).await;
        let mut read = Vec::new();
        while !read.ends_with(b"ping") {
            if socket.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let _ = socket.write_all(b"pong").await;
    })
    .await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", hasty.port)])).await;
    for _ in 0..20 {
        let mut socket = TcpStream::connect(local(port)).await.unwrap();
        let mut read = Vec::new();
        for (said, heard) in [(UPGRADE, "\r\n\r\n"), ("ping", "pong")] {
            socket.write_all(said.as_bytes()).await.unwrap();
            while !read.ends_with(heard.as_bytes()) {
                let text = String::from_utf8_lossy(&read).into_owned();
                assert_ne!(socket.read_buf(&mut read).await.unwrap_or(0), 0, "closed after {text}");
            }
        }
    }
}

/// A request for a tunnel.
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_lives_while_one_direction_speaks_and_ends_in_silence() {
    // Speaks every half second, for longer than the idle time-out of two, and is then silent.
    let ticker = Target::tcp(|mut socket| async move {
        let _ = socket.read(&mut [0; 4096]).await;
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = socket.write_all(head).await;
        for _ in 0..6 {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            let _ = socket.write_all(b"tick").await;
        }
        let _ = socket.read(&mut [0; 1]).await;
    })
    .await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", ticker.port)])).await;
    let answer = raw(local(port), UPGRADE).await;
    assert_eq!(answer.matches("tick").count(), 6, "{answer}");
    until("the tunnel is closed", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let echo = Target::echo().await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", echo.port)])).await;
    let answer = raw(
        local(port),
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    let places: Vec<_> = ["GET /1", "GET /2", "GET /3"].map(|line| answer.find(line)).into_iter().collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_target() {
    let slow = Target::http(|_| async { std::future::pending().await }).await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", slow.port)])).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until("it is in flight", || in_flight(&proxy) == 1).await;
    drop(socket);
    until("it is not", || in_flight(&proxy) == 0).await;
}
