//! Clients that do as planned.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::plan::{Break, Plan, Side};
use super::wire::{Delimited, Inbox, field, reset, say};
use super::{ANSWER, Tally};
use crate::harness::local;

type Pieces = futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, std::io::Error>>>;

/// A client, with its connection while it has one.
pub enum Client {
    Http1(u16, Option<(Inbox, OwnedWriteHalf)>),
    H2(u16, Option<SendRequest<StreamBody<Pieces>>>),
}

impl Client {
    pub fn http1(port: u16) -> Self {
        Self::Http1(port, None)
    }

    pub fn h2(port: u16) -> Self {
        Self::H2(port, None)
    }

    pub async fn play(&mut self, plan: &Plan, tally: &Tally) {
        match self {
            Self::Http1(port, kept) => {
                let connection = match kept.take() {
                    Some(connection) => connection,
                    None => connect(*port).await,
                };
                *kept = by_http1(connection, plan, tally).await;
            }
            Self::H2(port, kept) => {
                let mut connection = match kept.take() {
                    Some(connection) if !plan.seed.is_multiple_of(100) => connection,
                    _ => connect_h2(*port).await,
                };
                by_h2(&mut connection, plan, tally).await;
                *kept = Some(connection);
            }
        }
    }
}

async fn connect(port: u16) -> (Inbox, OwnedWriteHalf) {
    let socket = TcpStream::connect(local(port)).await.expect("a connection");
    let _ = socket.set_nodelay(true);
    let (reader, writer) = socket.into_split();
    (Inbox::new(reader), writer)
}

/// Gives the connection back if it can take another request.
async fn by_http1(
    (mut inbox, mut writer): (Inbox, OwnedWriteHalf),
    plan: &Plan,
    tally: &Tally,
) -> Option<(Inbox, OwnedWriteHalf)> {
    let head = format!("{} /{} HTTP/1.1\r\nHost: a\r\n", plan.method, plan.seed);
    let (bytes, cuts) = plan.request.on_the_wire(&head);
    let goes_on = if let Break::Saying(most) = plan.request.breaks {
        say(&mut writer, &bytes[..most], &cuts).await;
        false
    } else {
        let (said, goes_on) = tokio::join!(say(&mut writer, &bytes, &cuts), answer(&mut inbox, plan, tally));
        said && goes_on
    };
    if goes_on {
        return Some((inbox, writer));
    }
    reset(writer);
    None
}

/// Whether the connection goes on after the answer.
async fn answer(inbox: &mut Inbox, plan: &Plan, tally: &Tally) -> bool {
    let Ok(head) = inbox.head().await else {
        unanswered(plan, tally, "nothing");
        return false;
    };
    if !head.starts_with("HTTP/1.1 200 ") {
        unanswered(plan, tally, &head);
        return false;
    }
    if field(&head, "x-seed") != Some(&plan.seed.to_string()) {
        tally.wrong(plan, &format!("it is the answer to another request: {head}"));
    }
    let most = if let Break::Hearing(most) = plan.request.breaks { most } else { usize::MAX };
    let (body, whole) = inbox.body(Delimited::by(&head, Delimited::UntilEnd), most).await;
    let cut_is_expected = plan.target_breaks() || plan.client_breaks();
    tally.arrived(ANSWER, plan, (&body, whole), cut_is_expected);
    // After an early answer the proxy reads over a body only if that is soon done.
    whole && field(&head, "connection") == Some("keep-alive") && !plan.client_breaks() && !plan.eager
}

fn unanswered(plan: &Plan, tally: &Tally, instead: &str) {
    tally.unanswered.fetch_add(1, Ordering::Relaxed);
    if !plan.target_breaks() {
        tally.wrong(plan, &format!("the answer is {instead}"));
    }
}

async fn connect_h2(port: u16) -> SendRequest<StreamBody<Pieces>> {
    let socket = TcpStream::connect(local(port)).await.expect("a connection");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// The body in frames; with a break, an error after some of it, which resets the stream.
fn in_frames(side: &Side) -> StreamBody<Pieces> {
    let mut rng = fastrand::Rng::with_seed(side.seed);
    let (most, breaks) = match side.breaks {
        Break::Saying(most) => (most, true),
        Break::Never | Break::Hearing(_) => (usize::MAX, false),
    };
    let mut body = &side.body()[..side.body().len().min(most)];
    let mut frames = Vec::new();
    while !body.is_empty() {
        let (piece, rest) = body.split_at(rng.usize(body.len().div_ceil(20)..=body.len()));
        frames.push(Ok(Frame::data(Bytes::from_static(piece))));
        body = rest;
    }
    if breaks {
        frames.push(Err(std::io::Error::other("it breaks, as planned")));
    }
    StreamBody::new(futures::stream::iter(frames))
}

async fn by_h2(connection: &mut SendRequest<StreamBody<Pieces>>, plan: &Plan, tally: &Tally) {
    let uri = format!("http://a/{}", plan.seed);
    let request = http::Request::builder().method(plan.method).uri(uri).body(in_frames(&plan.request));
    let asked = connection.send_request(request.expect("a request")).await;
    let saying = matches!(plan.request.breaks, Break::Saying(_));
    match asked {
        Ok(answer) if answer.status() == 200 => heard(answer, plan, tally).await,
        _ if saying => {}
        Ok(answer) => unanswered(plan, tally, &answer.status().to_string()),
        Err(error) => unanswered(plan, tally, &format!("{error:?}")),
    }
}

async fn heard(answer: http::Response<hyper::body::Incoming>, plan: &Plan, tally: &Tally) {
    let seed = answer.headers().get("x-seed").and_then(|seed| seed.to_str().ok());
    if seed != Some(&plan.seed.to_string()) {
        tally.wrong(plan, &format!("it is the answer to another request: {seed:?}"));
    }
    let most = if let Break::Hearing(most) = plan.request.breaks { most } else { usize::MAX };
    let (mut body, mut whole) = (Vec::new(), true);
    let mut data = answer.into_body().into_data_stream();
    while let Some(piece) = data.next().await {
        match piece {
            Ok(piece) if body.len() + piece.len() <= most => body.extend_from_slice(&piece),
            Ok(_) | Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let cut_is_expected = plan.target_breaks() || plan.client_breaks();
    tally.arrived(ANSWER, plan, (&body, whole), cut_is_expected);
}
