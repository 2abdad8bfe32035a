//! Both carriers of HTTP/1, given the same: what the target sees, what the client sees and what is recorded must be the
//! same, but for differences that are meant.

use std::sync::Arc;

use evenkeel_proxy::errors::Reason;
use evenkeel_proxy::proxy::{Http1Through, Proxy, Settings};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::raw;
use crate::harness::{forwarding, free_port, in_flight, local, serve_with, settings, target, until};
use crate::target::Target;

mod cases;
mod message;

use cases::{CASES, Case, Part};
use message::Message;

/// What is seen of an exchange through one carrier.
#[derive(Debug)]
struct Seen {
    /// Requests, as the target got them.
    target: Vec<Message>,
    /// Answers, as the client got them.
    client: Vec<Message>,
    /// Lines of the access log without times and ports, and errors by reason.
    recorded: (Vec<Value>, Vec<u64>),
}

impl Seen {
    fn statuses(&self) -> Vec<&str> {
        self.client.iter().map(Message::status).collect()
    }
}

/// A proxy, and a target that does as it is told.
struct Side {
    proxy: Proxy,
    port: u16,
    answer: Arc<Mutex<&'static str>>,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    directory: TempDir,
    _target: Target,
}

impl Side {
    async fn new(through: Http1Through) -> Self {
        let (answer, requests) = (Arc::new(Mutex::new("")), Arc::<Mutex<Vec<_>>>::default());
        let (says, hears) = (answer.clone(), requests.clone());
        let target_ = Target::tcp(move |socket| converse(socket, says.clone(), hears.clone())).await;
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log").to_string_lossy().into_owned();
        let settings = Settings { http1: through, access_log: Some(log), ..settings() };
        let port = free_port();
        let snapshot = forwarding(port, &[target("t", target_.port)]).replace("2s", "1s");
        let proxy = serve_with(&snapshot, settings).await;
        Self { proxy, port, answer, requests, directory, _target: target_ }
    }

    async fn see(&self, case: &Case) -> Seen {
        *self.answer.lock() = case.answer;
        self.requests.lock().clear();
        let (lines, errors) = (self.log().len(), self.errors());
        let said = raw(local(self.port), (case.request)()).await;
        let client = Message::all(said.as_bytes());
        until("everything is over", || in_flight(&self.proxy) == 0).await;
        until("each answer is logged", || self.log().len() >= lines + case.records).await;
        let errors = self.errors().iter().zip(errors).map(|(now, before)| now - before).collect();
        let log = self.log().split_off(lines);
        let target = self.requests.lock().iter().flat_map(|request| Message::all(request)).collect();
        Seen { target, client, recorded: (log, errors) }
    }

    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .map(|mut line| {
                for passing in ["time", "client", "target", "durationMs", "targetMs"] {
                    line.as_object_mut().unwrap().remove(passing);
                }
                line
            })
            .collect()
    }

    fn errors(&self) -> Vec<u64> {
        let metrics = self.proxy.metrics.listener("web");
        Reason::ALL.iter().map(|reason| metrics.errors(*reason)).collect()
    }
}

/// Answers each request that has come as a whole.
async fn converse(
    mut socket: TcpStream,
    answer: Arc<Mutex<&'static str>>,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
) {
    let mut read = Vec::new();
    while socket.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
        while let Some(length) = message::length(&read) {
            requests.lock().push(read.drain(..length).collect());
            let answer = *answer.lock();
            let (answer, closes) =
                answer.strip_suffix("<close>").map_or((answer, false), |text| (text, true));
            if socket.write_all(answer.as_bytes()).await.is_err() || closes {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_carriers_do_the_same() {
    let (ours, other) = (Side::new(Http1Through::Http1).await, Side::new(Http1Through::HttpProxy).await);
    let mut wrong = Vec::new();
    for case in CASES {
        let (a, b) = (ours.see(case).await, other.see(case).await);
        let parts = [
            (Part::Target, a.target == b.target),
            (Part::Status, a.statuses() == b.statuses()),
            (Part::Client, a.client == b.client),
            (Part::Record, a.recorded == b.recorded),
        ];
        for (part, same) in parts {
            let meant = case.differs.iter().find(|(meant, _)| *meant == part).map(|(_, why)| why);
            match (same, meant) {
                (false, None) => wrong.push(format!("{}: {part:?} differs\n{a:#?}\n{b:#?}", case.name)),
                (true, Some(why)) => {
                    wrong.push(format!("{}: {part:?} is the same, though: {why}", case.name));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
