//! Clients that send one kind of frame without end, and read nothing: each is cut off, or held up, or costs nothing; the
//! proxy's memory has bounds; and others are served meanwhile.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{DATA, END, END_HEADERS, GET, HEADERS, PING, POST, PREFACE, SETTINGS, frame};
use crate::client::get;
use crate::harness::{PATIENCE, forwarding, local, target};
use crate::process::Process;
use crate::target::Target;

const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// A flood is over when so many bytes were taken.
const MOST: usize = 8 * 1024 * 1024;
/// Nothing is taken for so long: the flood is held up.
const HELD_UP: Duration = Duration::from_secs(1);
/// More memory than this is too much for what one connection can cause.
const MEMORY: u64 = 16 * 1024 * 1024;

struct Flood {
    name: &'static str,
    /// Frames that come first.
    begins: fn() -> Vec<u8>,
    /// Those that come again and again, the number of times before given.
    goes_on: fn(u32) -> Vec<u8>,
    /// The connection must end. Others may as well be held up, since their answers are not taken, or just be read.
    must_end: bool,
}

/// Streams of a client are odd.
fn stream(number: u32) -> u32 {
    (2 * number + 1) & 0x7fff_ffff
}

/// A request without an end, and a field that is remembered: 4,000 bytes that a byte stands for.
fn large_and_remembered() -> Vec<u8> {
    // A literal with a new name, length 4,000 in HPACK's integers: 127 + 33 + 30 * 128.
    let field = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4_000]].concat();
    frame(HEADERS, END, 1, &[GET, &field].concat())
}

const FLOODS: &[Flood] = &[
    Flood {
        name: "CONTINUATION of a head that does not end",
        begins: || frame(HEADERS, 0x1, 1, GET),
        goes_on: |_| frame(CONTINUATION, 0, 1, &[0x82; 1_024]),
        must_end: true,
    },
    Flood {
        name: "empty CONTINUATION",
        begins: || frame(HEADERS, 0x1, 1, GET),
        goes_on: |_| frame(CONTINUATION, 0, 1, &[]),
        must_end: true,
    },
    Flood { name: "SETTINGS", begins: Vec::new, goes_on: |_| frame(SETTINGS, 0, 0, &[]), must_end: false },
    Flood {
        name: "SETTINGS that change the table of fields",
        begins: Vec::new,
        goes_on: |number| frame(SETTINGS, 0, 0, &[0, 1, 0, 0, (number % 16) as u8, 0]),
        must_end: false,
    },
    Flood { name: "PING", begins: Vec::new, goes_on: |_| frame(PING, 0, 0, &[0; 8]), must_end: false },
    Flood {
        name: "empty DATA",
        begins: || frame(HEADERS, END_HEADERS, 1, POST),
        goes_on: |_| frame(DATA, 0, 1, &[]),
        must_end: true,
    },
    Flood {
        name: "DATA of padding",
        begins: || frame(HEADERS, END_HEADERS, 1, POST),
        goes_on: |_| frame(DATA, 0x8, 1, &[200; 201]),
        must_end: true,
    },
    Flood {
        name: "PRIORITY",
        begins: Vec::new,
        goes_on: |number| frame(PRIORITY, 0, stream(number), &[0, 0, 0, 0, 1]),
        must_end: false,
    },
    Flood {
        name: "windows that grow by a byte",
        begins: || frame(HEADERS, END_HEADERS, 1, POST),
        goes_on: |_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        must_end: false,
    },
    Flood {
        name: "requests that are taken back",
        begins: Vec::new,
        goes_on: |number| {
            let stream = stream(number);
            [frame(HEADERS, END, stream, GET), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        },
        must_end: true,
    },
    Flood {
        name: "requests that the server has to take back",
        begins: Vec::new,
        goes_on: |number| {
            let stream = stream(number);
            [frame(HEADERS, END, stream, GET), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        },
        must_end: true,
    },
    Flood {
        name: "more requests at a time than there may be",
        begins: Vec::new,
        goes_on: |number| frame(HEADERS, END_HEADERS, stream(number), POST),
        must_end: true,
    },
    Flood {
        name: "heads that are short on the wire and long when they are read",
        begins: large_and_remembered,
        goes_on: |number| frame(HEADERS, END, stream(number + 1), &[GET, &[0xbe; 16_000]].concat()),
        must_end: false,
    },
    Flood {
        name: "frames of an unknown kind",
        begins: Vec::new,
        goes_on: |_| frame(0xee, 0, 0, &[0; 1_000]),
        must_end: false,
    },
];

impl Flood {
    /// Whether the connection was ended.
    async fn play(&self, port: u16) -> (bool, TcpStream) {
        let mut socket = TcpStream::connect(local(port)).await.expect("a connection");
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &(self.begins)()].concat();
        let (mut taken, mut number) = (0, 0);
        loop {
            while bytes.len() < 64 * 1024 {
                bytes.extend((self.goes_on)(number));
                number += 1;
            }
            match tokio::time::timeout(HELD_UP, socket.write_all(&bytes)).await {
                Err(_) => return (false, socket),
                Ok(Err(_)) => return (true, socket),
                Ok(Ok(())) => taken += bytes.len(),
            }
            if taken > MOST {
                return (false, socket);
            }
            bytes.clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_costs_others_nothing() {
    let alive = Target::saying("alive").await;
    let id = alive.port.to_string();
    let process = Process::start(|port| forwarding(port, &[target(&id, alive.port)]), &[]).await;
    let port = process.port;
    let served = || async move {
        while get(local(port), "/").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served()).await.expect("the target is healthy");
    let mut wrong = Vec::new();
    for flood in FLOODS {
        let before = process.memory();
        let others = async {
            for _ in 0..20 {
                assert_eq!(get(local(port), "/").await.text(), "alive", "{}", flood.name);
            }
        };
        let ((ended, socket), ()) = tokio::join!(flood.play(port), others);
        let grown = process.memory().saturating_sub(before);
        if (flood.must_end && !ended) || grown > MEMORY {
            wrong.push(format!("{}: ended {ended}, {} KiB more", flood.name, grown / 1_024));
        }
        drop(socket);
    }
    let ended = |answer: &crate::client::Answer| {
        answer.text().contains(r#"evenkeel_proxy_connections{listener="web"} 0"#)
    };
    process.until("no connection is left", "/metrics", ended).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
