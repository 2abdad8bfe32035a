//! The way down: the answer's heads and body, or what the target says in a tunnel.

use std::task::{Context, Poll};

use tokio::net::TcpStream;

use crate::errors::Reason;
use crate::http1::buffer::{Buffer, Scratch};
use crate::http1::client::Client;
use crate::http1::message::{Asked, Body, Fields, Framing, HeadScan, ResponseHead, Version, rewrite};
use crate::http1::pipe::{Bypass, Pipe};
use crate::record::Record;

/// The beginning of a body leaves in one packet with the head, if both are not longer.
const GATHERED: usize = 16 * 1024;

/// What the answer must be like.
#[derive(Clone, Copy, Debug)]
pub(in crate::http1) struct Terms {
    pub(in crate::http1) asked: Asked,
    /// What the client speaks.
    pub(in crate::http1) version: Version,
    /// The client waits to be asked for its body.
    pub(in crate::http1) expects_continue: bool,
    /// The client's connection is to go on.
    pub(in crate::http1) keep_alive: bool,
}

/// An answer on its way.
#[derive(Debug)]
pub(in crate::http1) struct Download {
    terms: Terms,
    /// What the target has said and was not used yet.
    answer: Buffer,
    /// Heads for the client, and the beginning of the body.
    reply: Scratch,
    state: State,
    /// The first so many bytes of the answer are to be written next.
    ready: usize,
    /// The bytes behind those are passed over.
    gap: usize,
    /// For the middle of a large body.
    bypass: Bypass,
    /// A head has come.
    begun: bool,
    /// The client has got a part of the last head.
    told: bool,
    keeps: Keeps,
}

/// The connections that can take another request after this one.
#[derive(Clone, Copy, Debug, Default)]
struct Keeps {
    target: bool,
    client: bool,
}

#[derive(Debug)]
enum State {
    Head(HeadScan),
    Body { body: Body, framing: Framing },
    Tunnel { ended: bool, finished: bool },
}

