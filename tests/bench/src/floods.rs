//! What clients that only make work do to the requests of others.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::contenders::Contender;
use crate::figures::{Finding, Goal, Spread, Table, digits, ratios};
use crate::pace::Pace;
use crate::run::Run;

/// Requests a second that others make meanwhile.
const OTHERS: f64 = 2_000.0;
/// For so long before a flood, and during it.
const TIME: Duration = Duration::from_secs(2);
/// The 99th percentile of others during a flood, in relation to that before.
const BAR: f64 = 2.0;
/// Who is flooded. Nginx shows how much of it the machine makes up.
const CONTENDERS: [Contender; 2] = [Contender::Nginx, Contender::Evenkeel];
/// Connections that are opened for one thing each are left open until there are so many.
const LEFT_OPEN: usize = 500;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET http://a/` and `POST http://a/` in HPACK.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x41, 0x01, b'a'];
/// See [`GET`].
const POST: &[u8] = &[0x83, 0x84, 0x86, 0x41, 0x01, b'a'];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// Bytes that are sent without end, as fast as they are taken but no faster than the rate.
struct Flood {
    name: &'static str,
    /// On so many connections; none: on a new one each time.
    connections: usize,
    /// How many times a second, on all connections together.
    rate: u32,
    /// What each connection begins with.
    begins: fn() -> Vec<u8>,
    /// What follows each time, the number of times before on this connection given.
    again: fn(u32) -> Vec<u8>,
}

