//! Bytes between two sockets, in both directions. A direction in which nothing is under way holds no memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::http1::buffer::Buffer;
use crate::metrics::ListenerMetrics;
use crate::stream::Connection;

/// A client and its target.
pub(super) struct Relay<'r> {
    client: TcpStream,
    target: TcpStream,
    up: Direction,
    down: Direction,
    connection: &'r Connection,
    metrics: &'r ListenerMetrics,
}

/// One direction.
#[derive(Default)]
struct Direction {
    /// Read and not yet written.
    bytes: Buffer,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Everything was read.
    Ended,
    /// The other side was told so.
    Over,
}

impl<'r> Relay<'r> {
    /// Between these two.
    pub(super) fn new(
        client: TcpStream,
        target: TcpStream,
        connection: &'r Connection,
        metrics: &'r ListenerMetrics,
    ) -> Self {
        Self { client, target, up: Direction::default(), down: Direction::default(), connection, metrics }
    }

    /// Goes on as far as it goes. Ready when both directions are over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { client, target, up, down, connection, metrics } = self;
        let up_ends = up.poll(client, target, cx, |read, _| connection.count_received(read, metrics))?;
        let down_ends = down.poll(target, client, cx, |_, sent| connection.count_sent(sent, metrics))?;
        if up_ends.is_ready() && down_ends.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Direction {
    /// Goes on as far as it goes; `count` is told how much was read, and sent, in each step. Ready when the end was passed on.
    fn poll(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        cx: &mut Context<'_>,
        count: impl Fn(usize, usize),
    ) -> Poll<io::Result<()>> {
        while self.state != State::Over {
            while !self.bytes.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, self.bytes.bytes()))?;
                self.bytes.consume(written);
                count(0, written);
            }
            if self.state == State::Ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.state = State::Over;
                break;
            }
            self.bytes.widen();
            match self.bytes.poll_fill(from, cx)? {
                Poll::Ready(0) => self.state = State::Ended,
                Poll::Ready(more) => count(more, 0),
                Poll::Pending => {
                    self.bytes.release();
                    return Poll::Pending;
                }
            }
        }
        self.bytes.release();
        Poll::Ready(Ok(()))
    }
}
