//! Ports that come, change and go while the proxy serves.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use evenkeel_proxy::proxy::{Proxy, Settings};
use http::{Request, Response};
use http_body_util::Full;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::client::{get, raw, try_send};
use crate::harness::{
    FORKS, PATIENCE, apply, forwarding, free_port, in_flight, local, serve, serve_with, settings, target,
    until,
};
use crate::target::Target;

fn answering(name: &str, port: u16, body: &str) -> String {
    format!(
        "{name}: {{port: {port}, defaultAction: {{fixedResponse: {{statusCode: 200, contentType: text/plain, messageBody: {body}}}}}}}"
    )
}

fn snapshot(listeners: &[String]) -> String {
    format!("listeners: {{{}}}", listeners.join(", "))
}

/// The listeners' metrics.
fn shown(proxy: &Proxy) -> String {
    let (mut registry, mut text) = (Registry::default(), String::new());
    proxy.metrics.register(&mut registry);
    encode(&mut text, &registry).unwrap();
    text
}

/// Half an answer, then the rest when the test says so.
async fn in_two_halves() -> (Target, std::sync::Arc<tokio::sync::Notify>) {
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let wait = go_on.clone();
    let target = Target::tcp(move |mut socket| {
        let wait = wait.clone();
        async move {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").await;
            wait.notified().await;
            let _ = socket.write_all(b"rest").await;
        }
    })
    .await;
    (target, go_on)
}

async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let more = tokio::time::timeout(crate::harness::PATIENCE, socket.read_buf(&mut read)).await;
        let text = String::from_utf8_lossy(&read).into_owned();
        assert_ne!(more.expect("in time").expect("to read"), 0, "closed after {text}");
    }
    String::from_utf8(read).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go_while_a_download_on_another_goes_on() {
    let (target_, go_on) = in_two_halves().await;
    let (download, other) = (free_port(), free_port());
    let forward = format!(
        "download: {{port: {download}, defaultAction: {{forward: {{targetGroups: [{{name: api}}]}}}}}}"
    );
    let groups = format!("\ntargetGroups: {{api: {{targets: [{}]}}}}", target("t", target_.port));
    let only = snapshot(std::slice::from_ref(&forward)) + &groups;
    let both = snapshot(&[forward, answering("other", other, "here")]) + &groups;
    let proxy = serve(&only).await;
    let mut socket = TcpStream::connect(local(download)).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut socket, "half").await;

    apply(&proxy, &both).await;
    assert_eq!(get(local(other), "/").await.text(), "here");
    apply(&proxy, &only).await;
    until("the port is closed", || std::net::TcpStream::connect(local(other)).is_err()).await;

    go_on.notify_one();
    assert_eq!(read_until(&mut socket, "rest").await, "rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_listener_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let (target_, go_on) = in_two_halves().await;
    let port = free_port();
    let proxy = serve(&crate::harness::forwarding(port, &[target("t", target_.port)])).await;
    let mut busy = TcpStream::connect(local(port)).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut busy, "half").await;
    let mut idle = TcpStream::connect(local(port)).await.unwrap();
    until("both are accepted", || proxy.listeners.connections() == 2).await;

    apply(&proxy, "listeners: {}").await;
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "an idle connection is closed");
    go_on.notify_one();
    read_until(&mut busy, "rest").await;
    assert_eq!(busy.read(&mut [0; 1]).await.unwrap(), 0, "and the busy one after its answer");
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
}

/// Asks while nobody else on this thread has a turn: the kernel has the request, and the runtime does not know.
fn ask(client: &mut std::net::TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
}