const FLOODS: &[Flood] = &[
    Flood { name: "connections", connections: 0, rate: 1_000, begins: Vec::new, again: |_| Vec::new() },
    Flood {
        name: "garbage, 1 KiB on each connection",
        connections: 0,
        rate: 1_000,
        begins: || (0..1_024_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
        again: |_| Vec::new(),
    },
    Flood {
        name: "heads of 128 KiB",
        connections: 0,
        rate: 100,
        begins: || [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", [b'y'; 128 << 10].as_slice()].concat(),
        again: |_| Vec::new(),
    },
    Flood {
        name: "500 heads, a line of each every second",
        connections: 500,
        rate: 500,
        begins: || b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec(),
        again: |_| b"X: y\r\n".to_vec(),
    },
    Flood {
        name: "HTTP/2: requests that are taken back",
        connections: 4,
        rate: 5_000,
        begins: || http2(&[]),
        again: |number| {
            let stream = 2 * number + 1;
            [frame(HEADERS, 0x5, stream, GET), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        },
    },
    Flood {
        name: "HTTP/2: CONTINUATION of 1 KiB",
        connections: 4,
        rate: 5_000,
        begins: || http2(&frame(HEADERS, 0x1, 1, GET)),
        again: |_| frame(CONTINUATION, 0, 1, &[0x82; 1_024]),
    },
    Flood {
        name: "HTTP/2: PING, ten at once",
        connections: 4,
        rate: 2_000,
        begins: || http2(&[]),
        again: |_| frame(PING, 0, 0, &[0; 8]).repeat(10),
    },
    Flood {
        name: "HTTP/2: SETTINGS, ten at once",
        connections: 4,
        rate: 2_000,
        begins: || http2(&[]),
        again: |_| frame(SETTINGS, 0, 0, &[]).repeat(10),
    },
    Flood {
        name: "HTTP/2: empty DATA, ten at once",
        connections: 4,
        rate: 2_000,
        begins: || http2(&frame(HEADERS, 0x4, 1, POST)),
        again: |_| frame(DATA, 0, 1, &[]).repeat(10),
    },
];

fn http2(more: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), more].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What others see of one flood, round by round: their 99th percentiles in µs, and what of the flood was taken a second.
#[derive(Default)]
struct Seen {
    before: Vec<f64>,
    meanwhile: Vec<f64>,
    taken: Vec<f64>,
}

/// Others' latency before and during each flood. A peer that fails others then is left out.
///
/// # Errors
/// A proxy cannot be started, or Evenkeel fails a request of the others.
pub async fn measure(run: &mut Run) -> Result<Finding> {
    let mut table = Table::new([
        "Flood",
        "of",
        " taken each second",
        " p99 before, µs: least / **median** / most",
        " meanwhile, µs",
        " in relation",
    ]);
    let mut worst = 0.0_f64;
    for flood in FLOODS {
        for (contender, Seen { before, meanwhile, taken }) in rounds(run, flood).await? {
            let spread = |values: &[f64]| Spread::of(values.iter().copied()).context("there were no rounds");
            let ratio = ratios(&meanwhile, &before).context("there were no rounds")?;
            if contender.is_evenkeel() {
                worst = worst.max(ratio.median);
            }
            table.line([
                flood.name.to_owned(),
                contender.name().to_owned(),
                digits(spread(&taken)?.median),
                spread(&before)?.to_string(),
                spread(&meanwhile)?.to_string(),
                ratio.to_string(),
            ]);
        }
    }
    let what = "p99 of others during the worst flood, in relation to that before".to_owned();
    Ok(Finding { table, goals: vec![Goal { what, bar: BAR, measured: worst, unit: "" }] })
}

async fn rounds(run: &mut Run, flood: &'static Flood) -> Result<Vec<(Contender, Seen)>> {
    let mut all = Vec::from(CONTENDERS.map(|contender| (contender, Seen::default())));
    for _ in 0..run.rounds.count.min(3) {
        let mut able = Vec::new();
        for (contender, mut seen) in all {
            run.process(contender).await?;
            match seen.note(flood, contender).await {
                Ok(()) => able.push((contender, seen)),
                Err(error) if contender.is_evenkeel() => return Err(error.context(flood.name)),
                Err(error) => eprintln!("{} is left out of {}: {error:#}", contender.name(), flood.name),
            }
        }
        all = able;
    }
    Ok(all)
}

impl Seen {
    async fn note(&mut self, flood: &'static Flood, contender: Contender) -> Result<()> {
        self.before.push(p99(contender).await?);
        let port = if flood.begins_with_http2() { contender.h2c() } else { contender.http() };
        let poured = tokio::task::spawn_blocking(move || flood.pour(port, TIME));
        self.meanwhile.push(p99(contender).await?);
        self.taken.push(f64::from(poured.await?) / TIME.as_secs_f64());
        Ok(())
    }
}

async fn p99(contender: Contender) -> Result<f64> {
    let pace = Pace { rate: OTHERS, time: TIME };
    Ok(Run::paced(contender.http(), pace).await?.value_at_quantile(0.99) as f64 / 1e3)
}

impl Flood {
    fn begins_with_http2(&self) -> bool {
        (self.begins)().starts_with(PREFACE)
    }

    /// Sends for so long. How many times something was taken. Blocks.
    fn pour(&self, port: u16, time: Duration) -> u32 {
        let began = Instant::now();
        let mut open = VecDeque::new();
        let mut taken = 0;
        for number in 0.. {
            let due = began + Duration::from_secs(1) / self.rate * number;
            if due >= began + time {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            taken += u32::from(self.send(port, &mut open));
        }
        taken
    }

    /// Sends once, on the connection on which nothing was sent for the longest time; whether it was taken.
    fn send(&self, port: u16, open: &mut VecDeque<Victim>) -> bool {
        let most = if self.connections == 0 { LEFT_OPEN } else { self.connections };
        let oldest = if open.len() < most { None } else { open.pop_front() };
        let victim = oldest.filter(|victim| self.connections > 0 && !victim.over);
        let Some(mut victim) = victim.or_else(|| Victim::open(port, &(self.begins)()).ok()) else {
            return false;
        };
        let taken = victim.send(&(self.again)(victim.times));
        open.push_back(victim);
        taken
    }
}

/// A connection that is flooded.
struct Victim {
    socket: TcpStream,
    /// How many times something was sent.
    times: u32,
    /// It was closed.
    over: bool,
    /// What the socket did not take at once.
    rest: Vec<u8>,
}

impl Victim {
    fn open(port: u16, begins: &[u8]) -> std::io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut victim = Self { socket, times: 0, over: false, rest: Vec::new() };
        victim.write(begins);
        Ok(victim)
    }

    /// Sends this, unless something is still waiting; whether it could.
    fn send(&mut self, bytes: &[u8]) -> bool {
        // What it is answered is of no interest.
        let mut answer = [0; 16 * 1024];
        while matches!(self.socket.read(&mut answer), Ok(read) if read > 0) {}
        let rest = std::mem::take(&mut self.rest);
        self.write(&rest);
        if !self.rest.is_empty() || self.over {
            return false;
        }
        self.times += 1;
        self.write(bytes);
        !self.over
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.rest = bytes.to_vec();
                    return;
                }
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_flood_opens_another_connection_when_one_was_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let flood = Flood {
            name: "",
            connections: 1,
            rate: 1_000,
            begins: || b"ab".to_vec(),
            again: |_| b"c".to_vec(),
        };
        let heard = std::thread::spawn(move || {
            [0; 2].map(|_| {
                let (mut socket, _) = listener.accept().unwrap();
                let mut heard = [0; 4];
                socket.read_exact(&mut heard).unwrap();
                heard
            })
        });
        flood.pour(port, Duration::from_millis(200));
        assert_eq!(heard.join().unwrap(), [*b"abcc"; 2]);
    }

    #[test]
    fn a_frame_has_its_length_first() {
        assert_eq!(frame(PING, 0, 0, &[7]), [0, 0, 1, PING, 0, 0, 0, 0, 0, 7]);
    }
}
