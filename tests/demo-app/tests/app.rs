//! The application over loopback.
#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests, not their helpers")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use evenkeel_demo_app::{Identity, serve};
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

struct Running {
    http: SocketAddr,
    echo: SocketAddr,
    client: Client<HttpConnector, Body>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let identity = Identity { replica: "replica-1".into(), zone: "zone-a".into(), version: "7".into() };
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (http_address, echo_address) = (http.local_addr().unwrap(), echo.local_addr().unwrap());
        let served = tokio::spawn(serve(http, echo, identity, async { stopped.await.unwrap_or_default() }));
        Self { http: http_address, echo: echo_address, client, stop: Some(stop), served }
    }

    async fn request(&self, method: Method, path: &str, body: &'static str) -> Response<Incoming> {
        let uri = format!("http://{}{path}", self.http);
        let request = Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();
        self.client.request(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        self.request(Method::GET, path, "").await
    }
}

async fn json(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn every_answer_says_which_replica_gave_it() {
    let app = Running::start().await;
    let response = app.get("/").await;
    assert_eq!(response.headers()["x-replica"], "replica-1");
    assert_eq!(response.headers()["x-zone"], "zone-a");
    assert_eq!(json(response).await, json!({"replica": "replica-1", "zone": "zone-a", "version": "7"}));
}

#[tokio::test]
async fn echo_shows_the_request_as_it_arrived() {
    let app = Running::start().await;
    let echoed = json(app.request(Method::PUT, "/echo/a/b?c=d", "hello").await).await;
    assert_eq!((&echoed["method"], &echoed["uri"]), (&json!("PUT"), &json!("/echo/a/b?c=d")));
    assert_eq!(echoed["headers"]["host"], json!([app.http.to_string()]));
    assert_eq!(echoed["body"], "hello");
}

#[tokio::test]
async fn inputs_are_bounded() {
    let app = Running::start().await;
    for path in
        ["/work?ms=10001", "/slow?s=601", "/bytes?n=1073741825", "/bytes?n=1&s=601", "/work", "/work?ms=x"]
    {
        assert_eq!(app.get(path).await.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    for path in [
        "/admin/health?status=100",
        "/admin/health?status=0",
        "/admin/health",
        "/admin/fault?kind=late",
        "/admin/fault?kind=slow&s=601",
    ] {
        assert_eq!(app.request(Method::POST, path, "").await.status(), StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn work_costs_what_was_asked_for() {
    let app = Running::start().await;
    let start = Instant::now();
    assert_eq!(app.get("/work?ms=20").await.status(), StatusCode::OK);
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[tokio::test]
async fn a_download_has_the_size_and_takes_the_time_asked_for() {
    let app = Running::start().await;
    for (n, s) in [(0, 0), (1, 0), (200_000, 0), (3_000, 1), (2, 1)] {
        let start = Instant::now();
        let body = app.get(&format!("/bytes?n={n}&s={s}")).await.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes().len(), n, "{n} bytes over {s} s");
        assert!(start.elapsed() >= Duration::from_secs(s), "{n} bytes over {s} s");
    }
}

#[tokio::test]
async fn it_fails_in_the_way_it_was_told_to() {
    let app = Running::start().await;
    let fail = async |kind: &str| {
        let path = format!("/admin/fault?kind={kind}");
        assert_eq!(app.request(Method::POST, &path, "").await.status(), StatusCode::OK, "{kind}");
    };
    let uri: hyper::Uri = format!("http://{}/", app.http).parse().unwrap();
    fail("slow").await;
    let start = Instant::now();
    assert_eq!(app.get("/").await.status(), StatusCode::OK);
    assert!(start.elapsed() >= Duration::from_millis(500));
    fail("short").await;
    let short = app.get("/").await;
    assert_eq!(short.headers()["content-length"], "1000");
    assert!(short.into_body().collect().await.is_err(), "it ends before its length");
    app.request(Method::POST, "/admin/fault?kind=reset", "").await;
    assert!(app.client.get(uri).await.is_err(), "the connection is reset");
}

#[tokio::test]
async fn health_is_what_it_was_set_to() {
    let app = Running::start().await;
    assert_eq!(app.get("/healthz").await.status(), StatusCode::OK);
    app.request(Method::POST, "/admin/health?status=503", "").await;
    assert_eq!(app.get("/healthz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.get("/").await.status(), StatusCode::OK, "only the health check fails");
    app.request(Method::POST, "/admin/health?status=200", "").await;
    assert_eq!(app.get("/healthz").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_websocket_echoes_after_its_greeting() {
    let app = Running::start().await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", app.http)).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("replica-1"));
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn the_echo_port_echoes_after_its_greeting_and_half_closes() {
    let app = Running::start().await;
    let mut stream = BufReader::new(TcpStream::connect(app.echo).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    assert_eq!(line, "replica-1\n");
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "hello");
}

#[tokio::test]
async fn what_is_in_flight_at_shutdown_is_finished() {
    let mut app = Running::start().await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", app.http)).await.unwrap();
    let slow = app.get("/bytes?n=10&s=1").await;
    app.stop.take().unwrap().send(()).unwrap();

    assert_eq!(slow.into_body().collect().await.unwrap().to_bytes().len(), 10);
    assert!(TcpStream::connect(app.http).await.is_err(), "nothing new is accepted");
    socket.next().await.unwrap().unwrap();
    socket.send(Message::text("still there?")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still there?"));
    assert!(!app.served.is_finished(), "the WebSocket is still open");
    socket.close(None).await.unwrap();
    app.served.await.unwrap().unwrap();
}
