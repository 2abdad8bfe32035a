//! The client's connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::buffer::Buffer;
use super::pipe::Pipe;
use crate::metrics::ListenerMetrics;
use crate::sniff::is_readable;
use crate::stream::Connection;

/// A client, and what it has said that was not used yet.
#[derive(Debug)]
pub(super) struct Client {
    socket: TcpStream,
    pub(super) inbound: Buffer,
    pub(super) connection: Arc<Connection>,
    metrics: Arc<ListenerMetrics>,
    /// It will say nothing more.
    pub(super) ended: bool,
}

impl Client {
    /// At the other end of this socket.
    pub(super) fn new(socket: TcpStream, connection: Arc<Connection>, metrics: Arc<ListenerMetrics>) -> Self {
        Self { socket, inbound: Buffer::default(), connection, metrics, ended: false }
    }

    /// Reads more; 0 when the client has said everything, which is remembered, or when there is no room.
    #[inline]
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended || self.inbound.is_full() {
            return Poll::Ready(Ok(0));
        }
        let read = ready!(self.inbound.poll_fill(&mut self.socket, cx))?;
        self.ended = read == 0;
        self.connection.count_received(read, &self.metrics);
        Poll::Ready(Ok(read))
    }

    /// Whether the kernel has something of the client's that nobody here has heard of.
    pub(super) fn has_spoken(&self) -> bool {
        is_readable(&self.socket)
    }

    /// Writes some of these bytes.
    #[inline]
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.connection.count_sent(written, &self.metrics);
        Poll::Ready(Ok(written))
    }

    /// As [`Self::poll_read`], into this pipe: up to `most`.
    pub(super) fn poll_fill(
        &mut self,
        pipe: &mut Pipe,
        most: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = ready!(pipe.poll_fill(&self.socket, most, cx))?;
        self.ended = read == 0;
        self.connection.count_received(read, &self.metrics);
        Poll::Ready(Ok(read))
    }

    /// Writes some of what is in this pipe.
    pub(super) fn poll_drain(&mut self, pipe: &mut Pipe, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let written = ready!(pipe.poll_drain(&self.socket, cx))?;
        self.connection.count_sent(written, &self.metrics);
        Poll::Ready(Ok(written))
    }

    /// What is left when others go on with it: the socket, and what was read and not used.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.socket, self.inbound.bytes().to_vec())
    }

    /// Says that nothing more will come.
    pub(super) async fn finish(&mut self) {
        // The client may be gone already: there is nobody left to tell.
        let _ = self.socket.shutdown().await;
    }

    /// As [`Self::finish`], from where there is no waiting: shutting down a socket never does.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) {
        let _ = Pin::new(&mut self.socket).poll_shutdown(cx);
    }

    /// Lets the connection end with a reset, which nobody takes for a regular end.
    pub(super) fn break_off(&self) {
        // Without it the end is a regular one: no worse than not to have tried.
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO));
    }
}
