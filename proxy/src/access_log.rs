//! One line of JSON for each request and TCP session.
//!
//! ```text
//! request ─try_send─► bounded channel ─► one thread ─► file or standard output
//! ```
//!
//! A request never waits for the log: lines that the writer cannot follow or that a full disk does not take are dropped and
//! counted.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Lines that may wait for the writer.
const QUEUE: usize = 16 * 1024;
/// What is not written so long after the end is not waited for: whoever should read it may have stopped.
const LAST_LINES: Duration = Duration::from_secs(2);
/// From one attempt to find room in a full queue to the next.
const ROOM: Duration = Duration::from_millis(10);

/// A request or TCP session that is over. Absent fields do not apply to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it began.
    pub time: jiff::Timestamp,
    /// The listener it came to.
    pub listener: Arc<str>,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` or `TCP`.
    pub protocol: &'static str,
    /// Where it came from.
    pub client: SocketAddr,
    /// Method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Path and query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Priority of the rule that matched; absent for the default action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// The target group it was passed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_group: Option<Arc<str>>,
    /// The target it was last passed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<SocketAddr>,
    /// Targets tried.
    pub attempts: u32,
    /// From the head to the end of the answer, in milliseconds.
    pub duration_ms: f64,
    /// From the last attempt's start to the head of its answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ms: Option<f64>,
    /// Bytes of the request's body.
    pub received_bytes: u64,
    /// Bytes of the answer's body.
    pub sent_bytes: u64,
    /// Why no target answered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// Where entries are handed in.
#[derive(Clone, Debug)]
pub struct AccessLog {
    sender: Option<mpsc::Sender<Message>>,
    dropped: Counter,
}

#[derive(Debug)]
enum Message {
    Line(Box<Entry>),
    End,
}

/// The thread that writes.
#[derive(Debug, Default)]
pub struct Writer(Option<Thread>);

#[derive(Debug)]
struct Thread {
    lines: mpsc::Sender<Message>,
    /// Says nothing, and is closed when the thread ends.
    ended: Receiver<()>,
}

impl AccessLog {
    /// A log that takes nothing.
    pub fn off() -> Self {
        Self { sender: None, dropped: Counter::default() }
    }

    /// Appends to the file of this name, or writes to standard output for `-`. Drops are counted.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(path: &str, dropped: Counter) -> io::Result<(Self, Writer)> {
        let out: Box<dyn Write + Send> = match path {
            "-" => Box::new(io::stdout()),
            path => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        Self::to(out, dropped, QUEUE)
    }

    fn to(out: Box<dyn Write + Send>, dropped: Counter, queue: usize) -> io::Result<(Self, Writer)> {
        let (lines, receiver) = mpsc::channel(queue);
        let (end, ended) = channel();
        let lost = dropped.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(receiver, out, &lost, end))?;
        Ok((Self { sender: Some(lines.clone()), dropped }, Writer(Some(Thread { lines, ended }))))
    }

    /// Whether entries are wanted; making one costs allocations.
    pub fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Hands in an entry, never waiting.
    pub fn log(&self, entry: Entry) {
        let Some(sender) = &self.sender else { return };
        if sender.try_send(Message::Line(Box::new(entry))).is_err() {
            self.dropped.inc();
        }
    }
}

impl Writer {
    /// Waits until everything handed in so far is written, for [`LAST_LINES`] at most. Must not be called from within an
    /// asynchronous task.
    pub fn finish(self) {
        let Some(thread) = self.0 else { return };
        let deadline = Instant::now() + LAST_LINES;
        while let Err(TrySendError::Full(_)) = thread.lines.try_send(Message::End) {
            if Instant::now() >= deadline {
                return;
            }
            sleep(ROOM);
        }
        let _ = thread.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(
    mut messages: mpsc::Receiver<Message>,
    out: Box<dyn Write + Send>,
    lost: &Counter,
    _end: Sender<()>,
) {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    let mut failing = false;
    while let Some(Message::Line(entry)) = messages.blocking_recv() {
        let written = write_line(&mut out, &entry);
        let written = written.and_then(|()| if messages.is_empty() { out.flush() } else { Ok(()) });
        if written.is_err() {
            lost.inc();
        }
        report_change(&mut failing, written);
    }
    let _ = out.flush();
}

fn write_line(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    serde_json::to_writer(&mut *out, entry)?;
    out.write_all(b"\n")
}

/// A full disk is told of once, not with every line.
fn report_change(failing: &mut bool, written: io::Result<()>) {
    match written {
        Err(error) if !*failing => {
            *failing = true;
            tracing::error!(%error, "the access log cannot be written: lines are lost until it can; check its disk");
        }
        Ok(()) if *failing => {
            *failing = false;
            tracing::info!("the access log is written again");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            time: jiff::Timestamp::UNIX_EPOCH,
            listener: "web".into(),
            protocol: "HTTP/1.1",
            client: "192.0.2.1:40000".parse().unwrap(),
            method: Some("GET".into()),
            host: None,
            path: Some(path.into()),
            user_agent: None,
            status: Some(503),
            rule: Some(10),
            target_group: None,
            target: None,
            attempts: 0,
            duration_ms: 0.25,
            target_ms: None,
            received_bytes: 0,
            sent_bytes: 12,
            reason: Some("NoTarget"),
        }
    }

    #[test]
    fn a_line_is_one_json_object_without_what_does_not_apply() {
        let mut line = Vec::new();
        write_line(&mut line, &entry("/a\"\n")).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            concat!(
                r#"{"time":"1970-01-01T00:00:00Z","listener":"web","protocol":"HTTP/1.1","client":"192.0.2.1:40000","#,
                r#""method":"GET","path":"/a\"\n","status":503,"rule":10,"attempts":0,"durationMs":0.25,"#,
                r#""receivedBytes":0,"sentBytes":12,"reason":"NoTarget"}"#,
                "\n"
            )
        );
    }

    /// Writes when it is told to.
    struct Gate(blocking::Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_cannot_follow_costs_lines_and_not_time() {
        let (open, gate) = blocking::channel();
        let dropped = Counter::default();
        let (log, writer) = AccessLog::to(Box::new(Gate(gate)), dropped.clone(), 2).unwrap();
        for _ in 0..10 {
            log.log(entry("/"));
        }
        // The writer holds at most one, the channel two.
        assert!((7..=8).contains(&dropped.get()), "{}", dropped.get());
        drop(open);
        writer.finish();
    }
}
