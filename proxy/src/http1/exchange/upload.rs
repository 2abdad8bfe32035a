//! The way up: the request's head and body, or what the client says in a tunnel.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::poll_write;
use crate::connect::be_patient;
use crate::errors::Reason;
use crate::http1::buffer::Scratch;
use crate::http1::client::Client;
use crate::http1::message::{Body, Framing, Refusal};
use crate::http1::pipe::{Bypass, Pipe};
use crate::record::Record;
use crate::retry::{self, MAX_KEPT_BODY};

/// A body up to this many bytes leaves in one packet with the head.
const GATHERED: usize = 8 * 1024;

/// A request on its way, over all attempts.
#[derive(Debug)]
pub(in crate::http1) struct Upload {
    /// The head and the beginning of the body: what can be sent again.
    kept: Scratch,
    body: Body,
    /// The first so many bytes that the client has sent are to be written next.
    ready: usize,
    /// The bytes behind those are passed over.
    gap: usize,
    /// For the middle of a large body.
    bypass: Bypass,
    /// Where the head ends in what is kept. Idle connections have room for an upload: it is small.
    head: u32,
    /// The body may have to be sent once more.
    keeping: bool,
    /// A part of the body was sent that is not kept.
    gone: bool,
    /// The target takes no more of it. It may still answer.
    stopped: bool,
    tunnel: Tunnel,
}

/// Whether this is a request, or whatever the client says until it has said everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tunnel {
    No,
    Open,
    /// The target was told that nothing more comes.
    Finished,
}

impl Upload {
    /// Of a request with this head, as the target gets it.
    pub(in crate::http1) fn new(head: Scratch, framing: Framing) -> Self {
        Self {
            head: head.len() as u32,
            kept: head,
            keeping: false,
            body: Body::new(framing),
            ready: 0,
            gap: 0,
            bypass: Bypass::default(),
            gone: false,
            stopped: false,
            tunnel: Tunnel::No,
        }
    }

    /// An attempt begins: everything is sent from its start. With `keeping`, it may have to be sent once more.
    pub(in crate::http1) fn begin(&mut self, keeping: bool) {
        self.kept.rewind();
        self.stopped = false;
        self.keeping = keeping;
    }

    /// Bytes of the body that are kept.
    fn body_kept(&self) -> usize {
        self.kept.len() - self.head as usize
    }

    /// The answer is that both sides may say what they like.
    pub(super) fn begin_tunnel(&mut self, target: &TcpStream) {
        be_patient(target);
        self.tunnel = Tunnel::Open;
        self.gone = true;
        self.body = Body::new(Framing::UntilEnd);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel != Tunnel::No
    }

    /// Whether nothing more is to be sent.
    pub(in crate::http1) fn is_over(&self) -> bool {
        self.stopped || (self.is_sent() && self.tunnel != Tunnel::Open)
    }

    /// Whether the target has got everything.
    pub(in crate::http1) fn is_sent(&self) -> bool {
        self.body.is_done() && !self.is_blocked() && !self.stopped
    }

    /// Whether the target is the one that is waited for.
    pub(super) fn is_blocked(&self) -> bool {
        !self.kept.unsent().is_empty() || self.ready > 0 || !self.bypass.is_empty()
    }

    /// What the attempts so far have left of the body.
    pub(in crate::http1) fn left(&self) -> retry::Body {
        if self.gone {
            retry::Body::Gone
        } else if self.body_kept() == 0 {
            retry::Body::Untouched
        } else {
            retry::Body::Kept
        }
    }

    /// The rest of the body, for whoever wants to read over it. Some of it may have been looked at already.
    pub(in crate::http1) fn rest(&mut self, client: &mut Client) -> Body {
        client.inbound.consume(std::mem::take(&mut self.ready) + std::mem::take(&mut self.gap));
        std::mem::replace(&mut self.body, Body::Done)
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
            self.look(client, target, record)?;
            let step = if self.is_blocked() {
                self.poll_send(client, target, cx)
            } else if self.body.is_done() {
                self.tunnel = Tunnel::Finished;
                // Shutting down a socket never waits.
                let _ = Pin::new(&mut *target).poll_shutdown(cx);
                Poll::Ready(Ok(()))
            } else {
                self.poll_receive(client, record, cx)
            };
            match step {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(reason)) => return Err(reason),
                Poll::Pending => break,
            }
        }
        Ok(moved)
    }

    /// Looks at what the client has sent of the body: it is kept as long as there is room, and then passed on from where
    /// it is.
    fn look(&mut self, client: &mut Client, target: &TcpStream, record: &mut Record) -> Result<(), Reason> {
        if self.ready > 0 || self.body.is_done() || client.inbound.is_empty() {
            return Ok(());
        }
        let passed = self.body.pass(client.inbound.bytes_mut()).map_err(Refusal::reason)?;
        record.receive(passed.content)?;
        let most = if self.keeping { MAX_KEPT_BODY } else { GATHERED };
        if !self.gone && self.body_kept() + passed.kept > most {
            self.gone = true;
            be_patient(target);
        }
        if self.gone && passed.kept > 0 {
            self.ready = passed.kept;
            self.gap = passed.taken - passed.kept;
        } else {
            let bytes = client.inbound.bytes().get(..passed.kept).unwrap_or_default();
            self.kept.end().extend_from_slice(bytes);
            client.inbound.consume(passed.taken);
        }
        Ok(())
    }

    /// A target that takes no more may have answered already: what went wrong shows when its answer is read.
    fn poll_send(
        &mut self,
        client: &mut Client,
        target: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Reason>> {
        if let Some(pipe) = self.bypass.loaded() {
            let drained = ready!(pipe.poll_drain(target, cx));
            self.stopped |= drained.is_err();
            return Poll::Ready(Ok(()));
        }
        let kept = self.kept.unsent();
        let from_client = kept.is_empty();
        let bytes =
            if from_client { client.inbound.bytes().get(..self.ready).unwrap_or_default() } else { kept };
        match poll_write(target, cx, bytes) {
            Poll::Ready(Ok(written)) if from_client => self.sent(client, written),
            Poll::Ready(Ok(written)) => self.kept.advance(written),
            Poll::Ready(Err(_)) => self.stopped = true,
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    fn sent(&mut self, client: &mut Client, written: usize) {
        self.ready -= written;
        client.inbound.consume(written);
        if self.ready == 0 {
            client.inbound.consume(std::mem::take(&mut self.gap));
        }
    }

    fn poll_receive(
        &mut self,
        client: &mut Client,
        record: &mut Record,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Reason>> {
        let received = if let Some((pipe, body, most)) = self.unseen(client) {
            let received = ready!(client.poll_fill(pipe, most, cx));
            let count = *received.as_ref().unwrap_or(&0);
            body.pass_unseen(count);
            record.receive(count as u64)?;
            received
        } else {
            client.inbound.widen();
            ready!(client.poll_read(cx))
        };
        Poll::Ready(match received {
            Ok(0) if self.body.end() => Ok(()),
            Ok(0) | Err(_) => Err(Reason::ClientClosed),
            Ok(_) => Ok(()),
        })
    }

    /// The way of the middle of a large body, the body, and how much of it may go there.
    fn unseen(&mut self, client: &mut Client) -> Option<(&mut Pipe, &mut Body, u64)> {
        let most = self.body.unseen().filter(|_| self.gone && client.inbound.is_empty())?;
        client.inbound.release();
        Some((self.bypass.pipe()?, &mut self.body, most))
    }
}