impl Download {
    /// An answer of which nothing has come.
    pub(in crate::http1) fn new(terms: Terms) -> Self {
        Self {
            terms,
            answer: Buffer::default(),
            reply: Scratch::take(),
            state: State::Head(HeadScan::response()),
            ready: 0,
            gap: 0,
            bypass: Bypass::default(),
            begun: false,
            told: false,
            keeps: Keeps::default(),
        }
    }

    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self.state, State::Tunnel { .. })
    }

    /// Whether the client has got everything.
    pub(super) fn is_over(&self) -> bool {
        let complete = match &self.state {
            State::Head(_) => false,
            State::Body { body, .. } => body.is_done(),
            State::Tunnel { finished, .. } => *finished,
        };
        complete && !self.is_blocked()
    }

    /// Whether the client is the one that is waited for.
    pub(super) fn is_blocked(&self) -> bool {
        !self.reply.unsent().is_empty() || self.ready > 0 || !self.bypass.is_empty()
    }

    /// Whether a part of the answer has come: a whole head, be it an informational one.
    pub(in crate::http1) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the client has, or may have, got a part of the last head: then there can be no other.
    pub(in crate::http1) fn is_told(&self) -> bool {
        self.told || self.reply.is_begun()
    }

    /// The client is not waiting to be asked for its body: it has sent it.
    pub(super) fn has_request(&mut self) {
        self.terms.expects_continue = false;
    }

    /// Whether the target's connection can take another request: it has said all of its answer and nothing more.
    pub(in crate::http1) fn is_reusable(&self) -> bool {
        self.keeps.target && self.answer.is_empty() && self.is_over()
    }

    /// Whether the client's connection can take another request.
    pub(in crate::http1) fn keeps_client(&self) -> bool {
        self.keeps.client
    }

    /// Whether an end of the connection would be taken for the end of the answer.
    pub(in crate::http1) fn ends_with_connection(&self) -> bool {
        match self.state {
            State::Body { framing: Framing::UntilEnd, .. } => true,
            State::Body { framing: Framing::Chunked, .. } => self.terms.version == Version::Http10,
            State::Head(_) | State::Body { .. } | State::Tunnel { .. } => false,
        }
    }

    /// Goes on as far as it goes; whether that was anywhere.
    pub(super) fn poll(
        &mut self,
        client: &mut Client,
        target: &mut TcpStream,
        record: &mut Record,
        cx: &mut Context<'_>,
    ) -> Result<bool, Reason> {
        let mut moved = false;
        while !self.is_over() {
            self.look(record)?;
            let step = if self.is_blocked() {
                self.poll_send(client, cx)
            } else if self.is_over() {
                break;
            } else if let State::Tunnel { ended: true, finished } = &mut self.state {
                *finished = true;
                client.poll_finish(cx);
                Poll::Ready(Ok(()))
            } else {
                self.poll_receive(target, record, cx)
            };
            match step {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(reason)) => return Err(reason),
                Poll::Pending => break,
            }
        }
        Ok(moved)
    }

    /// Looks at what the target has sent, as long as it is gathered.
    fn look(&mut self, record: &mut Record) -> Result<(), Reason> {
        while self.ready == 0 && !self.answer.is_empty() && self.reply.len() < GATHERED {
            let looked = match &mut self.state {
                State::Head(_) => self.look_at_head(record)?,
                State::Body { body, .. } if body.is_done() => false,
                State::Body { body, .. } => {
                    let passed = body.pass(self.answer.bytes_mut()).map_err(|_| Reason::BadResponse)?;
                    record.sent_bytes += passed.content;
                    (self.ready, self.gap) = (passed.kept, passed.taken - passed.kept);
                    self.gather();
                    passed.taken > 0
                }
                State::Tunnel { .. } => {
                    self.ready = self.answer.bytes().len();
                    record.sent_bytes += self.ready as u64;
                    self.gather();
                    true
                }
            };
            if !looked {
                break;
            }
        }
        Ok(())
    }

    /// Puts what is ready behind a head that waits to be sent, if it is not too much.
    fn gather(&mut self) {
        let waits = !self.reply.unsent().is_empty() && self.reply.len() + self.ready <= GATHERED;
        if waits || self.ready == 0 {
            let bytes = self.answer.bytes().get(..self.ready).unwrap_or_default();
            self.reply.end().extend_from_slice(bytes);
            self.answer.consume(self.ready + self.gap);
            (self.ready, self.gap) = (0, 0);
        }
    }

    /// Whether there was a whole head.
    fn look_at_head(&mut self, record: &mut Record) -> Result<bool, Reason> {
        let State::Head(scan) = &mut self.state else { return Ok(false) };
        let length = scan.find(self.answer.bytes()).map_err(|_| Reason::BadResponse)?;
        let Some(length) = length else { return Ok(false) };
        let mut room = Fields::room();
        let bytes = self.answer.bytes().get(..length).unwrap_or_default();
        let head = ResponseHead::parse(bytes, self.terms.asked, &mut room).map_err(|refusal| {
            tracing::debug!(%refusal, "a target's answer is not passed on");
            Reason::BadResponse
        })?;
        self.state = if head.is_interim() {
            if self.terms.version == Version::Http11 {
                let client = rewrite::Client { keep_alive: true, version: self.terms.version };
                rewrite::response(&head, client, self.reply.end());
                self.terms.expects_continue &= head.status != 100;
            }
            State::Head(HeadScan::response())
        } else {
            record.answered(head.status);
            let keeps = self.terms.keeps_after(&head);
            self.keeps = Keeps { target: head.keep_alive && !head.is_switch(), client: keeps };
            let client = rewrite::Client { keep_alive: keeps, version: self.terms.version };
            rewrite::response(&head, client, self.reply.end());
            self.terms.next_state(&head)
        };
        self.begun = true;
        self.answer.consume(length);
        Ok(true)
    }

    fn poll_send(&mut self, client: &mut Client, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        if let Some(pipe) = self.bypass.loaded() {
            return client.poll_drain(pipe, cx).map_ok(drop).map_err(|_| Reason::ClientClosed);
        }
        let reply = self.reply.unsent();
        let from_target = reply.is_empty();
        let bytes =
            if from_target { self.answer.bytes().get(..self.ready).unwrap_or_default() } else { reply };
        match client.poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) if from_target => self.sent(written),
            Poll::Ready(Ok(written)) => self.reply.advance_and_forget(written),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::ClientClosed)),
            Poll::Pending => return Poll::Pending,
        }
        self.told = !matches!(self.state, State::Head(_));
        Poll::Ready(Ok(()))
    }

    fn sent(&mut self, written: usize) {
        self.ready -= written;
        self.answer.consume(written);
        if self.ready == 0 {
            self.answer.consume(std::mem::take(&mut self.gap));
        }
    }

    fn poll_receive(
        &mut self,
        target: &mut TcpStream,
        record: &mut Record,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Reason>> {
        if self.answer.is_full() {
            return Poll::Ready(Err(Reason::BadResponse));
        }
        let received = if let Some((pipe, body, most)) = self.unseen() {
            pipe.poll_fill(target, most, cx).map_ok(|count| {
                body.pass_unseen(count);
                record.sent_bytes += count as u64;
                count
            })
        } else {
            self.answer.widen();
            self.answer.poll_fill(target, cx)
        };
        match received {
            Poll::Ready(Ok(0)) => Poll::Ready(self.end()),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(Reason::TargetClosed)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The way of the middle of a large body, the body, and how much of it may go there.
    fn unseen(&mut self) -> Option<(&mut Pipe, &mut Body, u64)> {
        let State::Body { body, .. } = &mut self.state else { return None };
        let most = body.unseen().filter(|_| self.answer.is_empty())?;
        self.answer.release();
        Some((self.bypass.pipe()?, body, most))
    }

    /// The target has said everything.
    fn end(&mut self) -> Result<(), Reason> {
        let complete = match &mut self.state {
            State::Head(_) => false,
            State::Body { body, .. } => body.end(),
            State::Tunnel { ended, .. } => {
                *ended = true;
                true
            }
        };
        if complete { Ok(()) } else { Err(Reason::TargetClosed) }
    }
}

impl Terms {
    /// Whether the client's connection goes on after this answer.
    fn keeps_after(self, head: &ResponseHead<'_, '_>) -> bool {
        let ends_itself = match head.framing {
            Framing::UntilEnd => false,
            Framing::Chunked => self.version == Version::Http11,
            Framing::None | Framing::Length(_) => true,
        };
        // A client that was never asked for its body may or may not send it.
        self.keep_alive && ends_itself && !self.expects_continue && !head.is_switch()
    }

    fn next_state(self, head: &ResponseHead<'_, '_>) -> State {
        let framing = head.framing;
        match self.version {
            _ if head.is_switch() => State::Tunnel { ended: false, finished: false },
            Version::Http11 => State::Body { body: Body::new(framing), framing },
            Version::Http10 => State::Body { body: Body::content_of(framing), framing },
        }
    }
}
