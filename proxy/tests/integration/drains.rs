//! Targets that leave, and a proxy that leaves.

use std::time::Duration;

use evenkeel_proxy::drain::{Ending, Patience, leave};
use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{get, get_h2, raw};
use crate::harness::{PATIENCE, apply, forwarding, free_port, in_flight, local, serve, target, until};
use crate::target::Target;

/// Answers `/slow` when it is told to, and everything else at once.
async fn waiting(text: &'static str) -> (Target, std::sync::Arc<tokio::sync::Notify>) {
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let wait = go_on.clone();
    let target = Target::http(move |request| {
        let wait = wait.clone();
        async move {
            if request.uri().path() == "/slow" {
                wait.notified().await;
            }
            Response::new(Full::from(text))
        }
    })
    .await;
    (target, go_on)
}

fn draining(id: &str, port: u16, limit: &str) -> String {
    format!("{{id: {id}, address: 127.0.0.1, port: {port}, drain: {limit}}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_target_gets_nothing_new_and_finishes_what_it_has() {
    let (leaving, go_on) = waiting("leaving").await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("old", leaving.port)])).await;
    let slow = tokio::spawn(async move { get(local(port), "/slow").await });
    until("it is in flight", || in_flight(&proxy) == 1).await;

    let staying = Target::saying("staying").await;
    let next = forwarding(port, &[draining("old", leaving.port, "300s"), target("new", staying.port)]);
    apply(&proxy, &next).await;
    for _ in 0..5 {
        assert_eq!(get(local(port), "/").await.text(), "staying");
    }
    assert_eq!(leaving.served(), 1);
    go_on.notify_one();
    assert_eq!(slow.await.unwrap().text(), "leaving");
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_the_drains_limit_is_closed() {
    let (leaving, _) = waiting("leaving").await;
    let tunnel = Target::tcp(|mut socket| async move {
        let _ = socket.read(&mut [0; 4096]).await;
        let _ = socket
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .await;
        let _ = socket.read(&mut [0; 1]).await;
    })
    .await;
    let port = free_port();
    let proxy =
        serve(&forwarding(port, &[target("slow", leaving.port), target("tunnel", tunnel.port)])).await;
    let upgrade = "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let both: Vec<_> = (0..2).map(|_| tokio::spawn(raw(local(port), upgrade))).collect();
    until("both are in flight", || in_flight(&proxy) == 2).await;
    let gone = [draining("slow", leaving.port, "0s"), draining("tunnel", tunnel.port, "0s")];
    apply(&proxy, &forwarding(port, &gone)).await;
    for connection in both {
        connection.await.unwrap();
    }
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_proxy_still_accepts_tells_clients_to_close_and_finishes() {
    let (slow, go_on) = waiting("done").await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", slow.port)])).await;
    let busy = tokio::spawn(async move { get(local(port), "/slow").await });
    until("it is in flight", || in_flight(&proxy) == 1).await;

    let listeners = proxy.listeners.clone();
    let patience = Patience { termination_wait: Duration::from_millis(500), drain_timeout: PATIENCE };
    let leaving = tokio::spawn(async move { leave(&listeners, patience, std::future::pending()).await });
    let mut said_close = false;
    while !said_close {
        let answer = get(local(port), "/").await;
        assert_eq!(answer.status, 200, "it accepts while it waits");
        said_close = answer.header("connection") == Some("close");
    }
    until("it accepts no more", || std::net::TcpStream::connect(local(port)).is_err()).await;
    assert!(!leaving.is_finished(), "a request is in flight");
    go_on.notify_one();
    assert_eq!(busy.await.unwrap().text(), "done");
    assert_eq!(leaving.await.unwrap(), Ending::Idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_proxy_does_not_wait_for_idle_connections_nor_for_ever() {
    let (slow, _) = waiting("never").await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", slow.port)])).await;
    let mut idle = TcpStream::connect(local(port)).await.unwrap();
    until("it is accepted", || proxy.listeners.connections() == 1).await;
    let patience = |drain_timeout| Patience { termination_wait: Duration::ZERO, drain_timeout };
    assert_eq!(leave(&proxy.listeners, patience(PATIENCE), std::future::pending()).await, Ending::Idle);
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);

    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", slow.port)])).await;
    let cut_off = tokio::spawn(raw(local(port), "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"));
    until("it is in flight", || in_flight(&proxy) == 1).await;
    let ending = leave(&proxy.listeners, patience(Duration::from_millis(10)), std::future::pending()).await;
    assert_eq!((ending, cut_off.await.unwrap().as_str()), (Ending::TimedOut, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_is_told_to_go_away_and_gets_its_answer() {
    let (slow, go_on) = waiting("done").await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", slow.port)])).await;
    let busy = tokio::spawn(async move { get_h2(local(port), &["/slow"]).await });
    until("it is in flight", || in_flight(&proxy) == 1).await;
    let listeners = proxy.listeners.clone();
    let patience = Patience { termination_wait: Duration::ZERO, drain_timeout: PATIENCE };
    let leaving = tokio::spawn(async move { leave(&listeners, patience, std::future::pending()).await });
    until("it accepts no more", || std::net::TcpStream::connect(local(port)).is_err()).await;
    go_on.notify_one();
    assert_eq!(busy.await.unwrap()[0].text(), "done");
    assert_eq!(leaving.await.unwrap(), Ending::Idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_opens_no_port_of_a_proxy_that_has_closed() {
    let port = free_port();
    let proxy = serve(&forwarding(port, &[])).await;
    let patience = Patience { termination_wait: Duration::ZERO, drain_timeout: PATIENCE };
    leave(&proxy.listeners, patience, std::future::pending()).await;
    assert_eq!(apply(&proxy, &forwarding(port, &[])).await.rejections, []);
    assert_eq!(proxy.listeners.bound(), []);
}