fn read_now(client: &mut std::net::TcpStream) -> String {
    let mut answer = [0; 1_024];
    let length = client.read(&mut answer).expect("it was answered already");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn requests_that_came_before_their_listener_went_are_answered() {
    let port = free_port();
    let proxy = serve(&snapshot(&[answering("web", port, "in time")])).await;
    let connect = || std::net::TcpStream::connect(local(port)).unwrap();
    let (mut kept, mut new) = (connect(), connect());
    for client in [&kept, &new] {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    ask(&mut kept);
    until("it is answered", || shown(&proxy).contains(r#"requests_total{listener="web",status="2xx"} 1"#))
        .await;
    assert!(read_now(&mut kept).ends_with("in time"));
    ask(&mut kept);
    ask(&mut new);
    apply(&proxy, "listeners: {}").await;
    proxy.listeners.idle().await;
    for mut client in [kept, new] {
        assert!(read_now(&mut client).ends_with("in time"));
        assert_eq!(read_now(&mut client), "", "and told that it was the last");
    }
}

#[tokio::test]
async fn nothing_is_left_to_be_accepted_when_a_proxy_that_leaves_is_idle() {
    let port = free_port();
    let proxy = serve(&snapshot(&[answering("web", port, "in time")])).await;
    let mut client = std::net::TcpStream::connect(local(port)).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    ask(&mut client);
    proxy.listeners.close_all();
    proxy.listeners.idle().await;
    assert!(read_now(&mut client).ends_with("in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_when_its_listener_goes_is_not_waited_for_long() {
    let port = free_port();
    let proxy = serve(&snapshot(&[answering("web", port, "never")])).await;
    let mut client = TcpStream::connect(local(port)).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    until("it has begun", || shown(&proxy).contains(r#"received_bytes_total{listener="web"} 16"#)).await;
    apply(&proxy, "listeners: {}").await;
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await;
    read.expect("in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_of_a_removed_listener_end_and_those_of_one_that_is_back_go_on() {
    let (gone, back) = (free_port(), free_port());
    let both = snapshot(&[answering("gone", gone, "gone"), answering("back", back, "back")]);
    let settings = Settings { drain_timeout: Duration::from_millis(200), ..settings() };
    let proxy = serve_with(&both, settings).await;
    assert_eq!(get(local(back), "/").await.status, 200);
    apply(&proxy, "listeners: {}").await;
    apply(&proxy, &snapshot(&[answering("back", back, "back")])).await;
    until("its series end", || !shown(&proxy).contains(r#"listener="gone""#)).await;
    assert!(shown(&proxy).contains(r#"requests_total{listener="back",status="2xx"} 1"#), "{}", shown(&proxy));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_rules_keeps_the_socket_and_its_connections() {
    let port = free_port();
    let proxy = serve(&snapshot(&[answering("web", port, "old")])).await;
    let mut socket = TcpStream::connect(local(port)).await.unwrap();
    for body in ["old", "new"] {
        apply(&proxy, &snapshot(&[answering("renamed", port, body)])).await;
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut socket, body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_swap_their_ports_without_a_gap() {
    let (a, b) = (free_port(), free_port());
    let proxy = serve(&snapshot(&[answering("a", a, "a"), answering("b", b, "b")])).await;
    let ack = apply(&proxy, &snapshot(&[answering("a", b, "a"), answering("b", a, "b")])).await;
    assert_eq!(ack.rejections, []);
    assert_eq!((get(local(a), "/").await.text(), get(local(b), "/").await.text()), ("b", "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_rejects_its_listener_only_and_the_old_one_goes_on() {
    let (old, fine) = (free_port(), free_port());
    let taken = TcpListener::bind("0.0.0.0:0").await.unwrap().into_std().unwrap();
    let number = taken.local_addr().unwrap().port();
    let proxy = serve(&snapshot(&[answering("web", old, "web")])).await;
    let ack =
        apply(&proxy, &snapshot(&[answering("web", number, "web"), answering("fine", fine, "fine")])).await;
    assert_eq!(ack.rejections.len(), 1, "{:?}", ack.rejections);
    assert_eq!(ack.rejections[0].name, "web");
    let reason = &ack.rejections[0].reason;
    assert!(reason.contains(&number.to_string()) && reason.contains("Address already in use"), "{reason}");
    assert_eq!((get(local(old), "/").await.text(), get(local(fine), "/").await.text()), ("web", "fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_new_port_is_taken_still_forwards_to_a_group_that_left() {
    let steady = Target::http(|_| async { Response::new(Full::from("steady")) }).await;
    let old = free_port();
    let taken = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let number = taken.local_addr().unwrap().port();
    let proxy = serve(&forwarding(old, &[target("t", steady.port)])).await;
    let ack = apply(&proxy, &snapshot(&[answering("web", number, "moved")])).await;
    assert_eq!(ack.rejections.len(), 1, "{:?}", ack.rejections);
    proxy.core.sweep(Instant::now() + Duration::from_secs(60));
    assert_eq!(get(local(old), "/").await.text(), "steady");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away_at_accept() {
    let port = free_port();
    let yaml = answering("web", port, "in").replace("port:", "allowedSources: [10.0.0.0/8], port:");
    let proxy = serve(&snapshot(std::slice::from_ref(&yaml))).await;
    assert_eq!(raw(local(port), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
    apply(&proxy, &snapshot(&[yaml.replace("10.0.0.0/8", "127.0.0.0/8")])).await;
    assert_eq!(get(local(port), "/").await.text(), "in");
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_clients_are_served_where_there_is_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let port = free_port();
    let _proxy = serve(&snapshot(&[answering("web", port, "six")])).await;
    assert_eq!(get((std::net::Ipv6Addr::LOCALHOST, port).into(), "/").await.text(), "six");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_rules_and_listeners_change() {
    let steady = Target::http(|_| async { Response::new(Full::from("ok")) }).await;
    let (port, other) = (free_port(), free_port());
    let base = crate::harness::forwarding(port, &[target("t", steady.port)]);
    let with_other =
        base.replace("listeners: {", &format!("listeners: {{{}, ", answering("other", other, "x")));
    let proxy = serve(&base).await;
    let requests = async {
        for _ in 0..200 {
            let answer = try_send(local(port), Request::get("/").body("").unwrap()).await.expect("an answer");
            assert_eq!(answer.status, 200);
        }
    };
    let changes = async {
        for _ in 0..40 {
            apply(&proxy, &with_other).await;
            apply(&proxy, &base).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(requests, changes);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_listeners_on_one_port_the_one_that_has_it_keeps_it() {
    let port = free_port();
    let proxy = serve(&snapshot(&[answering("web", port, "web")])).await;
    let ack =
        apply(&proxy, &snapshot(&[answering("api", port, "api"), answering("web", port, "still")])).await;
    assert_eq!(ack.rejections.len(), 1, "{:?}", ack.rejections);
    assert_eq!(ack.rejections[0].name, "api");
    assert!(ack.rejections[0].reason.contains("listener web"), "{}", ack.rejections[0].reason);
    assert_eq!(get(local(port), "/").await.text(), "still");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_closed_can_be_had_again_at_once() {
    let _no_copies = FORKS.lock().await;
    let port = free_port();
    let proxy = serve("listeners: {}").await;
    for _ in 0..50 {
        let ack = apply(&proxy, &snapshot(&[answering("web", port, "web")])).await;
        assert_eq!(ack.rejections, []);
        apply(&proxy, "listeners: {}").await;
    }
}
