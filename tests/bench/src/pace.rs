//! Requests at a constant rate, and how long each takes.
//!
//! Threads that block, each with a connection of its own: a runtime's timers would send requests in bursts. A request counts
//! from when it was due if the one before it was late, and else from when it was sent, so that neither a stall of the
//! contender is overlooked nor the timer's own lateness counted.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

/// So many connections share the rate.
const THREADS: u32 = 32;

/// How requests are spread over time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests a second.
    pub rate: f64,
    /// For so long.
    pub time: Duration,
}

/// How long requests took, in nanoseconds.
pub type Latencies = Histogram<u64>;

/// Asks for `/` at this port. Blocks.
///
/// # Errors
/// A request fails.
pub fn run(port: u16, pace: Pace) -> Result<Latencies> {
    let began = Instant::now() + Duration::from_millis(50);
    let gap = Duration::from_secs_f64(f64::from(THREADS) / pace.rate);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let first = began + gap * thread / THREADS;
            std::thread::spawn(move || one_connection(port, first, gap, began + pace.time))
        })
        .collect();
    let mut latencies = Histogram::new(3)?;
    for thread in threads {
        let of_thread = thread.join().ok().context("a thread of the load broke down")?;
        latencies.add(of_thread?)?;
    }
    Ok(latencies)
}

fn one_connection(port: u16, first: Instant, gap: Duration, end: Instant) -> Result<Latencies> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut socket = BufReader::new(socket);
    let mut latencies = Histogram::new(3)?;
    let mut due = first;
    while due < end {
        let from = begin_of(due);
        ask(&mut socket)?;
        latencies.record(from.elapsed().as_nanos() as u64)?;
        due += gap;
    }
    Ok(latencies)
}

/// Waits until a request is due; from when it counts.
fn begin_of(due: Instant) -> Instant {
    let wait = due.saturating_duration_since(Instant::now());
    if wait.is_zero() {
        return due;
    }
    std::thread::sleep(wait);
    Instant::now()
}

/// Asks once and reads the whole answer.
fn ask(socket: &mut BufReader<TcpStream>) -> Result<()> {
    socket.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")?;
    let mut line = String::new();
    let (mut status, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        ensure!(socket.read_line(&mut line)? > 0, "closed in the midst of a head");
        if status.is_empty() {
            status.clone_from(&line);
        }
        if let Some(value) = content_length(&line) {
            length = value;
        }
    }
    ensure!(status.starts_with("HTTP/1.1 200"), "answered {status}");
    let mut body = vec![0; length];
    Ok(socket.read_exact(&mut body)?)
}

fn content_length(line: &str) -> Option<usize> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_request_counts_from_when_it_was_due() {
        let late = Instant::now();
        assert_eq!(begin_of(late), late);
        let due = late + Duration::from_millis(50);
        assert!(begin_of(due) >= due, "it is not sent before it is due");
    }

    #[test]
    fn the_length_of_an_answer_is_found_whatever_the_case() {
        assert_eq!(content_length("content-length: 13\r\n"), Some(13));
        assert_eq!(content_length("Content-Length:13\r\n"), Some(13));
        assert_eq!(content_length("Content-Type: text/plain\r\n"), None);
        assert_eq!(content_length("\r\n"), None);
    }
}
