//! What a listener takes at most, by both carriers.

use evenkeel_proxy::admission::Turned;
use evenkeel_proxy::errors::Reason;
use evenkeel_proxy::proxy::{Http1Through, Proxy, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{get, raw};
use crate::harness::{
    PATIENCE, forwarding, free_port, in_flight, local, serve, serve_with, settings, target, until,
};
use crate::target::Target;

const CARRIERS: [Http1Through; 2] = [Http1Through::Http1, Http1Through::HttpProxy];

/// A proxy before a target, with these limits (YAML) and rules.
struct Scene {
    proxy: Proxy,
    port: u16,
    target: Target,
}

impl Scene {
    async fn new(http1: Http1Through, limits: &str, rules: &str) -> Self {
        let (target_, port) = (Target::echo().await, free_port());
        let more = format!("idleTimeout: 2s, limits: {{{limits}}}, rules: [{rules}]");
        let snapshot = forwarding(port, &[target("t", target_.port)]).replace("idleTimeout: 2s", &more);
        let proxy = serve_with(&snapshot, Settings { http1, ..settings() }).await;
        Self { proxy, port, target: target_ }
    }

    /// The status of the answer to a request that is the last one of its connection.
    async fn status(&self, line: &str, fields: &str, body: &str) -> String {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
        let answer = raw(local(self.port), head + body).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    fn errors(&self, reason: Reason) -> u64 {
        self.proxy.metrics.listener("web").errors(reason)
    }

    fn turned(&self, turned: Turned) -> u64 {
        self.proxy.metrics.listener("web").turned(turned)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_as_long_and_have_as_many_fields_as_the_listener_takes() {
    for carrier in CARRIERS {
        let scene = Scene::new(carrier, "headBytes: 1024, headerCount: 4", "").await;
        let fields = |length: usize| format!("X: {}\r\n", "x".repeat(length));
        // What is around the field's value.
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: \r\n\r\n".len();
        assert_eq!(scene.status("GET /", &fields(1_024 - rest), "").await, "200", "{carrier:?}");
        assert_eq!(scene.status("GET /", &fields(1_025 - rest), "").await, "431", "{carrier:?}");
        assert_eq!(scene.status("GET /", "X: 1\r\nY: 2\r\n", "").await, "200", "{carrier:?}");
        assert_eq!(scene.status("GET /", "X: 1\r\nY: 2\r\nZ: 3\r\n", "").await, "431", "{carrier:?}");
        assert_eq!((scene.target.served(), scene.errors(Reason::HeadTooLarge)), (2, 2), "{carrier:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_as_long_as_the_rule_takes_or_else_the_listener() {
    let rule = "{priority: 1, conditions: [path: {values: [/small]}], limits: {bodyBytes: 3}, action: {forward: {targetGroups: [{name: api}]}}}";
    for carrier in CARRIERS {
        let scene = Scene::new(carrier, "bodyBytes: 5", rule).await;
        let chunked = "Transfer-Encoding: chunked\r\n";
        for (line, fields, body, expected) in [
            ("POST /small", "Content-Length: 3\r\n", "abc", "200"),
            ("POST /small", "Content-Length: 4\r\n", "abcd", "413"),
            ("POST /small", chunked, "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "200"),
            ("POST /small", chunked, "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", "413"),
            ("POST /", "Content-Length: 5\r\n", "abcde", "200"),
            ("POST /", "Content-Length: 6\r\n", "abcdef", "413"),
            ("GET /", "", "", "200"),
        ] {
            assert_eq!(scene.status(line, fields, body).await, expected, "{carrier:?} {line} {body:?}");
        }
        assert_eq!(scene.errors(Reason::BodyTooLarge), 3, "{carrier:?}");
        let expecting = "Content-Length: 6\r\nExpect: 100-continue\r\n";
        assert_eq!(scene.status("POST /", expecting, "").await, "413", "{carrier:?}: it is not asked for");
        until("nothing is in flight", || in_flight(&scene.proxy) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_a_tunnel_is_no_body() {
    let hearing = Target::tcp(|mut socket| async move {
        let _ = socket.read(&mut [0; 4096]).await;
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = socket.write_all(head).await;
        let mut heard = Vec::new();
        while !heard.ends_with(b"more than five")
            && socket.read_buf(&mut heard).await.is_ok_and(|read| read > 0)
        {}
        let _ = socket.write_all(format!("{} bytes", heard.len()).as_bytes()).await;
    })
    .await;
    for http1 in CARRIERS {
        let port = free_port();
        let snapshot = forwarding(port, &[target("t", hearing.port)])
            .replace("idleTimeout: 2s", "idleTimeout: 2s, limits: {bodyBytes: 5}");
        let _proxy = serve_with(&snapshot, Settings { http1, ..settings() }).await;
        let mut socket = TcpStream::connect(local(port)).await.unwrap();
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut read = Vec::new();
        for (said, heard) in [(upgrade, "\r\n\r\n"), ("more than five", "14 bytes")] {
            socket.write_all(said.as_bytes()).await.unwrap();
            while !read.ends_with(heard.as_bytes()) {
                let text = String::from_utf8_lossy(&read).into_owned();
                let more = tokio::time::timeout(PATIENCE, socket.read_buf(&mut read)).await.expect("in time");
                assert_ne!(more.unwrap_or(0), 0, "{http1:?}: closed after {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_last_request() {
    for carrier in CARRIERS {
        let scene = Scene::new(carrier, "requestsPerConnection: 3", "").await;
        let answers = raw(local(scene.port), "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4)).await;
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{carrier:?}: {answers}");
        let last = answers.rsplit("HTTP/1.1 200 ").next().unwrap().to_ascii_lowercase();
        assert!(last.contains("connection: close\r\n"), "{carrier:?}: {last}");
        assert_eq!(answers.to_ascii_lowercase().matches("connection: close\r\n").count(), 1, "{carrier:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_what_the_listener_takes_are_told_and_closed_until_others_end() {
    for (limits, turned) in [
        ("connections: 2", Turned::TooManyConnections),
        ("connectionsPerSource: 2", Turned::TooManyFromSource),
    ] {
        let scene = Scene::new(Http1Through::Http1, limits, "").await;
        let metrics = scene.proxy.metrics.listener("web");
        let mut held = Vec::new();
        for count in 1..=2 {
            held.push(TcpStream::connect(local(scene.port)).await.unwrap());
            until("it is accepted", || metrics.connections.get() == count).await;
        }
        let answer = raw(local(scene.port), "").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("too many"), "{limits}: {answer:?}");
        assert_eq!(scene.turned(turned), 1, "{limits}");
        held.pop();
        until("there is room", || metrics.connections.get() == 1).await;
        assert_eq!(get(local(scene.port), "/").await.status, 200, "{limits}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_connections_beyond_what_the_listener_takes_are_closed() {
    let echo = Target::tcp(|mut socket| async move {
        let (mut reader, mut writer) = socket.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    let port = free_port();
    let proxy = serve(&format!(
        "listeners: {{web: {{port: {port}, protocol: TCP, limits: {{connections: 1}}, defaultAction: {{forward: {{targetGroups: [{{name: db}}]}}}}}}}}\n\
         targetGroups: {{db: {{protocol: TCP, targets: [{}]}}}}\n",
        target("t", echo.port)
    ))
    .await;
    let mut first = TcpStream::connect(local(port)).await.unwrap();
    first.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    tokio::time::timeout(PATIENCE, first.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(raw(local(port), "").await, "");
    assert_eq!(proxy.metrics.listener("web").turned(Turned::TooManyConnections), 1);
}
