//! The load generator against the application, over loopback.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evenkeel_demo_app::{Identity, serve};
use evenkeel_tests::traffic::{Client, Load, Pace, Recorder, http};
use tokio::net::TcpListener;

#[allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests, not their helpers")]
async fn application() -> (SocketAddr, SocketAddr) {
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = (http.local_addr().unwrap(), echo.local_addr().unwrap());
    let identity = Identity { replica: "replica-1".into(), zone: String::new(), version: "1".into() };
    tokio::spawn(serve(http, echo, identity, std::future::pending()));
    addresses
}

async fn until_counted(load: &Load, requests: u64) {
    while load.tally().requests < requests {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_protocol_says_which_replica_answered() {
    let (http, echo) = application().await;
    for client in [
        Client::http1(format!("http://{http}/")),
        Client::websocket(format!("ws://{http}/ws")),
        Client::tcp(echo.to_string()),
    ] {
        let load = Load::start(&client, Pace::Connections(2), Recorder::default());
        until_counted(&load, 20).await;
        let tally = load.stop().await;
        assert_eq!(tally.failed(), 0, "{tally}");
        assert_eq!(tally.by_replica["replica-1"], tally.requests, "{tally}");
    }
}

#[tokio::test]
async fn a_constant_rate_is_kept_and_everything_sent_is_counted() {
    let (http, _) = application().await;
    let start = Instant::now();
    let load = Load::start(&Client::http1(format!("http://{http}/")), Pace::Rate(200), Recorder::default());
    until_counted(&load, 100).await;
    assert!(start.elapsed() >= Duration::from_millis(490), "{:?}", start.elapsed());
    assert_eq!(load.stop().await.failed(), 0);
}

#[tokio::test]
async fn statuses_and_errors_are_counted_as_failures() {
    let (http, _) = application().await;
    let url = format!("http://{http}/admin/health?status=503");
    http::send(hyper::Request::post(&url).body(http_body_util::Full::default()).unwrap()).await.unwrap();
    let load = Load::start(
        &Client::http1(format!("http://{http}/healthz")),
        Pace::Connections(1),
        Recorder::default(),
    );
    until_counted(&load, 10).await;
    let tally = load.stop().await;
    assert_eq!(tally.by_status[&503], tally.requests);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let load =
        Load::start(&Client::http1(format!("http://{nobody}/")), Pace::Connections(1), Recorder::default());
    until_counted(&load, 2).await;
    let tally = load.stop().await;
    assert_eq!(tally.errors.values().sum::<u64>(), tally.requests, "{tally}");
    assert!(tally.errors.keys().all(|error| error.contains("refused")), "{tally}");
}
