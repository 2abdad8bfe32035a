//! HTTP/2 clients that behave badly, or are unlucky: frames as they are on the wire.

use evenkeel_proxy::errors::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{PATIENCE, forwarding, free_port, in_flight, local, serve, target, until};
use crate::target::Target;

mod floods;
mod spec;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// The headers are complete, and there is no body.
const END: u8 = 0x5;
/// The headers are complete.
const END_HEADERS: u8 = 0x4;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ENHANCE_YOUR_CALM: u8 = 11;
/// `GET http://a/`, by numbers of HPACK's static table but for the authority.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x41, 0x01, b'a'];

/// The same with `POST`.
const POST: &[u8] = &[0x83, 0x84, 0x86, 0x41, 0x01, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A connection on which so many requests are made and taken back at once, and then one more, and its stream.
async fn takes_back(port: u16, requests: u32) -> (TcpStream, u32) {
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for stream in (0..requests).map(|number| 2 * number + 1) {
        bytes.extend(frame(HEADERS, END, stream, GET));
        bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    let last = 2 * requests + 1;
    bytes.extend(frame(HEADERS, END, last, GET));
    let mut socket = TcpStream::connect(local(port)).await.expect("a connection");
    socket.write_all(&bytes).await.expect("to write");
    (socket, last)
}

/// The next frame of one of these kinds: its kind, stream and payload.
async fn next(socket: &mut TcpStream, kinds: &[u8]) -> (u8, u32, Vec<u8>) {
    let reading = async {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            socket.read_exact(&mut payload).await.expect("its payload");
            if kinds.contains(&head[3]) {
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                return (head[3], stream, payload);
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_on_everything_at_once_keeps_its_connection() {
    let alive = Target::saying("alive").await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", alive.port)])).await;
    let (mut socket, last) = takes_back(port, 100).await;
    loop {
        let (kind, stream, payload) = next(&mut socket, &[HEADERS, GOAWAY]).await;
        assert_eq!(kind, HEADERS, "{}", String::from_utf8_lossy(&payload));
        if stream == last {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_requests_back_faster_than_they_can_be_looked_at_is_cut_off() {
    let alive = Target::saying("alive").await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", alive.port)])).await;
    let (mut socket, _) = takes_back(port, 1_000).await;
    let (_, _, payload) = next(&mut socket, &[GOAWAY]).await;
    assert_eq!(payload.get(7), Some(&ENHANCE_YOUR_CALM));
    assert!(alive.served() < 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_most_requests_back_once_they_are_under_way_is_cut_off_too() {
    let silent = Target::tcp(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let port = free_port();
    // Or its silence would end it as well.
    let snapshot =
        forwarding(port, &[target("t", silent.port)]).replace("idleTimeout: 2s", "idleTimeout: 1h");
    let proxy = serve(&snapshot).await;
    let mut socket = connect(port, &[]).await;
    let mut streams = (0..).map(|number| 2 * number + 1);
    for _ in 0..10 {
        let batch: Vec<u32> = streams.by_ref().take(50).collect();
        let asked = batch.iter().map(|stream| frame(HEADERS, END, *stream, GET));
        socket.write_all(&asked.collect::<Vec<_>>().concat()).await.expect("to write");
        until("they are under way", || in_flight(&proxy) == 50).await;
        let taken_back = batch.iter().map(|stream| frame(RST_STREAM, 0, *stream, &CANCEL));
        socket.write_all(&taken_back.collect::<Vec<_>>().concat()).await.expect("to write");
        until("nothing is under way", || in_flight(&proxy) == 0).await;
    }
    let end = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "the connection goes on");
}

/// A connection over which these frames were sent.
async fn connect(port: u16, frames: &[Vec<u8>]) -> TcpStream {
    let mut socket = TcpStream::connect(local(port)).await.expect("a connection");
    let preface = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    socket.write_all(&[preface, frames.concat()].concat()).await.expect("to write");
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_last_request_and_all_are_answered() {
    let alive = Target::saying("alive").await;
    let port = free_port();
    let limits = "idleTimeout: 2s, limits: {requestsPerConnection: 3}";
    let snapshot = forwarding(port, &[target("t", alive.port)]).replace("idleTimeout: 2s", limits);
    let _proxy = serve(&snapshot).await;
    let mut socket = connect(port, &[1, 3, 5].map(|stream| frame(HEADERS, END, stream, GET))).await;
    let (mut answered, mut told) = (0, false);
    while answered < 3 || !told {
        match next(&mut socket, &[HEADERS, GOAWAY]).await.0 {
            HEADERS => answered += 1,
            _ => told = true,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_measured_as_it_comes_and_a_head_as_it_would_be_in_http1() {
    let alive = Target::saying("alive").await;
    let port = free_port();
    let limits = "idleTimeout: 2s, limits: {bodyBytes: 5, headBytes: 1024}";
    let snapshot = forwarding(port, &[target("t", alive.port)]).replace("idleTimeout: 2s", limits);
    let proxy = serve(&snapshot).await;
    // `x`, a literal that is not to be remembered, of 1,100 bytes.
    let long = [GET, &[0, 1, b'x', 0x7f, 0xcd, 0x07], &[b'y'; 1_100]].concat();
    let frames = [
        frame(HEADERS, END_HEADERS, 1, POST),
        frame(DATA, 0, 1, b"abc"),
        frame(DATA, END_STREAM, 1, b"def"),
        frame(HEADERS, END, 3, &long),
    ];
    let mut socket = connect(port, &frames).await;
    let answers = [next(&mut socket, &[HEADERS]).await.1, next(&mut socket, &[HEADERS]).await.1];
    assert_eq!(answers.iter().sum::<u32>(), 4, "both streams are answered");
    let listener = proxy.metrics.listener("web");
    for reason in [Reason::BodyTooLarge, Reason::HeadTooLarge] {
        until("it is counted", || listener.errors(reason) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_known_also_when_its_first_bytes_come_one_by_one() {
    let alive = Target::saying("alive").await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", alive.port)])).await;
    let mut socket = TcpStream::connect(local(port)).await.expect("a connection");
    socket.set_nodelay(true).expect("an option");
    for byte in [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat() {
        socket.write_all(&[byte]).await.expect("to write");
    }
    socket.write_all(&frame(HEADERS, END, 1, GET)).await.expect("to write");
    assert_eq!(next(&mut socket, &[HEADERS, GOAWAY]).await.0, HEADERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_frames_neither_end_a_body_nor_begin_the_next_request() {
    // Answers whatever ends like a request, and says in the end what it has heard.
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let target_ = Target::tcp(move |mut socket| {
        let heard = heard.clone();
        async move {
            let mut all = Vec::new();
            while socket.read_buf(&mut all).await.is_ok_and(|read| read > 0) {
                if all.ends_with(b"\r\n\r\n") && (all.ends_with(b"0\r\n\r\n") || all[..3] != *b"POS") {
                    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    let _ = heard.send(String::from_utf8_lossy(&std::mem::take(&mut all)).into_owned());
                }
            }
        }
    })
    .await;
    let port = free_port();
    let _proxy = serve(&forwarding(port, &[target("t", target_.port)])).await;
    let body = |stream, data: &[u8]| frame(DATA, 0, stream, data);
    for (frames, expected) in [
        (
            vec![body(1, b""), body(1, b"abc"), body(1, b""), body(1, b"def")],
            "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
        ),
        (vec![], "0\r\n\r\n"),
    ] {
        let head = frame(HEADERS, END_HEADERS, 1, POST);
        let end = frame(DATA, END_STREAM, 1, b"");
        let mut socket = connect(port, &[head, frames.concat(), end]).await;
        next(&mut socket, &[HEADERS]).await;
        socket.write_all(&frame(HEADERS, END, 3, GET)).await.unwrap();
        next(&mut socket, &[HEADERS]).await;
        let post = hears.recv().await.expect("a request");
        assert_eq!(post.split_once("\r\n\r\n").expect("a head").1.to_ascii_lowercase(), expected);
        let get = hears.recv().await.expect("another");
        assert!(get.starts_with("GET / HTTP/1.1\r\n"), "{get:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_its_answers_is_given_up() {
    let generous =
        Target::http(|_| async { http::Response::new(http_body_util::Full::from(vec![0; 1 << 20])) }).await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", generous.port)])).await;
    // The window of each stream is empty from its start.
    let closed = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let requests = (0..50).map(|number| frame(HEADERS, END, 2 * number + 1, GET));
    let frames: Vec<_> = std::iter::once(closed).chain(requests).collect();
    let _socket = connect(port, &frames).await;
    until("they are under way", || in_flight(&proxy) > 0).await;
    until("nothing is in flight", || in_flight(&proxy) == 0).await;
    assert_eq!(crate::client::get(local(port), "/").await.status, 200);
}

/// Waits until the proxy has read everything, and answers what it asks meanwhile.
async fn ping(socket: &mut TcpStream) {
    let ours = b"read it?";
    socket.write_all(&frame(PING, 0, 0, ours)).await.expect("to write");
    loop {
        let (_, _, payload) = next(socket, &[PING]).await;
        if payload == ours {
            return;
        }
        socket.write_all(&frame(PING, ACK, 0, &payload)).await.expect("to write");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_begins_while_the_proxy_leaves_is_told_so_with_its_first_answer() {
    let alive = Target::saying("alive").await;
    let port = free_port();
    let proxy = serve(&forwarding(port, &[target("t", alive.port)])).await;
    proxy.listeners.announce_leaving();
    let (mut asks, mut idle) = (connect(port, &[]).await, connect(port, &[]).await);
    for _ in 0..2 {
        ping(&mut asks).await;
        ping(&mut idle).await;
    }
    asks.write_all(&frame(HEADERS, END, 1, GET)).await.expect("to write");
    let (mut answered, mut told) = (false, false);
    while !answered || !told {
        let (kind, stream, _) = next(&mut asks, &[HEADERS, GOAWAY]).await;
        answered |= kind == HEADERS && stream == 1;
        told |= kind == GOAWAY;
    }
    proxy.listeners.close_all();
    next(&mut idle, &[GOAWAY]).await;
}
