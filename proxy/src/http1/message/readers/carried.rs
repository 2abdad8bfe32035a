//! What becomes of bytes here, as the carrier does it: heads are rewritten, bodies passed on.

use super::Message;
use crate::errors::MAX_HEAD;
use crate::headers::Origin;
use crate::http1::message::Version;
use crate::http1::message::fields::Fields;
use crate::http1::message::framing::{Body, Framing};
use crate::http1::message::refusal::Refusal;
use crate::http1::message::request::RequestHead;
use crate::http1::message::response::{Asked, ResponseHead};
use crate::http1::message::rewrite::{self, Client};
use crate::http1::message::scan::{HeadScan, empty_lines};

/// What was passed on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) out: Vec<u8>,
    /// Where each message begins therein, and what it is.
    pub(super) meant: Vec<(usize, Message)>,
    /// At the end something was not passed on.
    pub(super) refused: bool,
}

/// Bytes under way.
pub(super) struct Carry {
    side: Side,
    carried: Carried,
    buffer: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    /// To what was asked for, by a client of this version.
    Target(Asked, Version),
}

enum State {
    Head(HeadScan),
    /// As it is passed on, and what it says.
    Body {
        passed: Body,
        content: Body,
    },
    Over,
}

/// Why it does not go on.
enum Stop {
    Refused,
    /// What is written is not what was read.
    Wrong(String),
}

impl From<Refusal> for Stop {
    fn from(_: Refusal) -> Self {
        Self::Refused
    }
}

impl Carry {
    /// Requests, one after another.
    pub(super) fn requests() -> Self {
        Self::new(Side::Client)
    }

    /// One answer, and what the target says before it.
    pub(super) fn answer(asked: Asked, version: Version) -> Self {
        Self::new(Side::Target(asked, version))
    }

    fn new(side: Side) -> Self {
        Self { side, carried: Carried::default(), buffer: Vec::new(), state: State::Head(side.scan()) }
    }

    /// Carries bytes that come in pieces of this length, and end. An error says what is written that was not read.
    pub(super) fn all(mut self, bytes: &[u8], piece: usize) -> Result<Carried, String> {
        for piece in bytes.chunks(piece) {
            self.buffer.extend_from_slice(piece);
            match self.go_on() {
                Ok(()) => {}
                Err(Stop::Refused) => {
                    self.carried.refused = true;
                    return Ok(self.carried);
                }
                Err(Stop::Wrong(problem)) => return Err(problem),
            }
        }
        if let (State::Body { content, .. }, Some((_, message))) =
            (&mut self.state, self.carried.meant.last_mut())
        {
            message.whole = content.end();
        }
        Ok(self.carried)
    }

    fn go_on(&mut self) -> Result<(), Stop> {
        loop {
            let moved = match &self.state {
                State::Over => false,
                State::Head(_) => self.head()?,
                State::Body { .. } => self.body()?,
            };
            if !moved {
                return Ok(());
            }
        }
    }

    fn head(&mut self) -> Result<bool, Stop> {
        let State::Head(scan) = &mut self.state else { return Ok(false) };
        if matches!(self.side, Side::Client) {
            let skipped = empty_lines(&self.buffer);
            if skipped > 0 {
                self.buffer.drain(..skipped);
                *scan = self.side.scan();
            }
        }
        let Some(length) = scan.find(&self.buffer)? else { return Ok(false) };
        let head: Vec<u8> = self.buffer.drain(..length).collect();
        match self.side {
            Side::Client => self.request(&head)?,
            Side::Target(asked, version) => self.response(&head, asked, version)?,
        }
        Ok(true)
    }

    fn request(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut room = Fields::room();
        let head = RequestHead::parse(bytes, &mut room)?;
        let begin = self.carried.out.len();
        rewrite::request(&head, &origin(), &mut self.carried.out);
        let mut message = written(self.carried.out.get(begin..).unwrap_or_default())?;
        let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
        message.first = format!("{} {}{query}", head.method, head.path());
        check(&message, head.framing, head.fields)?;
        if message.values("host").len() != 1 {
            return Err(Stop::Wrong(format!("not one host: {message:?}")));
        }
        self.carried.meant.push((begin, message));
        self.state = State::Body { passed: Body::new(head.framing), content: Body::content_of(head.framing) };
        Ok(())
    }

