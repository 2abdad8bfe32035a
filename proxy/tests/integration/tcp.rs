//! TCP listeners.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::raw;
use crate::harness::{PATIENCE, apply, free_port, in_flight, local, serve, target, until};
use crate::target::{Clogged, Target, nobody};

fn snapshot(port: u16, targets: &[String]) -> String {
    format!(
        "listeners: {{raw: {{port: {port}, protocol: TCP, idleTimeout: 1s, defaultAction: {{forward: {{targetGroups: [{{name: db}}]}}}}}}}}\n\
         targetGroups: {{db: {{protocol: TCP, targets: [{}]}}}}\n",
        targets.join(", ")
    )
}

/// Says how many bytes it got, once the client has said everything.
async fn counting() -> Target {
    Target::tcp(|mut socket| async move {
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all).await;
        let _ = socket.write_all(format!("{} bytes", all.len()).as_bytes()).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_passed_on_and_the_answer_still_comes() {
    let counting = counting().await;
    let port = free_port();
    let proxy = serve(&snapshot(port, &[target("t", counting.port)])).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    socket.write_all(&vec![7; 1_000_000]).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "1000000 bytes");
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_there_costs_no_session() {
    let greeting = Target::tcp(|mut socket| async move {
        let _ = socket.write_all(b"hello").await;
    })
    .await;
    let port = free_port();
    let _proxy =
        serve(&snapshot(port, &[target("dead", nobody().await), target("live", greeting.port)])).await;
    for _ in 0..6 {
        assert_eq!(raw(local(port), "").await, "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_accepts_nothing_more_costs_no_session_and_little_time() {
    let greeting = Target::tcp(|mut socket| async move {
        let _ = socket.write_all(b"hello").await;
    })
    .await;
    let clogged = Clogged::up().await;
    let port = free_port();
    let targets = [target("clogged", clogged.port()), target("live", greeting.port)];
    let _proxy = serve(&snapshot(port, &targets)).await;
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(raw(local(port), "").await, "hello");
    }
    assert!(began.elapsed() < Duration::from_millis(1_900), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_is_closed() {
    let silent = Target::tcp(|mut socket| async move {
        let _ = socket.read(&mut [0; 1]).await;
    })
    .await;
    let port = free_port();
    let proxy = serve(&snapshot(port, &[target("t", silent.port)])).await;
    assert_eq!(raw(local(port), "").await, "");
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_closed_at_its_targets_drain_limit() {
    let chatty = Target::tcp(|mut socket| async move {
        while socket.write_all(b"tick").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let port = free_port();
    let proxy = serve(&snapshot(port, &[target("t", chatty.port)])).await;
    let session = tokio::spawn(raw(local(port), ""));
    until("it is in flight", || in_flight(&proxy) == 1).await;
    let draining = format!("{{id: t, address: 127.0.0.1, port: {}, drain: 0s}}", chatty.port);
    apply(&proxy, &snapshot(port, &[draining])).await;
    session.await.unwrap();
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}
