//! The load generator against the application, over loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use evenkeel_demo_app::{Identity, serve};
use evenkeel_tests::traffic::{Client, Load, Pace, Recorder, http};
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink};
use tokio::net::{TcpListener, TcpStream};

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
    http::send(hyper::Request::post(&url).body(Full::default()).unwrap()).await.unwrap();
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

/// An HTTP/2 server that leaves its first connection for this reason once a request is there, without having looked at it,
/// and answers on all others.
#[allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests, not their helpers")]
async fn leaves_once(reason: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (first, _) = listener.accept().await.unwrap();
        tokio::spawn(leave(first, reason));
        while let Ok((stream, _)) = listener.accept().await {
            let answer = |_| async { Ok::<_, Infallible>(hyper::Response::new(Full::<Bytes>::default())) };
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    address
}

/// RFC 9113: the client's preface is 24 bytes, the head of a frame 9; its first 3 are the length, then comes the type.
async fn leave(mut stream: TcpStream, reason: u32) -> std::io::Result<u64> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY_BEFORE_THE_FIRST_STREAM: [u8; 13] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(&SETTINGS).await?;
    let mut head = [0; 9];
    while head[3] != HEADERS {
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        copy(&mut (&mut stream).take(length.into()), &mut sink()).await?;
    }
    stream.write_all(&GOAWAY_BEFORE_THE_FIRST_STREAM).await?;
    stream.write_all(&reason.to_be_bytes()).await?;
    copy(&mut stream, &mut sink()).await
}

#[tokio::test]
async fn a_request_that_a_server_on_its_way_out_has_not_looked_at_is_sent_again_and_no_other() {
    const NO_ERROR: u32 = 0;
    const ENHANCE_YOUR_CALM: u32 = 11;
    for (reason, answered) in [(NO_ERROR, true), (ENHANCE_YOUR_CALM, false)] {
        let client = Client::h2c(format!("http://{}/", leaves_once(reason).await));
        let outcome = client.session().exchange().await;
        assert_eq!(outcome.is_ok(), answered, "reason {reason}: {outcome:?}");
    }
}