    fn response(&mut self, bytes: &[u8], asked: Asked, version: Version) -> Result<(), Stop> {
        let mut room = Fields::room();
        let head = ResponseHead::parse(bytes, asked, &mut room)?;
        let begin = self.carried.out.len();
        let current = version == Version::Http11;
        if head.is_interim() {
            if current {
                let client = Client { keep_alive: true, version };
                rewrite::response(&head, client, &mut self.carried.out);
            }
            self.state = State::Head(self.side.scan());
            return Ok(());
        }
        let ends_itself = match head.framing {
            Framing::None | Framing::Length(_) => true,
            Framing::Chunked => current,
            Framing::UntilEnd => false,
        };
        let client = Client { keep_alive: ends_itself, version };
        rewrite::response(&head, client, &mut self.carried.out);
        let mut message = written(self.carried.out.get(begin..).unwrap_or_default())?;
        message.first = head.status.to_string();
        message.until_end = !ends_itself || head.is_switch();
        if !head.is_switch() && ends_itself && head.framing != Framing::None {
            check(&message, head.framing, head.fields)?;
        }
        // Who asks reads from the beginning: over hints, to the answer.
        self.carried.meant.push((0, message));
        let content = Body::content_of(head.framing);
        let passed = if current { Body::new(head.framing) } else { content.clone() };
        self.state = if head.is_switch() { State::Over } else { State::Body { passed, content } };
        Ok(())
    }

    fn body(&mut self) -> Result<bool, Stop> {
        let State::Body { passed, content } = &mut self.state else { return Ok(false) };
        let Some((_, message)) = self.carried.meant.last_mut() else { return Ok(false) };
        if passed.is_done() {
            message.whole = true;
            let more = matches!(self.side, Side::Client);
            self.state = if more { State::Head(self.side.scan()) } else { State::Over };
            return Ok(true);
        }
        let mut copy = self.buffer.clone();
        let said = content.pass(&mut copy)?;
        message.body.extend_from_slice(copy.get(..said.kept).unwrap_or_default());
        let passed = passed.pass(&mut self.buffer)?;
        self.carried.out.extend_from_slice(self.buffer.get(..passed.kept).unwrap_or_default());
        self.buffer.drain(..passed.taken);
        Ok(passed.taken > 0)
    }
}

impl Side {
    fn scan(self) -> HeadScan {
        match self {
            Self::Client => HeadScan::request(MAX_HEAD),
            Self::Target(..) => HeadScan::response(),
        }
    }
}

fn origin() -> Origin {
    Origin::new(std::net::Ipv4Addr::LOCALHOST.into(), 80)
}

/// The fields of a head that was written.
fn written(head: &[u8]) -> Result<Message, Stop> {
    let wrong =
        |problem: &dyn std::fmt::Debug| Stop::Wrong(format!("{problem:?} in {}", head.escape_ascii()));
    let line = memchr::memchr(b'\n', head).ok_or_else(|| wrong(&"no line"))?;
    let mut room = [httparse::EMPTY_HEADER; 512];
    let fields = head.get(line + 1..).unwrap_or_default();
    let mut message = Message::default();
    match httparse::parse_headers(fields, &mut room) {
        Ok(httparse::Status::Complete((length, found))) if length == fields.len() => {
            for field in found {
                message.add(field.name, field.value);
            }
            Ok(message)
        }
        other => Err(wrong(&other)),
    }
}

/// Whether the framing that is written is the one that was read, and every field is one that was read or is known.
fn check(written: &Message, framing: Framing, read: &[httparse::Header<'_>]) -> Result<(), Stop> {
    let (lengths, codings) = (written.values("content-length"), written.values("transfer-encoding"));
    let framed = match (framing, lengths, codings) {
        (Framing::None, [], []) => true,
        (Framing::Length(length), [said], []) => said.parse() == Ok(length),
        (Framing::Chunked, [], [coding]) => coding == "chunked",
        _ => false,
    };
    let own = |name: &str| {
        ["host", "connection", "upgrade", "content-length", "transfer-encoding"].contains(&name)
            || name.starts_with("x-forwarded-")
    };
    let was_read = |name: &str, value: &str| {
        let is = |field: &httparse::Header<'_>| field.value.escape_ascii().to_string() == value;
        read.iter().any(|field| field.name.eq_ignore_ascii_case(name) && is(field))
    };
    let known = written
        .fields
        .iter()
        .all(|(name, values)| own(name) || values.iter().all(|value| was_read(name, value)));
    if framed && known { Ok(()) } else { Err(Stop::Wrong(format!("{written:#?} of {framing:?}, {read:?}"))) }
}
