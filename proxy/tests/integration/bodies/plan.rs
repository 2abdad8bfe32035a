//! What both sides of an exchange do, by its number.

use std::sync::LazyLock;

use fastrand::Rng;

/// Bodies are parts of this.
static OCEAN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = Rng::with_seed(5);
    std::iter::repeat_with(|| rng.u8(..)).take(2 * 1024 * 1024).collect()
});

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    /// Only of an answer.
    UntilEnd,
}

/// Where a side resets its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    Never,
    /// After so many bytes of what it says.
    Saying(usize),
    /// After so many bytes of the body that it hears.
    Hearing(usize),
}

/// One side.
#[derive(Clone, Debug)]
pub struct Side {
    at: usize,
    length: usize,
    pub framing: Framing,
    pub breaks: Break,
    /// Decides where it is cut.
    pub seed: u64,
}

/// An exchange.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub method: &'static str,
    pub request: Side,
    pub answer: Side,
    /// The target answers without waiting for the request's body.
    pub eager: bool,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // POST is not tried again, PUT is.
        let method = if rng.bool() { "POST" } else { "PUT" };
        let (mut request, mut answer) = (Side::random(&mut rng), Side::random(&mut rng));
        let eager = rng.u8(..10) == 0;
        match rng.u8(..40) {
            0 => request.breaks = Break::Saying(rng.usize(..=request.length)),
            1 => request.breaks = Break::Hearing(rng.usize(..=answer.length)),
            2 => answer.breaks = Break::Saying(rng.usize(..=answer.length)),
            3 => answer.breaks = Break::Hearing(rng.usize(..=request.length)),
            4 => answer.framing = Framing::UntilEnd,
            5 => {
                answer.framing = Framing::UntilEnd;
                answer.breaks = Break::Saying(rng.usize(..=answer.length));
            }
            _ => {}
        }
        // Who answers before it breaks has not broken the exchange.
        let eager = eager && !matches!(answer.breaks, Break::Hearing(_));
        Self { seed, method, request, answer, eager }
    }

    /// Whether the client leaves before it has everything.
    pub fn client_breaks(&self) -> bool {
        self.request.breaks != Break::Never
    }

    /// Whether the target does.
    pub fn target_breaks(&self) -> bool {
        self.answer.breaks != Break::Never
    }
}

impl Side {
    fn random(rng: &mut Rng) -> Self {
        let most = match rng.u8(..100) {
            0..5 => 1,
            5..60 => 1_024,
            60..90 => 20_000,
            90..97 => 120_000,
            _ => 1_000_000,
        };
        Self {
            at: rng.usize(..1024 * 1024),
            length: rng.usize(..most),
            framing: if rng.bool() { Framing::Length } else { Framing::Chunked },
            breaks: Break::Never,
            seed: rng.u64(..),
        }
    }

    pub fn body(&self) -> &'static [u8] {
        &OCEAN[self.at..self.at + self.length]
    }

    /// Head and body as they are on the wire, and where it is cut.
    pub fn on_the_wire(&self, head: &str) -> (Vec<u8>, Vec<usize>) {
        let mut rng = Rng::with_seed(self.seed);
        let body = self.body();
        let framing = match self.framing {
            Framing::Length => format!("Content-Length: {}\r\n\r\n", body.len()),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            Framing::UntilEnd => "\r\n".to_owned(),
        };
        let mut bytes = [head, &framing].concat().into_bytes();
        if self.framing == Framing::Chunked {
            in_chunks(body, &mut rng, &mut bytes);
        } else {
            bytes.extend_from_slice(body);
        }
        let cuts = rng.usize(..6);
        let mut cuts: Vec<_> = std::iter::repeat_with(|| rng.usize(..bytes.len())).take(cuts).collect();
        cuts.sort_unstable();
        (bytes, cuts)
    }
}

fn in_chunks(mut body: &[u8], rng: &mut Rng, out: &mut Vec<u8>) {
    while !body.is_empty() {
        let most = [8, 1_000, body.len()][rng.usize(..3)].min(body.len());
        let least = body.len().div_ceil(100).min(most);
        let (chunk, rest) = body.split_at(rng.usize(least..=most));
        let extension = ["", ";n=1", ";a=\"b\""][rng.usize(..3)];
        out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        body = rest;
    }
    out.extend_from_slice(if rng.bool() { b"0\r\n\r\n" } else { b"0\r\nX-Sum: 1\r\n\r\n" });
}
